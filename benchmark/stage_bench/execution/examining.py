"""What `doctor --results` does: look, mend where that is asked for, and say so."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from stage_bench import printing
from stage_bench.counting import Counting
from stage_bench.runs import examination, findings, mending


def results(folder: Path, fix: bool, as_json: bool) -> bool:
    """Whether nothing is wrong, or all of it was mended.

    Raises:
        StageBenchError: it is no results folder.
    """
    with Counting(Console(stderr=True)) as counting:
        found = examination.examine(folder, counting.step)
    outcomes = mending.mend(found) if fix else None
    if as_json:
        print(json.dumps(findings.plain(found, outcomes), indent=1))
    else:
        printing.checks(findings.lines(found, outcomes))
    return findings.is_sound(found, outcomes)
