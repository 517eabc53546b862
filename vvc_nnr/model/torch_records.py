"""Damage in checkpoints of torch, which torch itself reads without a word.

A checkpoint is a zip archive that stores a CRC-32 of each record. torch reads the records and leaves the checksums
alone, so a changed byte in a tensor would be a changed weight. Files of before torch 1.6, and those that are written
with `torch.serialization.set_crc32_options(False)`, which have zeros in place of checksums, cannot be checked.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import IO

from vvc_nnr.errors import BitstreamError, UnsupportedError, VvcNnrError, shown

# LZMA is not among them: its header asks for memory at will.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError, OSError)


def check_records(file: IO[bytes]) -> None:
    """Holds every record of a checkpoint against its checksum.

    Args:
        file: A checkpoint, open for reading anywhere; it is left at its start.

    Raises:
        BitstreamError: If a record was changed, or the archive is damaged.
        UnsupportedError: If a record is packed otherwise than torch does.
    """
    file.seek(0)
    is_archive = file.read(4) == b"PK\x03\x04"
    changed = _changed_record(file) if is_archive else None
    file.seek(0)
    if changed is not None:
        raise BitstreamError(
            f"damaged: the record {shown(changed, 100)} has another checksum than the file says: copy the file again"
        )


def _changed_record(file: IO[bytes]) -> str | None:
    """The first record that differs from its checksum, None if all are as they were written."""
    try:
        with zipfile.ZipFile(file) as archive:
            for record in archive.infolist():
                if record.compress_type not in _METHODS:
                    raise UnsupportedError(
                        f"the record {shown(record.filename, 100)} is packed by method {record.compress_type}; "
                        "must be stored or deflated: save the file anew with torch.save"
                    )
            is_checked = any(record.CRC for record in archive.infolist())
            return archive.testzip() if is_checked else None
    except VvcNnrError:
        raise
    except _DAMAGE as error:
        raise BitstreamError(f"damaged: {shown(str(error), 200)}: copy the file again") from error
