"""Checks of fragmenters."""

from __future__ import annotations

from heritage_align.testing import samples
from heritage_align.testing.case import Case
from heritage_align.testing.checks.base import check, expect
from heritage_align.types import TextItem

HARD = (
    *samples.TEXTS,
    TextItem("signs", "，。、"),
    TextItem("spaced", "  red \n ground  "),
    TextItem("ideographic space", "　红地　"),
    TextItem("long", "缠枝牡丹纹，" * 500),
    TextItem("unannotated", "a crane among clouds", phrases=()),
)
"""Texts that have come out of real splitters as nothing at all, or as blanks."""


@check("fragmenter")
def check_fragments(case: Case) -> None:
    """A text without fragments scores -inf against everything; a blank one matches at random."""
    built = case.build()
    for item in HARD:
        found = built.split(item)
        expect(
            isinstance(found, tuple),
            f"split({item.id!r}) gave {type(found).__name__}, expected a tuple of strings",
        )
        expect(
            len(found) > 0,
            f"split({item.text[:20]!r}) gave no fragment; give the whole text where nothing is found",
        )
        odd = [fragment for fragment in found if not isinstance(fragment, str) or not fragment.strip()]
        expect(not odd, f"split({item.text[:20]!r}) gave blank or other fragments: {odd!r}")


@check("fragmenter")
def check_fragmenter_is_deterministic(case: Case) -> None:
    """Fragments are rows of a store and columns of a report: the same text gives the same ones in the same
    order."""
    first, second = case.build(), case.build()
    before = [first.split(item) for item in HARD]
    after = [second.split(item) for item in reversed(HARD)][::-1]
    again = [first.split(item) for item in HARD]
    for item, one, two, three in zip(HARD, before, after, again):
        expect(one == two == three, f"split({item.id!r}) gave {one!r}, then {two!r} and {three!r}")
