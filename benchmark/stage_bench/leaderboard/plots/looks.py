"""Colour and marker of each kind of inputs; two kinds differ in both or in one, so that neither is needed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stage_bench.leaderboard.plots.entries import Entry

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito's
MARKERS = "osD^vP*X"

UNRANKED = "#9e9e9e"
"""The colour of what is there to see but not to compare."""

_KINDS = 12
_OTHER: Mapping[str, Any] = {"color": "#737373", "marker": "."}


class Looks:
    """The look (options of matplotlib's Line2D) of each kind of inputs among some entries.

    named: kinds with a look of their own, sorted. others: how many share one, where there are more than a dozen; those
    are the kinds whose best row is least accurate.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        best = list(dict.fromkeys(one.inputs for one in sorted(entries, key=lambda one: (-one.accuracy, one.key))))
        kept = best if len(best) <= _KINDS else best[: _KINDS - 1]
        self.others = len(best) - len(kept)
        self.named = sorted(kept)
        self._of = {
            name: {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
            for index, name in enumerate(self.named)
        }

    def of(self, inputs: str) -> dict[str, Any]:
        """The colour, marker and size of a kind."""
        look = dict(self._of.get(inputs, _OTHER))
        return {**look, "markersize": 9 if look["marker"] == "*" else 6}  # a star is thin


def dark(colour: str) -> str:
    """The colour for text: on white, yellow and sky blue are too light to read."""
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{int(part * 0.65):02x}" for part in parts)
