"""What is known of the files in an upstream folder: `checksums.json` beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from stage_bench import files
from stage_bench.errors import StageBenchError

NAME = "checksums.json"


@dataclass(frozen=True)
class Record:
    """One file: its sha256, and the address it came from or "placed by hand"."""

    sha256: str
    origin: str


def read(folder: Path) -> dict[str, Record]:
    """The records by file name; of files that are gone too.

    Raises:
        StageBenchError: the file cannot be read; says what to do.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_bytes())
        return {name: Record(str(entry["sha256"]), str(entry["from"])) for name, entry in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise StageBenchError(
            f"{path}: cannot be read; delete it, and the files beside it are taken as they are"
        ) from None


def write(path: Path, record: Record) -> None:
    """Add or replace the record of the file `path`."""
    records = {**read(path.parent), path.name: record}
    content = {name: {"sha256": entry.sha256, "from": entry.origin} for name, entry in records.items()}
    files.write_json(path.parent / NAME, content)


def present(folder: Path) -> dict[str, str]:
    """The sha256 of every recorded file that is there."""
    return {name: record.sha256 for name, record in read(folder).items() if (folder / name).is_file()}
