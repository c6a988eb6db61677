"""Files of a report: written whole or not at all, under names every file system takes."""

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def replace_file(path: Path, data: bytes) -> Path:
    """Write `data` to `path` under a temporary name and rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """One header line and one line a row, `\\n` at the end of each on every platform."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def file_stem(name: str) -> str:
    """A file name without extension for a dataset: letters, digits, `.`, `_` and `-` stay.

    A name that had to change gets a short hash, so that `a/b` and `a?b` do not share a file.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80]
    if safe == name:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{safe}-{digest}" if safe else digest
