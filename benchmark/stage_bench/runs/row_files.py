"""A matrix on disk with checksums of its rows, part by part: embeddings (llms/cache.py), diffusions (diffusion/).

`<notes>/00000.json`, 00001.json, ... say where each part starts and its rows' sha256. Nothing is loaded, only mapped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_ROWS = 4096  # compared at a time


class Damaged(Exception):
    """What is on disk is not what it should be; the message says in a few words what is wrong with it."""


@dataclass(frozen=True)
class RowFile:
    """parts: first row and sha256 of each. Two of the same content have the same shape, dtype and parts."""

    path: Path
    shape: tuple[int, int]
    dtype: str
    parts: tuple[tuple[int, str], ...]

    @property
    def content(self) -> tuple[Any, ...]:
        return self.shape, self.dtype, self.parts

    def damage(self) -> str:
        """What is wrong with the rows, all of which are read; empty where they are as they were written."""
        try:
            rows = _mapped(self.path)
        except Damaged as error:
            return str(error)
        ends = [start for start, _ in self.parts[1:]] + [self.shape[0]]
        for (start, digest), end in zip(self.parts, ends, strict=True):
            if hashlib.sha256(np.ascontiguousarray(rows[start:end]).data).hexdigest() != digest:
                return f"{self.path.name}: rows {start:,} to {end - 1:,} are not what was written"
        return ""

    def difference(self, other: RowFile) -> str:
        """How two of them, both sound, differ; empty where they hold the same numbers, in whatever parts."""
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            return f"{_form(self)} / {_form(other)}"
        ours, theirs = _mapped(self.path), _mapped(other.path)
        rows, largest = 0, 0.0
        for start in range(0, self.shape[0], _ROWS):
            one, two = ours[start : start + _ROWS], theirs[start : start + _ROWS]
            rows += int((one != two).any(axis=1).sum())
            with np.errstate(invalid="ignore"):  # infinities
                gap = np.abs(one.astype(np.float64) - two)
            largest = max(largest, float(gap[np.isfinite(gap)].max(initial=0.0)))
        return f"{rows:,} of {self.shape[0]:,} rows differ, by {largest:.2g} at most" if rows else ""


def _form(file: RowFile) -> str:
    return f"{file.shape[0]:,} x {file.shape[1]:,} {np.dtype(file.dtype).name}"


def look(path: Path, notes: Path) -> RowFile:
    """What a matrix is by its header and its notes; of its rows nothing is read.

    Raises:
        Damaged: it is absent or no matrix, or a note is.
    """
    rows = _mapped(path)
    parts: list[tuple[int, str]] = []
    for number in range(sum(1 for _ in notes.glob("[0-9]*.json"))):
        try:
            note = json.loads((notes / f"{number:05d}.json").read_text(encoding="utf-8"))
            start, digest = note["start"], note["sha256"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            raise Damaged(f"{notes.name}/{number:05d}.json is absent or no note") from None
        follows = 0 if not parts else parts[-1][0] + 1
        if not isinstance(start, int) or not follows <= start < len(rows) or (not parts and start):
            raise Damaged(f"{notes.name}/{number:05d}.json is of no part of {path.name}")
        parts.append((start, str(digest)))
    if not parts:
        raise Damaged(f"{notes.name}/ holds no checksums")
    return RowFile(path, (rows.shape[0], rows.shape[1]), rows.dtype.str, tuple(parts))


def _mapped(path: Path) -> np.ndarray:
    """Raises Damaged: it is absent, or no matrix of floating-point numbers that ends where it should."""
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise Damaged(f"{path.name} is absent") from None
    except OSError:
        raise
    except Exception:  # a damaged header: whatever numpy's parser makes of it
        raise Damaged(f"{path.name} is no matrix") from None
    good = isinstance(rows, np.memmap) and rows.ndim == 2 and rows.dtype.kind == "f" and rows.flags.c_contiguous
    if not good or rows.offset + rows.nbytes != path.stat().st_size:
        raise Damaged(f"{path.name} is no matrix")
    return rows
