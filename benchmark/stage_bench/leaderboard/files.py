"""Files of a report: their text, and names that every file system takes."""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from stage_bench.files import write_bytes


def replace_text(path: Path, text: str) -> Path:
    """Write `text` in UTF-8 in one step. A broken character, as a failed program may print it, becomes its escape."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))
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
    if name and safe == name:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{safe}-{digest}" if safe else digest
