"""DE-24: scaling and encoding learn from training rows alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from training.preprocessing import UNKNOWN, PreprocessingError, Preprocessor

TRAIN = pa.table(
    {
        "age": [1.0, 3.0, None, 5.0],
        "flag": [True, False, True, False],
        "flat": [0.1, 0.1, 0.1, 0.1],
        "empty": pa.array([None] * 4, pa.float64()),
        "topic": ["b", "a", None, "b"],
    }
)
NUMBERS = ("age", "flag", "flat", "empty")


def fitted() -> Preprocessor:
    return Preprocessor.fit(TRAIN, numbers=NUMBERS, categories=["topic"])


def test_training_rows_have_mean_0_and_deviation_1():
    found = fitted().transform(TRAIN)
    age, flag = found.numbers_RM[:, 0], found.numbers_RM[:, 1]
    assert age == pytest.approx([-np.sqrt(1.5), 0, 0, np.sqrt(1.5)])
    assert flag.tolist() == [1.0, -1.0, 1.0, -1.0]
    assert found.missing_RM[:, 0].tolist() == [False, False, True, False]
    assert found.codes_RC[:, 0].tolist() == [2, 1, UNKNOWN, 2]


def test_columns_without_spread_become_zero_and_never_nan():
    found = fitted().transform(TRAIN)
    assert found.numbers_RM[:, 2:].tolist() == [[0.0, 0.0]] * 4
    assert found.missing_RM[:, 3].all()


def test_later_rows_use_the_training_rows_statistics():
    later = pa.table(
        {
            "age": [3.0, 13.0, float("inf")], "flag": [True, True, None], "flat": [0.1, 1.1, 0.1],
            "empty": [1.0, None, float("nan")], "topic": ["c", "a", None],
        }
    )  # fmt: skip
    one = fitted()
    found = one.transform(later)
    assert found.numbers_RM[:, 0] == pytest.approx([0.0, 10 / np.sqrt(8 / 3), 0.0])
    # Its own mean would make it 0.
    assert found.numbers_RM[:, 0].mean() > 1
    assert found.numbers_RM[:, 2] == pytest.approx([0.0, 1.0, 0.0])
    assert np.isfinite(found.numbers_RM).all()
    assert found.missing_RM[:, 0].tolist() == [False, False, True]
    # `c` was not among the training rows.
    assert found.codes_RC[:, 0].tolist() == [UNKNOWN, 1, UNKNOWN]
    assert one.vocabularies == (("a", "b"),)
    # The order of the training rows does not matter.
    other = Preprocessor.fit(TRAIN.take([3, 1, 0, 2]), numbers=NUMBERS, categories=["topic"])
    assert np.allclose(other.mean_M, one.mean_M)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (["agee"], "There is no column agee. There are: age, flag, flat, empty, topic."),
        (["topic"], "Column topic holds string, not numbers; list it under categories."),
    ],
)
def test_what_cannot_be_fitted(numbers, message):
    with pytest.raises(PreprocessingError) as error:
        Preprocessor.fit(TRAIN, numbers=numbers)
    assert str(error.value) == message
