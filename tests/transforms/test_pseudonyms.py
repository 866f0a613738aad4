"""DE-33: ids become keyed hashes, the same as Python's own HMAC."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from pyspark.sql import functions as F

from transforms.mapping import EventTypeRule, map_rows
from transforms.parsing import ColumnMap
from transforms.pseudonyms import PseudonymError, pseudonym

IDS = ["1", "01", "9007199254740993", "ann@example.org", "日é", "", "x" * 500, None]


@pytest.mark.parametrize("key", [b"k" * 32, b"k" * 64, b"k" * 65, bytes(range(32))])
def test_pseudonyms_are_hmac_sha256(spark, key):
    frame = spark.createDataFrame([(one,) for one in IDS], "id string").coalesce(1)
    found = frame.select("id", pseudonym(F.col("id"), key).alias("pseudonym")).collect()
    assert [(row.id, row.pseudonym) for row in found] == [
        (one, one if one is None else hmac.new(key, one.encode(), hashlib.sha256).hexdigest())
        for one in IDS
    ]


def test_a_short_key_is_refused():
    with pytest.raises(PseudonymError) as error:
        pseudonym(None, b"secret")
    assert str(error.value) == (
        "The key for pseudonyms has 6 bytes; it needs at least 32. "
        "Make one: python3 -c 'import secrets; print(secrets.token_hex(32))'"
    )


def test_a_table_with_a_key_names_nobody(spark):
    rows = [("ann@example.org", "i1", "1700000000"), ("ann@example.org", "i2", "tomorrow")]
    frame = spark.createDataFrame(rows, "who string, what string, at string").coalesce(1)
    columns = {
        "user_id": ColumnMap("who"),
        "item_id": ColumnMap("what"),
        "timestamp": ColumnMap("at", unit="s"),
    }
    key = b"k" * 32
    good, bad = map_rows(
        frame, "events", columns, event_type=EventTypeRule(constant="view"), pseudonym_key=key
    )
    (kept,), (aside,) = good.collect(), bad.collect()
    assert kept.user_id == hmac.new(key, b"ann@example.org", hashlib.sha256).hexdigest()
    assert (kept.item_id, aside.rule) == ("i1", "parse:timestamp")
    plain = map_rows(frame, "events", columns, event_type=EventTypeRule(constant="view"))[0]
    assert kept.event_id != plain.collect()[0].event_id
    assert "ann" not in str(kept) + str(aside)
