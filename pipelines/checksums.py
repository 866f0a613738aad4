"""Checksums of data files, so that a byte that changed on disk is an error and not another number.

Spark writes a checksum into each page of a Parquet file, and Arrow checks it when it is asked to.
What `deltalake` writes carries none. Such a file gets one beside it, in Hadoop's own form
(``.name.crc``: magic, bytes per checksum, one CRC-32 for each stretch of that length), which
Spark's local file system checks too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

_MAGIC = b"crc\0"
_STRETCH = 1 << 20
"""Bytes per checksum of ours; Spark's are 512, which tells the two apart."""


def seal(file: Path) -> None:
    """Write the checksums of a file beside it, unless it has some."""
    beside = _beside(file)
    if beside.exists():
        return
    content = _MAGIC + struct.pack(">i", _STRETCH)
    content += b"".join(struct.pack(">I", found) for found in _checksums(file))
    part = beside.with_suffix(".part")
    part.write_bytes(content)
    part.replace(beside)


def is_sound(file: Path) -> bool:
    """Whether a file is as it was sealed; True for one that we did not seal."""
    beside = _beside(file)
    if not beside.exists():
        return True
    content = beside.read_bytes()
    if content[:8] != _MAGIC + struct.pack(">i", _STRETCH):
        return True
    count = (len(content) - 8) // 4
    return list(_checksums(file)) == list(struct.unpack(f">{count}I", content[8:]))


def drop_strays(folder: Path) -> None:
    """Remove the checksums of files that are no more."""
    for beside in folder.glob(".*.crc"):
        if not beside.with_name(beside.name[1:].removesuffix(".crc")).exists():
            beside.unlink()


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}.crc")


def _checksums(file: Path) -> Iterator[int]:
    with file.open("rb") as handle:
        while stretch := handle.read(_STRETCH):
            yield zlib.crc32(stretch)
