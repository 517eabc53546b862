"""The decoded picture hash of VVC: MD5, CRC or checksum of one plane (ITU-T H.274, clause 8.12)."""

from __future__ import annotations

import binascii
import hashlib

import numpy as np

from vvc_nnr.codec.nal import HashType
from vvc_nnr.sequences.frame import Plane

_CRC_START = 0x1D0F
"""The register after sixteen bits that are all one, which the standard begins with."""


def hash_of_plane(plane: Plane, hash_type: HashType) -> bytes:
    """The hash of a plane (height, width), uint8 at 8 bit and uint16 above, as the SEI message writes it."""
    if hash_type == "checksum":
        return _checksum(plane)
    samples = np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("<")).tobytes()
    if hash_type == "crc":
        return binascii.crc_hqx(samples, _CRC_START).to_bytes(2, "big")
    return hashlib.md5(samples, usedforsecurity=False).digest()


def _checksum(plane: Plane) -> bytes:
    """The sum of all bytes, each changed by the place of its sample."""
    height, width = plane.shape
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    mask = (x & 255) ^ (y & 255) ^ (x >> 8) ^ (y >> 8)
    total = int(np.sum((plane & 255) ^ mask, dtype=np.uint64))
    if plane.dtype != np.uint8:
        total += int(np.sum((plane >> 8) ^ mask, dtype=np.uint64))
    return (total & 0xFFFFFFFF).to_bytes(4, "big")
