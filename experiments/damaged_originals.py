"""What results have to say of originals that were damaged, and taken as FFmpeg conceals the damage."""

from __future__ import annotations

from collections.abc import Sequence

from vvc_nnr.sequences.source import Source


def damage_note(sources: Sequence[Source], max_pictures: int | None = None) -> str:
    """The damaged sequences among those that were opened with `allow_damaged`; empty if there are none.

    Args:
        sources: The sequences.
        max_pictures: How many pictures of each are used at most.
    """
    damages = [(source.name, source.damage(max_pictures)) for source in sources]
    found = [f"{name} ({damage})" for name, damage in damages if damage]
    return f"damaged, and taken as FFmpeg conceals it: {', '.join(found)}" if found else ""
