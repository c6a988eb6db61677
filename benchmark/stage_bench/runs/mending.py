"""What is damaged in a results folder is set aside, so that `run` makes it anew."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stage_bench.runs import examination, remains, working
from stage_bench.runs.findings import ASIDE, MADE_AGAIN, Findings, Outcome, Problem


def mend(findings: Findings) -> list[Outcome]:
    """Set aside all that is damaged, in `<results>/damaged/`, and remove what is left over."""
    outcomes = [_set_aside(problem, findings.results) for problem in findings.problems]
    for left in list(findings.remains):
        if why := remains.remove(left):
            findings.remains.remove(left)
            problem = Problem("remains", "", findings.results, f"{left.what} left over", "that does no harm")
            findings.problems.append(problem)
            outcomes.append(Outcome(problem, None, why))
    return outcomes


def _set_aside(problem: Problem, results: Path) -> Outcome:
    """It is looked at once more before: a run may have made it again meanwhile."""
    if problem.advice or not problem.aside:
        return Outcome(problem, None, problem.advice)
    try:
        with working.alone(results, problem.kind, problem.id) as is_alone:
            if not is_alone:
                return Outcome(problem, None, "another process is at work on it; try again when that has ended")
            still = examination.problems(results, problem.kind, problem.id)
            if all(other.line != problem.line for other in still):
                return Outcome(problem, None, MADE_AGAIN)
            place = _move(problem, results / ASIDE)
            if problem.then is not None:
                problem.then()
            return Outcome(problem, place)
    except OSError as error:
        return Outcome(problem, None, f"{error.filename or results}: {error.strerror or error}")


def _move(problem: Problem, place: Path) -> Path:
    """Where it is now: a folder takes that name, files lie in one of it."""
    name = f"{problem.kind}-{problem.id.replace('/', '-')}"
    target, number = place / name, 1
    while os.path.lexists(target):
        number += 1
        target = place / f"{name}-{number}"
    place.mkdir(exist_ok=True)
    first, *others = (path for path in problem.aside if path.exists())
    if first.is_dir():
        shutil.move(first, target)
        for other in others:
            shutil.move(other, place / f"{target.name}-with-{other.name}")
        return target
    target.mkdir()
    for path in (first, *others):
        shutil.move(path, target / path.name)
    return target
