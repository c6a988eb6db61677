"""report.json: what stands beside the rows of a report, so that it can be made again from its own folder.

It also has the checksums of the tables and of itself: a digit of runs.csv that changed since is no other number.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stage_bench import seals
from stage_bench.errors import StageBenchError
from stage_bench.files import sha256
from stage_bench.leaderboard import study_form
from stage_bench.leaderboard.files import replace_text
from stage_bench.leaderboard.report import Facts

NAME = "report.json"
SCHEMA_VERSION = 1

_PLOT = re.compile(r"[A-Za-z0-9._-]+\.(svg|png)")
_FACTS: TypeAdapter[Facts] = TypeAdapter(Facts)


def write(folder: Path, facts: Facts, plots: Sequence[str], tables: Sequence[Path] = ()) -> Path:
    """Write the facts, which files under `plots/` belong to the report, and the checksums of its tables."""
    content = {
        "schema_version": SCHEMA_VERSION,
        **dataclasses.asdict(facts),
        "plots": list(plots),
        "sha256": {path.name: sha256(path) for path in tables},
    }
    plain = json.loads(json.dumps(content, allow_nan=False, default=list))
    text = json.dumps(seals.sealed(plain), indent=1, ensure_ascii=False, allow_nan=False)
    return replace_text(folder / NAME, text + "\n")


def changed(folder: Path) -> list[str]:
    """The tables that are there and are not those that were written with report.json; [] where that does not say."""
    sums = (_read(folder / NAME) or {}).get("sha256")
    known = sums if isinstance(sums, Mapping) else {}
    there = [folder / name for name in known if Path(name).name == name]
    # Whoever asks may be looking at a stranger's folder: no link in it is followed.
    files = [path for path in there if path.is_file() and not path.is_symlink()]
    return [path.name for path in files if sha256(path) != known[path.name]]


def check(folder: Path, names: Sequence[str]) -> None:
    """Are these tables what was written? Raises StageBenchError: one is not, or report.json is damaged."""
    for name in changed(folder):
        if name in names:
            raise StageBenchError(
                f"{folder / name}: not what was written: {NAME} has another checksum of it; make the report anew from "
                f"its results, or delete {NAME} if you changed the table yourself"
            )


def read(folder: Path) -> Facts | None:
    """The facts; None where there is no such file. Raises StageBenchError: damaged, or of a newer version."""
    content = _read(folder / NAME)
    if content is None:
        return None
    fields = {field.name: content[field.name] for field in dataclasses.fields(Facts) if field.name in content}
    try:
        facts = _FACTS.validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StageBenchError(f"{folder / NAME}: {place}: {first['msg']}") from None
    if problem := study_form.problem(facts.studies):
        raise StageBenchError(f"{folder / NAME}: studies.{problem}")
    return facts


def plots(folder: Path) -> list[str]:
    """The files under `plots/` that an earlier report left there, as it says; [] where there is none to read."""
    try:
        content = _read(folder / NAME) or {}
    except StageBenchError:
        return []
    listed = content.get("plots")
    # Names of plots only: this list is used to delete files.
    if not isinstance(listed, list):
        return []
    return [name for name in listed if isinstance(name, str) and _PLOT.fullmatch(name)]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StageBenchError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise StageBenchError(f"{path}: not a report's facts")
    if version > SCHEMA_VERSION:
        raise StageBenchError(
            f"{path}: version {version} is newer than this stage-bench reads ({SCHEMA_VERSION}); update stage-bench"
        )
    if problem := seals.problem(content, needed=False):
        raise StageBenchError(
            f"{path}: {problem}; make the report anew from its results, or take out {seals.KEY} if you changed it"
        )
    return dict(content)
