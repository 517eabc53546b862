"""Decisions of pictures that are coded together: one arithmetic code for all, where like pictures cost next to nothing.

Inter pictures have some hundred bits each, so that a byte for the decisions of each would cost more than they bring.
Here contexts go on learning from picture to picture, a picture may be "as the one before", and a component may have
what it had some pictures ago:

```
 picture 0     full strength everywhere         1 bin, which is expected: it is what history begins with
 picture 1     luma: strength 20; chroma: off   1 + 1 bin for what is new, its strength; 1 for what is known
 picture 2     as the one before                1 bin
```
docs/decisions.md has the syntax. Encoder and decoder walk through it together: a `BinCoder` is either of them, or
counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import BitstreamError
from vvc_nnr.filters.decisions.adaptive_bins import (
    BinCoder,
    BinCounter,
    BinDecoder,
    BinEncoder,
    Context,
    code_number,
    expecting,
)
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    STRENGTH_UNIT,
    UNIT_CHOICE,
    Decisions,
    block_grid,
)
from vvc_nnr.filters.decisions.coding import (
    CHROMA_DIFFERS_64THS,
    LUMA_DIFFERS_64THS,
    STRENGTH_BITS,
    MapContexts,
    code_map,
)
from vvc_nnr.filters.decisions.wiener import CHROMA_64THS, LUMA_64THS, WienerContexts, WienerFilter, code_filter
from vvc_nnr.sequences.frame import VideoFormat

N_KNOWN = 4
"""Decisions of a component that history keeps, the last one used first."""
FULL_STRENGTH = round(1 / STRENGTH_UNIT)
_LIKELY_64THS, _EVEN_64THS, _RARE_64THS = 56, 32, 8


@dataclass(frozen=True, slots=True, eq=False)
class ComponentDecisions:
    """The strength of one component and the scales of its blocks, as of `Decisions`.

    Attributes:
        strength: In units of 1/16; 0 is off.
        choices: Indices into `SCALES` (rows, columns); None: 1 throughout, whatever the size of blocks.
    """

    strength: int
    choices: NDArray[np.uint8] | None = None

    def fits(self, grid: tuple[int, int]) -> bool:
        """Whether a picture with so many rows and columns of blocks can have it."""
        return self.choices is None or self.choices.shape == grid

    def is_same(self, other: ComponentDecisions) -> bool:
        """Whether both give the same samples of the same picture."""
        if self.strength != other.strength:
            return False
        if self.choices is None or other.choices is None:
            return self.choices is other.choices
        return np.array_equal(self.choices, other.choices)

    def whole(self, grid: tuple[int, int]) -> NDArray[np.uint8]:
        """The map with all of its blocks."""
        return np.full(grid, UNIT_CHOICE, np.uint8) if self.choices is None else self.choices


def component_of(decisions: Decisions, component: int) -> ComponentDecisions:
    """What a picture's decisions say of one component."""
    strength, choices = decisions.strengths[component], decisions.choices[component]
    is_plain = strength == 0 or bool((choices == UNIT_CHOICE).all())
    return ComponentDecisions(strength, None if is_plain else choices)


class _ComponentContexts:
    """The contexts of luma, or of both chroma components."""

    def __init__(self, differs_64ths: Sequence[int]) -> None:
        self.is_known = expecting(_EVEN_64THS)
        self.is_earlier = [expecting(_EVEN_64THS) for _ in range(N_KNOWN - 1)]
        self.is_off = expecting(_RARE_64THS)
        self.is_plain = expecting(_EVEN_64THS)
        self.map = MapContexts(differs_64ths)


class _Wieners:
    """The filters of components: contexts, and the last filter of each."""

    def __init__(self, n_components: int) -> None:
        self.has_some = expecting(_RARE_64THS)
        self.is_as_last = expecting(_EVEN_64THS)
        self.luma, self.chroma = WienerContexts(LUMA_64THS), WienerContexts(CHROMA_64THS)
        self.last: list[WienerFilter | None] = [None] * n_components


