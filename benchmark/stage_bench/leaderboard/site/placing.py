"""A site on disk: put in the place of an earlier one, and of nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stage_bench.errors import StageBenchError
from stage_bench.files import write_bytes
from stage_bench.leaderboard.site import layout

SCHEMA_VERSION = 1


def check(folder: Path, reports: Iterable[Path]) -> None:
    """Raises StageBenchError where a site cannot be put into `folder`: asked before any work is done.

    reports: the folders that are published; none may lie in the site, whose files are replaced.
    """
    _published(folder)
    for report in reports:
        if report.resolve().is_relative_to(folder.resolve()):
            raise StageBenchError(f"--to {folder}: the report {report} lies in it; choose a folder beside the reports")


def put(folder: Path, files: Mapping[str, bytes], boards: list[dict[str, Any]]) -> tuple[list[Path], list[Path]]:
    """Write a site to `folder`: the paths written, and those of an earlier site that are gone.

    boards: what site.json says of each. A new folder appears as a whole. In one that holds a site each file is replaced
    as a whole, the index last; interrupted, the same call does the rest. Files that no site put there stay.

    Raises StageBenchError: the folder holds something else, or a file in the way of the site is not of one.
    """
    manifest = _manifest(files, boards)
    paths = [*(path for path in sorted(files) if path != layout.INDEX), layout.INDEX, layout.MANIFEST]
    written = [folder / path for path in paths]
    earlier = _published(folder)
    if not folder.exists():
        _put_whole(folder, {**files, layout.MANIFEST: manifest})
        return written, []
    _check_places(folder, [*files, *earlier], earlier)
    # The manifest knows of every file before the file is there, so that an interruption leaves nothing unknown.
    both = {**dict.fromkeys(earlier, b""), **files}
    write_bytes(folder / layout.MANIFEST, _manifest(both, boards))
    for path in paths[:-1]:
        _replace(folder / path, files[path])
    gone = [folder / path for path in sorted(set(earlier) - set(files)) if (folder / path).is_file()]
    for old in gone:
        old.unlink()
    for parent in sorted({parent for old in gone for parent in old.parents if folder in parent.parents}, reverse=True):
        if not any(parent.iterdir()):
            parent.rmdir()
    write_bytes(folder / layout.MANIFEST, manifest)
    return written, gone


def _published(folder: Path) -> list[str]:
    """The files that an earlier site put into a folder; none where it is empty or not there."""
    if not folder.exists() and not folder.is_symlink():
        return []
    if not folder.is_dir():
        raise StageBenchError(f"--to {folder} is not a folder")
    place = folder / layout.MANIFEST
    # A fresh branch for GitHub Pages, checked out, is empty but for this.
    if all(entry.name == ".git" for entry in folder.iterdir()):
        return []
    if place.is_symlink() or not place.is_file():
        raise StageBenchError(
            f"--to {folder}: it holds something, and no {layout.MANIFEST} says that this is a site; choose an empty "
            "folder"
        )
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        version, files = content["schema_version"], list(content["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageBenchError(f"{place}: cannot be read ({error!r}); choose an empty folder") from None
    if version != SCHEMA_VERSION:
        raise StageBenchError(f"{place}: version {version}, and this stage-bench reads {SCHEMA_VERSION}; update it")
    # This list is used to delete files.
    if foreign := [path for path in files if not isinstance(path, str) or not layout.is_own(path)]:
        raise StageBenchError(f"{place}: names {foreign[0]!r}, which no site has; choose an empty folder")
    return files


def _check_places(folder: Path, paths: Iterable[str], earlier: Iterable[str]) -> None:
    own = set(earlier)
    for path in paths:
        place = folder / path
        for parent in place.relative_to(folder).parents:
            inside = folder / parent
            if inside != folder and (inside.is_symlink() or (inside.exists() and not inside.is_dir())):
                raise StageBenchError(f"{inside} is in the way: it is no folder of the site; move it")
        if place.is_symlink() or place.is_dir() or (place.exists() and path not in own):
            raise StageBenchError(f"{place} is in the way: no earlier `publish` put it there; move it")


def _put_whole(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        os.chmod(temporary, 0o755)
        for path, content in files.items():
            write_bytes(temporary / path, content)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _replace(path: Path, content: bytes) -> None:
    """What is the same is left alone, so that copying the site elsewhere copies only what changed."""
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)


def _manifest(files: Mapping[str, bytes], boards: list[dict[str, Any]]) -> bytes:
    content = {
        "schema_version": SCHEMA_VERSION,
        "made_by": "stage-bench publish",
        "boards": boards,
        "files": {path: hashlib.sha256(files[path]).hexdigest() for path in sorted(files)},
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
