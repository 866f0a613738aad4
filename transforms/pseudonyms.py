"""Ids that name nobody: keyed hashes (DE-33)."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

MIN_KEY_BYTES = 32
"""Shortest key: that of the hash, as RFC 2104 advises."""

_BLOCK_BYTES = 64
_INNER, _OUTER = 0x36, 0x5C


class PseudonymError(ValueError):
    """A key cannot be used."""


def pseudonym(column: Column, key: bytes) -> Column:
    """Returns HMAC-SHA256 of a text as 64 hexadecimal digits; null stays null.

    The same id and key give the same pseudonym, so tables still join; without the key nobody can
    tell whose it is, nor try out ids. The key stands in Spark's plan: keep plans and the UI from
    those who must not know it.

    Source: RFC 2104, written with SHA-256 alone because Spark has no function for it.

    Args:
        column: Ids, as text.
        key: From a secret store, never from a spec; at least 32 bytes.

    Raises:
        PseudonymError: The key is shorter, so that it could be guessed.
    """
    import hashlib

    if len(key) < MIN_KEY_BYTES:
        raise PseudonymError(
            f"The key for pseudonyms has {len(key)} bytes; it needs at least {MIN_KEY_BYTES}. "
            "Make one: python3 -c 'import secrets; print(secrets.token_hex(32))'"
        )
    block = hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key
    block = block.ljust(_BLOCK_BYTES, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in block) for pad in (_INNER, _OUTER))
    text = F.encode(column, "UTF-8")
    first = F.unhex(F.sha2(F.concat(F.lit(bytearray(inner)), text), 256))
    return F.sha2(F.concat(F.lit(bytearray(outer)), first), 256)
