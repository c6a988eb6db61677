"""Files of a report: their text, and names that every file system takes."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from stage_bench.files import write_bytes
from stage_bench.leaderboard.repeated import mapped


def replace_text(path: Path, text: str) -> Path:
    """Write `text` in UTF-8 in one step. A broken character, as a failed program may print it, becomes its escape."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))
    return path


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """One header line and one line a row, `\\n` at the end of each on every platform."""
    lines = [",".join(map(_quoted, columns))]
    lines += [",".join(map(_quoted, row)) for row in rows]
    return "\n".join(lines) + "\n"


def csv_columns(columns: Sequence[str], cells: Sequence[Sequence[object]]) -> str:
    """The same from a table's columns, nothing for None."""
    quoted = [mapped(lambda cell: "" if cell is None else _quoted(str(cell)), column) for column in cells]
    lines = [",".join(map(_quoted, columns)), *map(",".join, zip(*quoted, strict=True))]
    return "\n".join(lines) + "\n"


def _quoted(cell: str) -> str:
    """As the csv module writes it by default; a lone `\\r`, which would end the row for a reader, is quoted as well."""
    if "," in cell or '"' in cell or "\n" in cell or "\r" in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell


def file_stem(name: str) -> str:
    """A file name without extension for a dataset: letters, digits, `.`, `_` and `-` stay.

    A name that had to change gets a short hash, so that `a/b` and `a?b` do not share a file.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80]
    if name and safe == name:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{safe}-{digest}" if safe else digest
