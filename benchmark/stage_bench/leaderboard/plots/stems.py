"""Names of files, such that no two plots of a report share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from stage_bench.leaderboard.files import file_stem

K = TypeVar("K", bound=Hashable)


def stems(parts: Mapping[K, Sequence[str]]) -> dict[K, str]:
    """The parts of each name joined by `.`, as files.file_stem allows them; no two alike, in upper or lower case."""
    found = {key: file_stem(".".join(words)) for key, words in parts.items()}
    alike = Counter(stem.casefold() for stem in found.values())
    # Such as dataset `a.b` beside split `b` of `a`, or `Cora` beside `cora` on a disk that does not tell case. The line
    # break, which no file name keeps, makes `file_stem` add a hash.
    return {
        key: file_stem("\n".join([*parts[key], ""])) if alike[stem.casefold()] > 1 else stem
        for key, stem in found.items()
    }