class History:
    """What decisions of the pictures before say about those of the next: contexts, and what is known already.

    Args:
        format: Of the pictures; its size and chroma format count.
        n_candidates: How many QPs there are that the network may be told.
    """

    def __init__(self, format: VideoFormat, n_candidates: int = 1) -> None:
        self.format = format
        self.n_candidates = n_candidates
        self._n_components = len(format.plane_shapes)
        self._is_as_before = expecting(_LIKELY_64THS)
        self._is_64 = expecting(_EVEN_64THS)
        self._contexts = (_ComponentContexts(LUMA_DIFFERS_64THS), _ComponentContexts(CHROMA_DIFFERS_64THS))
        full, off = ComponentDecisions(FULL_STRENGTH), ComponentDecisions(0)
        self._known = [[full, off] for _ in range(self._n_components)]
        self._last_size = BLOCK_SIZES[0]
        self._wieners = _Wieners(self._n_components)
        self._is_other_candidate = expecting(_RARE_64THS)
        self._is_farther_candidate = [Context() for _ in range(max(0, n_candidates - 2))]
        self._last_candidate = 0

    @property
    def before(self) -> Decisions:
        """Those of the picture before, without Wiener filters; at first full strength everywhere."""
        return self.decisions(self._last_size, [known[0] for known in self._known])

    @property
    def last_candidate(self) -> int:
        """The QP that the network was told last, by its place among the candidates."""
        return self._last_candidate

    def known(self, component: int, block_size: int) -> list[ComponentDecisions]:
        """What a component has had, the last one first, as far as it fits blocks of a size."""
        grid = block_grid(self.format.width, self.format.height, block_size)
        return [each for each in self._known[component] if each.fits(grid)]

    def last_wiener(self, component: int) -> WienerFilter | None:
        """The Wiener filter that a component had last, None if it has had none."""
        return self._wieners.last[component]

    def decisions(self, block_size: int, components: Sequence[ComponentDecisions], candidate: int = 0) -> Decisions:
        """A picture's decisions of those of its components."""
        grid = block_grid(self.format.width, self.format.height, block_size)
        maps = tuple(each.whole(grid) for each in components)
        return Decisions(block_size, tuple(each.strength for each in components), maps, (), candidate)

    def n_bits(self, decisions: Decisions) -> float:
        """About how many bits a picture's decisions would take here."""
        counter = BinCounter()
        self._code(counter, decisions, learns=False)
        return counter.n_bits

    def component_bits(self, component: int, block_size: int, wanted: ComponentDecisions) -> float:
        """About how many bits one component would take."""
        counter = BinCounter()
        self._code_component(counter, component, block_size, wanted)
        return counter.n_bits

    def code(self, coder: BinCoder, decisions: Decisions) -> Decisions:
        """Codes a picture's decisions, and learns them; a decoder ignores what it is given. Returns them."""
        return self._code(coder, decisions, learns=True)

    def _code(self, coder: BinCoder, given: Decisions, *, learns: bool) -> Decisions:
        wanted = [component_of(given, c) for c in range(self._n_components)]
        is_same = all(each.is_same(known[0]) for each, known in zip(wanted, self._known, strict=True))
        block_size = self._last_size
        if coder.code(self._is_as_before, int(is_same)):
            found = [known[0] for known in self._known]
        else:
            block_size = BLOCK_SIZES[1 - coder.code(self._is_64, int(given.block_size == BLOCK_SIZES[0]))]
            found = [self._code_component(coder, c, block_size, each) for c, each in enumerate(wanted)]
        candidate = self._code_candidate(coder, given.qp_candidate) if any(each.strength for each in found) else None
        wieners = self._code_wieners(coder, given.wieners)
        if learns:
            self._learn(block_size, found, candidate, wieners)
        decisions = self.decisions(block_size, found, candidate or 0)
        return Decisions(block_size, decisions.strengths, decisions.choices, tuple(wieners), candidate or 0)

    def _learn(
        self,
        block_size: int,
        found: Sequence[ComponentDecisions],
        candidate: int | None,
        wieners: Sequence[WienerFilter | None],
    ) -> None:
        self._last_size = block_size
        for component, each in enumerate(found):
            others = [known for known in self._known[component] if not known.is_same(each)]
            self._known[component] = [each, *others][:N_KNOWN]
        if candidate is not None:
            self._last_candidate = candidate
        for component, wiener in enumerate(wieners):
            if wiener is not None:
                self._wieners.last[component] = wiener

    def _code_component(
        self, coder: BinCoder, component: int, block_size: int, wanted: ComponentDecisions
    ) -> ComponentDecisions:
        contexts = self._contexts[min(component, 1)]
        known = self.known(component, block_size)
        place = next((i for i, each in enumerate(known) if each.is_same(wanted)), None)
        if known and coder.code(contexts.is_known, int(place is not None)):
            found = 0
            while found < len(known) - 1 and coder.code(contexts.is_earlier[found], int((place or 0) > found)):
                found += 1
            return known[found]
        if coder.code(contexts.is_off, int(wanted.strength == 0)):
            return ComponentDecisions(0)
        strength = 1 + code_number(coder, max(0, wanted.strength - 1), STRENGTH_BITS)
        if coder.code(contexts.is_plain, int(wanted.choices is None)):
            return ComponentDecisions(strength)
        rows = wanted.whole(block_grid(self.format.width, self.format.height, block_size)).tolist()
        code_map(coder, contexts.map, rows)
        return ComponentDecisions(strength, np.array(rows, np.uint8))

    def _code_candidate(self, coder: BinCoder, candidate: int) -> int:
        """Codes which QP the network is told: the same as last, or which of the others."""
        if self.n_candidates == 1:
            return 0
        if not coder.code(self._is_other_candidate, int(candidate != self._last_candidate)):
            return self._last_candidate
        others = [each for each in range(self.n_candidates) if each != self._last_candidate]
        place = others.index(candidate) if candidate in others else 0
        found = 0
        while found < len(others) - 1 and coder.code(self._is_farther_candidate[found], int(place > found)):
            found += 1
        return others[found]

    def _code_wieners(self, coder: BinCoder, wieners: Sequence[WienerFilter | None]) -> list[WienerFilter | None]:
        own = self._wieners
        found = list(wieners)
        if not coder.code(own.has_some, int(any(each is not None for each in wieners))):
            return [None] * self._n_components
        for component, wiener in enumerate(wieners):
            last = own.last[component]
            is_as_last = last is not None and wiener is not None and _are_same(wiener, last)
            if last is not None and coder.code(own.is_as_last, int(is_as_last)):
                found[component] = last
            else:
                found[component] = code_filter(coder, own.chroma if component else own.luma, component, wiener)
        return found


