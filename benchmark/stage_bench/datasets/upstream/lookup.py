"""What the readers of upstream files share: finding a file, counting for the card, TAPE's predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stage_bench.errors import StageBenchError

_JUNK = "__MACOSX"  # what a Mac puts beside the files of an archive


def find(upstream: Path, *names: str) -> Path:
    """The one file whose path ends in one of `names` (`a/b.csv`), however deep an archive had it.

    Raises:
        StageBenchError: there is none, or several.
    """
    found = [path for name in names for path in _ending_in(upstream, name)]
    if len(found) != 1:
        which = f"{', '.join(str(path.relative_to(upstream)) for path in sorted(found))}: keep one" if found else "none"
        raise StageBenchError(f"{upstream}: expected one file {' or '.join(names)}, found {which}")
    return found[0]


def _ending_in(upstream: Path, name: str) -> Iterator[Path]:
    parts = Path(name).parts
    for path in upstream.rglob(parts[-1]):
        inside = path.relative_to(upstream).parts
        if inside[-len(parts) :] == parts and _JUNK not in inside and path.is_file():
            yield path


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, line without its end) of a text whose encoding may change from line to line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, decode(line).rstrip("\r\n")


def decode(data: bytes) -> str:
    """UTF-8, and what is not UTF-8 as Latin-1, which every byte is."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def gpt_predictions(upstream: Path, num_nodes: int) -> list[str] | None:
    """The lines of `gpt_preds.csv`, one a node: class numbers, best first; None where the file is absent.

    Raises:
        StageBenchError: it has another number of lines than there are nodes.
    """
    path = upstream / "gpt_preds.csv"
    if not path.is_file():
        return None
    rows = [line.strip() for _, line in lines(path)]
    if len(rows) != num_nodes:
        raise StageBenchError(
            f"{path}: {len(rows)} lines, but there are {num_nodes} nodes; the dataset does without it: take it away"
        )
    return rows


def edges_between(ids: Sequence[str], pairs: list[tuple[str, str]]) -> tuple[np.ndarray, int]:
    """Edges int64 [2, num_edges] of pairs of ids, and how many were left out because an end is not among `ids`."""
    index = {id_: node for node, id_ in enumerate(ids)}
    known = [(index[src], index[dst]) for src, dst in pairs if src in index and dst in index]
    return np.array(known, dtype=np.int64).reshape(-1, 2).T, len(pairs) - len(known)


def count(number: int, singular: str, rest: str) -> list[str]:
    """A note such as "3 papers have no title", or none where the number is 0."""
    if number == 0:
        return []
    return [f"{number:,} {singular if number == 1 else singular + 's'} {rest}"]
