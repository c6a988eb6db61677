"""Classes of hardware: times of two classes stand in one table, and are not ranked against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

SEPARATOR = "; "
"""What stands between the classes in the `hardware` of a row whose runs were made on several."""


def classes(row_hardware: str) -> list[str]:
    """The classes that a row's runs were made on, as in the cell; empty where none was recorded."""
    return [part for part in (part.strip() for part in row_hardware.split(SEPARATOR)) if part]


def compared(hardwares: Sequence[str]) -> str | None:
    """The one class in which the times of a table are ranked, from the `hardware` of its rows.

    It is that of most rows; of several with equally many, the first by name, so that the order of the rows does not
    show. A class is the whole recorded string, such as `AMD EPYC, 2 cores, 24 GiB, 1 thread, 2 jobs side by side`:
    with another number of threads, or of jobs side by side, the same machine gives other times. Rows without a record
    belong to no class, nor do rows whose runs were made on several: their mean is a time of neither. None where no row
    belongs to one.
    """
    counts = Counter(found[0] for found in map(classes, hardwares) if len(found) == 1)
    return min(counts, key=lambda name: (-counts[name], name), default=None)