def _are_same(a: WienerFilter, b: WienerFilter) -> bool:
    alike = (a.shift, a.clip_log2, a.set_of_class) == (b.shift, b.clip_log2, b.set_of_class)
    return alike and np.array_equal(a.coefficients, b.coefficients)


class JointEncoder:
    """Codes the decisions of a sequence's pictures one after the other.

    Args:
        format: Of the pictures.
        n_candidates: How many QPs there are that the network may be told.

    Attributes:
        history: What was coded so far.
    """

    def __init__(self, format: VideoFormat, n_candidates: int = 1) -> None:
        self.history = History(format, n_candidates)
        self._coder = BinEncoder()

    def code(self, decisions: Decisions) -> Decisions:
        """Codes a picture's decisions; returns them as a decoder will have them."""
        return self.history.code(self._coder, decisions)

    @property
    def n_bits(self) -> int:
        """Bits of the bytes of all pictures so far."""
        return 8 * len(self._coder.finish())

    def finish(self) -> bytes:
        """The bytes of all pictures so far."""
        return self._coder.finish()


class JointDecoder:
    """Decodes them again.

    Args:
        data: What a `JointEncoder` wrote.
        format: Of the pictures.
        n_candidates: How many QPs there are that the network may be told.
    """

    def __init__(self, data: bytes, format: VideoFormat, n_candidates: int = 1) -> None:
        self._data = data
        self._history = History(format, n_candidates)
        self._nothing = self._history.decisions(BLOCK_SIZES[0], [ComponentDecisions(0)] * len(format.plane_shapes))
        self._coder = BinDecoder(data)
        self._again = JointEncoder(format, n_candidates)

    def picture(self) -> Decisions:
        """The decisions of the next picture."""
        found = self._history.code(self._coder, self._nothing)
        self._again.code(found)
        return found

    def check_end(self) -> None:
        """Checks, behind the last picture, that the bytes are those that its encoder writes for what was decoded.

        Raises:
            BitstreamError: If they are not.
        """
        if self._again.finish() != self._data:
            raise BitstreamError(f"the {len(self._data)} bytes are not those of any decisions: damaged or cut")
