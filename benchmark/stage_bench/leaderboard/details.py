"""What the page says of single runs beyond their rows, kept beside these in details.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stage_bench.errors import StageBenchError
from stage_bench.leaderboard.files import replace_text

NAME = "details.json"
SCHEMA_VERSION = 1

Details = Mapping[str, Mapping[str, Any]]
"""By run id: `configuration`, `environment`, `curve`, `weights` (report.Report)."""


def write(folder: Path, details: Details) -> Path:
    """Write what is known of some runs; the same details give the same bytes. A NaN in a curve is null there."""
    content = {"schema_version": SCHEMA_VERSION, "runs": {id_: _with_nulls(details[id_]) for id_ in sorted(details)}}
    return replace_text(folder / NAME, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def read(folder: Path) -> Details:
    """What was written; empty where there is no such file. Raises StageBenchError: damaged, or of a newer version."""
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise StageBenchError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StageBenchError(
            f"{path}: version {version} is newer than this stage-bench reads ({SCHEMA_VERSION}); update stage-bench"
        )
    runs = content.get("runs") if isinstance(content, dict) and isinstance(version, int) else None
    try:
        json.dumps(runs, allow_nan=False)  # as the page has them
    except ValueError:
        raise StageBenchError(f"{path}: holds NaN or an infinity, which no JSON has") from None
    if not isinstance(runs, dict) or not all(_is_detail(detail) for detail in runs.values()):
        raise StageBenchError(f"{path}: not the details of runs; delete it, or make the report anew")
    for detail in runs.values():
        if "curve" in detail:
            detail["curve"] = [math.nan if value is None else value for value in detail["curve"]]
    return runs


def _with_nulls(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    curve = detail.get("curve", [])
    if all(map(math.isfinite, curve)):
        return detail
    return {**detail, "curve": [value if math.isfinite(value) else None for value in curve]}


def _is_detail(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    curve = value.get("curve", [])
    numbers = isinstance(curve, list) and all(
        each is None or isinstance(each, float) or (isinstance(each, int) and abs(each) < 2**53) for each in curve
    )
    mappings = (value.get(name, {}) for name in ("configuration", "environment", "weights"))
    return numbers and all(isinstance(mapping, dict) for mapping in mappings)
