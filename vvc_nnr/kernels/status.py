"""What a kernel says when it ends, as an error."""

from __future__ import annotations

from vvc_nnr.errors import BitstreamError

OUT_OF_MEMORY = 8
MESSAGES = {
    1: "the codeword ends before the tensor",
    2: "a coded value is out of the range of its type or codebook",
    3: "an entry point does not agree with the codeword",
    4: "a block row cannot begin where the codeword is",
    5: "the codeword goes on after the last tensor",
    6: "the stop bit after the last tensor is missing",
    7: "bytes follow the codeword",
}


def require_status(status: int, offset_bytes: int | None = None) -> None:
    """Nothing if a kernel ended well.

    Args:
        status: What it returned.
        offset_bytes: Where in the payload it ended.

    Raises:
        BitstreamError: If the payload broke the format.
        MemoryError: If there was not enough memory.
    """
    if status == OUT_OF_MEMORY:
        raise MemoryError("no memory for a tensor")
    if status:
        raise BitstreamError(MESSAGES[status], field="payload", offset_bytes=offset_bytes)
