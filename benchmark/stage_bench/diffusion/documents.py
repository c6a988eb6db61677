"""What a diffusion's folder says of itself in JSON, each file with a checksum. Knows nothing of torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stage_bench import files, seals

MANIFEST, PLAN = "manifest.json", "plan.json"


def write(path: Path, content: dict[str, Any]) -> None:
    files.write_json(path, seals.sealed(content, _context(path)))


def look(path: Path) -> tuple[dict[str, Any] | None, str]:
    """What was written there, None where nothing was; and what is wrong with it where it cannot be used."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None, ""
    except (ValueError, RecursionError):
        return None, "no JSON"
    if not isinstance(value, dict):
        return None, "no JSON object"
    problem = seals.problem(value, needed=False, context=_context(path))
    value.pop(seals.KEY, None)
    return (None, problem) if problem else (value, "")


def manifest(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The same of the manifest, which is written last."""
    found, problem = look(folder / MANIFEST)
    if found is not None and not isinstance(found.get("seconds"), (int, float)):
        return None, "no manifest"
    return found, problem


def _context(path: Path) -> str:
    """The folder is named by what determines its content: a file of another one is none of it."""
    return f"{path.parent.name}/{path.name}"
