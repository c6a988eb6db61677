"""What the commands print: lines to a terminal or a log, tables, boards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stage_bench.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from stage_bench.checks import Line
    from stage_bench.execution.publishing import Outcome
    from stage_bench.execution.running import Folders
    from stage_bench.leaderboard.report import Report


def entries(kind: str) -> list[dict[str, str]]:
    """What `ls` says of one kind: name, summary, needs."""
    from stage_bench import registry

    if kind != "suites":
        rows = [
            {
                "name": name,
                "summary": getattr(spec, "summary", "") or getattr(spec, "hub_id", ""),
                "needs": getattr(spec, "needs", ""),
            }
            for name, spec in sorted(registry.specs(kind).items())
        ]
        if kind == "features":
            from stage_bench.suite import bundle

            rows += [{"name": name, "summary": bundle.summary(name), "needs": ""} for name in bundle.names()]
        return rows
    from stage_bench import located_yaml
    from stage_bench.suite.folders import folder

    rows = []
    for path in sorted(folder("suites").glob("*.yaml")):
        value = located_yaml.load(path).value
        rows.append({"name": path.name, "summary": str(value.get("description", "")), "needs": ""})
    return rows


def report(
    plan: Any, folders: Folders, console: Console, as_json: bool, wanted: Mapping[str, Sequence[str]] | None = None
) -> dict[str, int]:
    """Write the report of a plan and show it (`show`). wanted: keep only runs with these values, by column."""
    from stage_bench.execution import reporting
    from stage_bench.runs.store import Store

    store = Store(folders.results, lambda line: say(console, line))
    records = reporting.records(plan, store)
    rows = reporting.rows(plan, store, records)
    counts = reporting.counts(rows)
    if not counts["done"] and not counts["failed"]:
        say(console, "no run is there yet, so there is no leaderboard")
        if as_json:
            print(json.dumps({"counts": counts, "files": [], "leaderboard": []}, indent=1))
        return counts
    show(reporting.make(plan, rows, records, store, wanted), counts, folders.reports, as_json)
    if counts["missing"]:
        say(console, f"{counts['missing']} of {len(plan.runs)} runs are not there yet")
    return counts


def show(report: Report, counts: dict[str, int], reports: Path, as_json: bool, runs_csv: str | None = None) -> None:
    """Write a report under `reports`; the board goes to standard output, the paths of the files below it.

    runs_csv: as of writing.write.
    """
    from stage_bench.leaderboard import exporting, writing
    from stage_bench.leaderboard.files import file_stem

    paths = writing.write(reports / file_stem(report.facts.suite), report, runs_csv)
    if as_json:
        print(json.dumps({"counts": counts, "files": list(map(str, paths)), **exporting.plain(report)}, indent=1))
        return
    from rich.console import Console

    from stage_bench.leaderboard.terminal import terminal

    Console().print(terminal(report.board, report.separations))
    for path in paths:
        print(path)


def published(outcome: Outcome) -> None:
    """What became of each report, what is gone of an earlier site, and the paths of the files."""
    for line in outcome.remarks:
        print(line)
    for board in outcome.boards:
        passed = len(board.lines) - len(board.failures)
        print(f"{board.source}: {'published as a draft' if board.draft else 'published'}, {passed} checks passed")
        checks(line for line in board.lines if not line.passed)
    for one in outcome.refused:
        print(f"{one.folder}: not published")
        checks(line for line in one.lines if not line.passed)
    if not outcome.boards:
        print("there is nothing to publish, so nothing was written")
    for path in outcome.gone:
        print(f"removed {path}")
    for path in outcome.written:
        print(path)


def checks(lines: Iterable[Line]) -> bool:
    """Print lines of a check as they come, nothing in them for the terminal to obey; whether all passed."""
    passed = True
    for line in lines:
        print(f"{'ok  ' if line.passed else 'FAIL'}  {shown(line.what)}")
        passed = passed and line.passed
    return passed


def health(lines: Iterable[Line]) -> bool:
    """Print the same lines as JSON; whether all passed."""
    found = [{"topic": line.topic, "passed": line.passed, "what": line.what} for line in lines]
    healthy = all(line["passed"] for line in found)
    print(json.dumps({"healthy": healthy, "lines": found}, indent=1, ensure_ascii=False))
    return healthy


def note(console: Console, line: str) -> None:
    """Something to look at while it lasts; nothing for a log."""
    if console.is_terminal:
        console.print(f"{line} ...", style="dim", highlight=False, markup=False)


def say(console: Console, line: str) -> None:
    console.print(shown(line), soft_wrap=True, highlight=False, markup=False)


def table(rows: list[dict[str, Any]]) -> None:
    from tabulate import tabulate

    print(tabulate(rows, headers="keys", disable_numparse=True))
