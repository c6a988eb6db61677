"""What a look at a results folder finds, and what becomes of it, for people and for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stage_bench.checks import Line
from stage_bench.errors import shown
from stage_bench.runs import holdings

ASIDE = "damaged"
"""The folder in a results folder that damaged things are moved to."""

_ONE = {"runs": "run", "embeddings": "embedding", "studies": "study", "answers": "answer"}

MADE_AGAIN = "it is sound now, or gone"


@dataclass(frozen=True)
class Problem:
    """Something in a results folder that cannot be used.

    what: what is wrong with it. effect: what comes of that, and what makes it good. aside: what is to be moved away for
    that; nothing where `advice` says why not. then: what is to be done after that.
    """

    kind: str
    id: str
    path: Path
    what: str
    effect: str
    aside: tuple[Path, ...] = ()
    advice: str = ""
    then: Callable[[], object] | None = None

    @property
    def line(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Remains:
    """What processes that were killed have left, and no one needs; `what` is their number and name."""

    what: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a problem: where its damaged parts are now, or why they were left."""

    problem: Problem
    place: Path | None
    why: str = ""

    @property
    def is_mended(self) -> bool:
        return self.place is not None or self.why == MADE_AGAIN


@dataclass
class Findings:
    """What a look at a results folder found. checked, unfinished: how many things of each kind.

    remains: may be removed. notes: sentences on what is not wrong, and worth knowing.
    """

    results: Path
    checked: Counter[str] = field(default_factory=Counter)
    unfinished: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    problems: list[Problem] = field(default_factory=list)
    remains: list[Remains] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def lines(findings: Findings, outcomes: Sequence[Outcome] | None = None) -> Iterator[Line]:
    """What is to be said of a look, and of what was mended; the last line sums it up."""
    if outcomes is None:
        for problem in findings.problems:
            end = problem.advice or f"--fix sets it aside in {findings.results / ASIDE}"
            yield Line(f"{shown(problem.line)}; {problem.effect}; {end}", False)
    else:
        yield from map(_mended, outcomes)
    for remains in findings.remains:
        end = "left by what was killed, --fix removes that" if outcomes is None else "removed"
        yield Line(f"{remains.what}: {end}")
    for note in findings.notes:
        yield Line(shown(note))
    yield Line(_summed_up(findings, outcomes), is_sound(findings, outcomes))


def is_sound(findings: Findings, outcomes: Sequence[Outcome] | None = None) -> bool:
    """Whether nothing is wrong, or all of it was mended."""
    return not findings.problems if outcomes is None else all(outcome.is_mended for outcome in outcomes)


def plain(findings: Findings, outcomes: Sequence[Outcome] | None = None) -> dict[str, Any]:
    """The same for machines."""
    known = {id(outcome.problem): outcome for outcome in outcomes or ()}
    problems = []
    for problem in findings.problems:
        outcome = known.get(id(problem))
        problems.append(
            {
                **{"kind": problem.kind, "id": problem.id, "path": str(problem.path)},
                **{"problem": problem.what, "effect": problem.effect, "advice": problem.advice},
                "mended": outcome is not None and outcome.is_mended,
                "set_aside": str(outcome.place) if outcome is not None and outcome.place else None,
                "left": outcome.why if outcome is not None else "",
            }
        )
    return {
        "results": str(findings.results),
        "sound": is_sound(findings, outcomes),
        "checked": dict(findings.checked),
        "unfinished": dict(findings.unfinished),
        "failed": findings.failed,
        "problems": problems,
        "left_over": [
            {"what": remains.what, "paths": list(map(str, remains.paths)), "removed": outcomes is not None}
            for remains in findings.remains
        ],
        "notes": findings.notes,
    }


def _mended(outcome: Outcome) -> Line:
    problem = outcome.problem
    if outcome.place is not None:
        return Line(f"{shown(problem.line)}; set aside in {shown(outcome.place)}; {problem.effect}")
    return Line(f"{shown(problem.line)}; {problem.effect}; {shown(outcome.why)}", outcome.is_mended)


def _summed_up(findings: Findings, outcomes: Sequence[Outcome] | None) -> str:
    known = [(kind.name, findings.checked[kind.name]) for kind in holdings.KINDS if findings.checked[kind.name]]
    said = ", ".join(
        f"{count:,} {_ONE.get(name, name) if count == 1 else name}{_unfinished(findings.unfinished[name])}"
        for name, count in known
    )
    problems = len(findings.problems)
    if not problems:
        end = "nothing is wrong"
    else:
        end = counted(problems, "problem")
        if outcomes is not None:
            end += f", {sum(outcome.is_mended for outcome in outcomes):,} of them mended"
    return f"{findings.results}: {said or 'nothing'} checked; {end}"


def _unfinished(count: int) -> str:
    return f" ({count:,} of them unfinished)" if count else ""
