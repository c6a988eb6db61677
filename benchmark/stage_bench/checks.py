"""The lines that `check` and `doctor` print."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stage_bench.errors import StageBenchError


@dataclass(frozen=True)
class Line:
    """topic: what it is about, in a word, where lines are for machines too."""

    what: str
    passed: bool = True
    topic: str = ""


def guarded(lines: Iterator[Line]) -> Iterator[Line]:
    """The same lines; what the thing under test raises becomes a failed one that says where."""
    try:
        yield from lines
    except StageBenchError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split())
        yield Line(f"{type(error).__name__}: {reason} ({Path(where.filename).name}:{where.lineno})", False)
