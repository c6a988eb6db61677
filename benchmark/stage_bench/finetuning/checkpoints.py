"""Which checkpoint training goes on from: the last one that is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from stage_bench import files

_NOTE = "whole.json"  # written last: every file of the checkpoint with its checksum


def folder_of(root: Path, step: int) -> Path:
    """As transformers names it."""
    return root / f"checkpoint-{step}"


def seal(checkpoint: Path, seconds: float) -> None:
    """Note that a checkpoint is whole; seconds: what training has taken up to it."""
    sums = {path.name: files.sha256(path) for path in sorted(checkpoint.iterdir()) if path.name != _NOTE}
    files.write_json(checkpoint / _NOTE, {"files": sums, "seconds": seconds})


def seconds(checkpoint: Path) -> float:
    """What training had taken up to it."""
    return float(json.loads((checkpoint / _NOTE).read_text(encoding="utf-8"))["seconds"])


def last(root: Path, say: Callable[[str], None]) -> Path | None:
    """The last checkpoint that can be used. Later ones are removed, each with a word: training writes them anew."""
    found = [path for path in root.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    for checkpoint in sorted(found, key=_step, reverse=True):
        if _is_usable(root, checkpoint):
            return checkpoint
        say(f"{checkpoint.name} is damaged or not finished; going on from the one before")
        shutil.rmtree(checkpoint)
    return None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _is_usable(root: Path, checkpoint: Path) -> bool:
    """Whether it is whole, and the one with the best weights up to there is, too."""
    if not _is_whole(checkpoint):
        return False
    best = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["best_global_step"]
    return best is None or best == _step(checkpoint) or _is_whole(folder_of(root, best))


def _is_whole(checkpoint: Path) -> bool:
    try:
        sums = json.loads((checkpoint / _NOTE).read_text(encoding="utf-8"))["files"]
        return all(files.sha256(checkpoint / name) == digest for name, digest in sums.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
