"""One plot of a report, drawn: what it shows, and its bytes in both formats."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("time", "memory", "accuracy", "ranks", "mean-ranks", "tuning")
"""What a plot can show, in the order in which a report has them."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot of one (dataset, split), or of all of them together; then both are empty.

    kind: one of KINDS. alt: what a reader who cannot see it needs to know, one line of plain text. name: the stem of
    its files. svg, png: their bytes; the same report gives the same ones.
    """

    kind: str
    dataset: str
    split: str
    alt: str
    name: str
    svg: bytes
    png: bytes
