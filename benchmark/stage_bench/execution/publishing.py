"""`publish`: reports, looked at, as one site, with what the registry knows of their models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stage_bench.errors import StageBenchError
from stage_bench.execution import describing, published_numbers
from stage_bench.leaderboard.site import copying, finding, placing, publication, submission
from stage_bench.leaderboard.site.boards import Board
from stage_bench.leaderboard.site.submission import Submission
from stage_bench.runs import provenance


@dataclass(frozen=True)
class Outcome:
    """boards: what is on the site; refused: what is not. written, gone: paths of files.

    Nothing is written where there is no board. remarks: sentences on what was passed over.
    """

    boards: Sequence[Board]
    refused: Sequence[Submission]
    written: Sequence[Path]
    gone: Sequence[Path]
    remarks: Sequence[str]


def examine(folder: Path) -> Submission:
    """A report's folder, held against the published numbers of this project."""
    return submission.examine(folder, published_numbers.load)


def publish(reports: Sequence[Path], to: Path, draft: bool = False) -> Outcome:
    """A site of all reports that pass their check; draft: of those too that do not, as far as they can be read.

    Raises StageBenchError: there is no report, two have one name, or `to` holds something that is no site.
    """
    folders, remarks = finding.find(reports)
    placing.check(to, folders)
    looked_at = [examine(folder) for folder in folders]
    boards = [
        Board(
            source=one.folder,
            report=one.report,
            lines=one.lines,
            files=copying.read(one.folder),
            draft=not one.passed,
        )
        for one in looked_at
        if one.report is not None and (draft or one.passed)
    ]
    refused = [one for one in looked_at if one.report is None or not (draft or one.passed)]
    written: list[Path] = []
    gone: list[Path] = []
    if boards:
        files = publication.files(boards, _describe, _program())
        written, gone = placing.put(to, files, sorted(map(_entry, boards), key=str))
    return Outcome(boards, refused, written, gone, remarks)


def plain(outcome: Outcome) -> dict[str, Any]:
    """What happened, for machines."""
    found = [
        {"report": str(board.source), "board": board.folder, "draft": board.draft, "checks": _checks(board.lines)}
        for board in outcome.boards
    ]
    found += [
        {"report": str(one.folder), "board": None, "draft": False, "checks": _checks(one.lines)}
        for one in outcome.refused
    ]
    return {
        "reports": sorted(found, key=lambda one: str(one["report"])),
        "files": list(map(str, outcome.written)),
        "removed": list(map(str, outcome.gone)),
        "remarks": list(outcome.remarks),
    }


def _checks(lines: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"what": line.what, "passed": line.passed} for line in lines]


def _entry(board: Board) -> dict[str, Any]:
    """What site.json says of a board: nothing of where it came from."""
    return {"name": board.name, "folder": board.folder, "draft": board.draft, "failed": board.failures}


def _describe(kind: str, name: str) -> dict[str, Any] | None:
    try:
        return describing.describe(f"{kind}s", name, Path())
    except StageBenchError:
        return None


def _program() -> dict[str, str]:
    found = provenance.commit()
    changed = "-dirty" if found.get("dirty") else ""
    commit = f"{found['commit']}{changed}" if found else ""
    return {"version": provenance.versions().get("stage-bench", ""), "commit": commit}
