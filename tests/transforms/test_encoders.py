"""The sentence encoder that comes with Sextant: cut, pooled and batched as its users expect."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from transforms.encoders import SHIPPED, EncoderError, SentenceEncoder, load_encoder

pytestmark = pytest.mark.slow
"""Loading it takes longer than all that is asked of it."""


def encode(*texts: str) -> np.ndarray:
    return load_encoder(SHIPPED).encode(list(texts))


def test_likeness_of_meaning():
    one, other, third = encode("A cat sleeps.", "A kitten naps.", "Interest rates rose again.")
    assert one.shape == (384,)
    assert one @ other > 0.5 > one @ third


def test_a_long_text_is_that_of_its_head():
    """FE-33."""
    head = "the quick brown fox jumps over the lazy dog " * 60
    np.testing.assert_allclose(*encode(head, head + "and more " * 5000), atol=1e-5)


def test_company_does_not_change_a_vector():
    """FE-34, FE-35: padding is not averaged in, and a batch is as good as one by one."""
    texts = [f"{'word ' * number}end" for number in (1, 40, 200)] * 20
    together = encode(*texts)
    alone = np.concatenate([encode(text) for text in texts[:3]])
    np.testing.assert_allclose(together[:3], alone, atol=1e-5)


def test_the_weights_stay_as_they_are():
    """TR-14."""
    encoder = load_encoder(SHIPPED)
    assert isinstance(encoder, SentenceEncoder)

    def checksum() -> str:
        digest = hashlib.sha256()
        for value in encoder.model.state_dict().values():
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()

    before = checksum()
    encode("Nothing is learnt here.")
    assert checksum() == before


def test_a_folder_of_a_model_loads_as_well(tmp_path: Path):
    encoder = load_encoder(SHIPPED)
    assert isinstance(encoder, SentenceEncoder)
    encoder.model.save(str(tmp_path / "mine"))
    again = load_encoder(str(tmp_path / "mine"))
    np.testing.assert_allclose(again.encode(["Hello"]), encode("Hello"), atol=1e-6)


def test_an_encoder_that_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name = str(tmp_path / "none")
    with pytest.raises(EncoderError) as error:
        load_encoder(name)
    assert str(error.value).startswith(f"The encoder `{name}` cannot be loaded: ")
