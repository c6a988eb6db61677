"""report.json: what stands beside the rows of a report, so that it can be made again from its own folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stage_bench.errors import StageBenchError
from stage_bench.leaderboard.files import replace_text
from stage_bench.leaderboard.report import Facts

NAME = "report.json"
SCHEMA_VERSION = 1

_FACTS: TypeAdapter[Facts] = TypeAdapter(Facts)


def write(folder: Path, facts: Facts, plots: Sequence[str]) -> Path:
    """Write the facts, and which files under `plots/` belong to the report."""
    content = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(facts), "plots": list(plots)}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=list)
    return replace_text(folder / NAME, text + "\n")


def read(folder: Path) -> Facts | None:
    """The facts; None where there is no such file. Raises StageBenchError: damaged, or of a newer version."""
    content = _read(folder / NAME)
    if content is None:
        return None
    fields = {field.name: content[field.name] for field in dataclasses.fields(Facts) if field.name in content}
    try:
        return _FACTS.validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StageBenchError(f"{folder / NAME}: {place}: {first['msg']}") from None


def plots(folder: Path) -> list[str]:
    """The files under `plots/` that an earlier report left there, as it says; [] where there is none to read."""
    try:
        content = _read(folder / NAME) or {}
    except StageBenchError:
        return []
    # Names only: this list is used to delete files.
    return [name for name in content.get("plots", []) if isinstance(name, str) and Path(name).name == name]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StageBenchError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise StageBenchError(f"{path}: not a report's facts")
    if version > SCHEMA_VERSION:
        raise StageBenchError(
            f"{path}: version {version} is newer than this stage-bench reads ({SCHEMA_VERSION}); update stage-bench"
        )
    return dict(content)
