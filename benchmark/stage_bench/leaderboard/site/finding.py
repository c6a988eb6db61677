"""Which reports are meant: a report's folder, or a folder of reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stage_bench.errors import StageBenchError

_RUNS = "runs.csv"


def find(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The folders of the reports, each once, and sentences on what was passed over.

    A folder with a runs.csv is a report; of any other folder those in it are, in the order of their names. Links in it
    are not followed. Raises StageBenchError: there is no such folder, or no report in it.
    """
    found: dict[Path, Path] = {}
    remarks = []
    for path in paths:
        if not path.is_dir():
            raise StageBenchError(f"{path}: there is no such folder; name a report's folder, or a folder of reports")
        inside = [path] if _is_report(path) else [folder for folder in sorted(path.iterdir()) if _is_report(folder)]
        links = [folder for folder in inside if folder.is_symlink() and folder != path]
        remarks += [f"{folder} is a symbolic link and is not followed; name it to publish it" for folder in links]
        if not inside:
            raise StageBenchError(f"{path}: neither a report (with {_RUNS}) nor a folder of reports")
        found |= {folder.resolve(): folder for folder in inside if folder not in links}
    return list(found.values()), remarks


def _is_report(folder: Path) -> bool:
    return folder.is_dir() and ((folder / _RUNS).is_file() or (folder / _RUNS).is_symlink())
