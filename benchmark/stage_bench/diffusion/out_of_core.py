"""A recipe carried out under a memory budget: features and result in files, panels of columns in memory.

    <folder>/plan.json              what is diffused, in panels of how many columns
    <folder>/parts/00000-01.f32     block 1 of panel 0, float32 [num_nodes, columns], with a note 00000-01.json of its
                                    sha256 and its columns' moments; gone once the matrix is whole
    <folder>/matrix.npy             the result [num_nodes, width], filled in by ranges of rows, in place
    <folder>/rows/00000.json        written after a range's rows are on the disk: their sha256
    <folder>/manifest.json          written last: all rows are there

Panels are written one after another and put side by side at the end: written into the rows of the result right away,
every panel would have the disk read and write all of it. What is there with a note that fits is not done again; what
has another sha256 than its note is damaged, named, and done again. With the manifest goes what it all took, so without
a sound one all is done again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from stage_bench import files
from stage_bench.dgl_library import dgl
from stage_bench.diffusion import budget as memory
from stage_bench.diffusion import documents
from stage_bench.diffusion import neighbours as in_edges
from stage_bench.diffusion.columns import Features, Moments, Progress, moments, parts_of, ranges, silent, stored
from stage_bench.diffusion.engine import panels_of
from stage_bench.diffusion.neighbours import Neighbours
from stage_bench.diffusion.products import Panels
from stage_bench.diffusion.recipe import Recipe
from stage_bench.diffusion.rows import MappedRows
from stage_bench.errors import DiskFull, JobError

SCHEMA_VERSION = 1

_RANGE_BYTES = 1 << 25  # of the result; while one is put together, some five times that is in memory
_CHUNK = 1 << 24


def diffuse_to(
    folder: Path,
    graph: dgl.DGLGraph | Neighbours,
    features: Tensor | np.ndarray,
    recipe: Recipe,
    budget: int,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> np.memmap:
    """`engine.diffuse` under a budget: the same numbers, to rounding, as a read-only map of `folder/matrix.npy`.

    features: float32 [num_nodes, dim], in memory or a memory-mapped file, which is read part by part.
    budget: bytes that this process may hold, with what it holds already.
    folder: named by what determines features and graph; of these, only some rows are compared with what is there.
    say: told what of the folder is damaged.
    Interrupted or killed at any moment, the next call goes on from the last block. A second process waits for the
    first.

    Raises:
        JobError: the budget or the disk is too small (the message says what is needed); `folder` holds the diffusion
            of something else; float16 is asked for and has no room for a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(0, 1, "waiting for another process that diffuses the same")
            lock.acquire()
        with torch.no_grad():
            return _Work(folder, graph, features, recipe, budget, progress, say).matrix()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"the disk with {folder} is full: make room and run again; finished blocks are kept") from None
    finally:
        lock.release()


def begin(
    folder: Path,
    graph: dgl.DGLGraph | Neighbours,
    features: Tensor | np.ndarray,
    recipe: Recipe,
    budget: int,
    machines: int,
) -> int:
    """Plan a diffusion that several machines do together, each some panels; how many panels there are.

    budget: bytes that a process on any of them may hold. After `diffuse_panels` of all `diffuse_to` joins them.

    Raises:
        JobError: as `diffuse_to`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        return _Work(folder, graph, features, recipe, budget, silent, lambda line: None).begin(machines)


def diffuse_panels(
    folder: Path,
    graph: dgl.DGLGraph | Neighbours,
    features: Tensor | np.ndarray,
    recipe: Recipe,
    budget: int,
    panels: Collection[int],
    progress: Progress = silent,
) -> list[Path]:
    """Diffuse some panels of what `begin` has planned; the files that hold them, below `folder`.

    No two processes may do the same panel at once. What is there already is not done again.

    Raises:
        JobError: as `diffuse_to`; nothing was planned here.
    """
    with torch.no_grad():
        return _Work(folder, graph, features, recipe, budget, progress, lambda line: None).some(panels)


def seconds_of(folder: Path) -> float:
    """What making a finished matrix took: the call that finished it, not those that were interrupted."""
    return float((documents.manifest(folder)[0] or {}).get("seconds", 0.0))


@dataclass(frozen=True)
class _Part:
    """A block of a panel: columns `first` to `last` of the diffused features."""

    number: int
    panel: int
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.panel:05d}-{self.number:02d}"


class _Work:
    """One call of `diffuse_to`, with the folder locked."""

    def __init__(
        self,
        folder: Path,
        graph: dgl.DGLGraph | Neighbours,
        features: Tensor | np.ndarray,
        recipe: Recipe,
        budget: int,
        progress: Progress,
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.graph, self.features = folder, graph, features
        self.recipe, self.budget, self.progress, self.say = recipe, budget, progress, say
        self.num_nodes, self.raw_dim = int(features.shape[0]), int(features.shape[1])
        nodes = graph.num_nodes if isinstance(graph, Neighbours) else graph.num_nodes()
        if nodes != self.num_nodes:
            raise JobError(f"the features have {self.num_nodes:,} rows, the graph has {nodes:,} nodes")
        self.num_edges = graph.num_edges if isinstance(graph, Neighbours) else graph.num_edges()
        self.dim = recipe.dim(self.raw_dim)
        self.width = recipe.width(self.raw_dim)
        self.path = folder / "matrix.npy"
        self.dtype = np.dtype(recipe.storage).newbyteorder("<")
        self.range_rows = max(1, _RANGE_BYTES // (self.width * self.dtype.itemsize))
        self.content = {
            "schema_version": SCHEMA_VERSION,
            "recipe": recipe.to_json(),
            "num_nodes": self.num_nodes,
            "num_edges": self.num_edges,
            "dim": self.raw_dim,
            "sample": self._sample(),
        }

    def matrix(self) -> np.memmap:
        begin = time.perf_counter()
        planned = self._planned()
        manifest, problem = documents.manifest(self.folder)
        if problem:
            self.say(f"{self.folder / documents.MANIFEST}: {problem}; all is diffused again, to know what it takes")
            shutil.rmtree(self.folder / "rows", ignore_errors=True)
        missing = [place for place in self._row_ranges() if not self._is_sound(*place)]
        self._tell_damage(missing)
        if missing:
            self._make(self._columns(planned), missing)
        if missing or manifest is None:
            seconds = round(time.perf_counter() - begin, 4)
            documents.write(self.folder / documents.MANIFEST, {**self.content, "width": self.width, "seconds": seconds})
        shutil.rmtree(self.folder / "parts", ignore_errors=True)
        result: np.memmap = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return result

    def _planned(self) -> int | None:
        """How many columns a panel was to have when this was begun; None where it was not.

        Raises:
            JobError: what was begun here is something else.
        """
        found, problem = documents.look(self.folder / "plan.json")
        if problem:
            self.say(f"{self.folder / 'plan.json'}: {problem}; left out of account")
        if found is None:
            return None
        unlike = [key for key, value in self.content.items() if found.get(key) != value]
        if unlike:
            raise JobError(
                f"{self.folder} holds the diffusion of something else (another {unlike[0]}): "
                "delete it, or choose another folder"
            )
        columns = found.get("columns")
        return columns if isinstance(columns, int) and columns > 0 else None

    def _columns(self, planned: int | None) -> int:
        """Columns of a panel: as many as the budget has room for, or as planned before where that fits.

        Raises:
            JobError: there is no room for a single column.
        """
        held = memory.resident_bytes()
        if not isinstance(self.graph, Neighbours):
            held += 20 * self.num_edges + 16 * self.num_nodes  # see `budget.needed_bytes`
        elif not self.graph.in_memory and self.recipe.uses("triangles"):
            held += 4 * self.num_edges

        def needed(columns: int) -> int:
            rows = 5 * _RANGE_BYTES
            return held + rows + memory.work_bytes(self.num_nodes, self.num_edges, self.raw_dim, self.recipe, columns)

        if needed(1) > self.budget:
            raise JobError(
                f"a memory budget of {memory.shown(self.budget)} is too small to diffuse {self.num_nodes:,} nodes and "
                f"{self.num_edges:,} edges, one column at a time: at least {memory.shown(needed(1))} are needed, of "
                f"which {memory.shown(max(memory.resident_bytes(), 1000))} are in use already"
            )
        if planned is not None and needed(planned) <= self.budget:
            return planned
        most = (self.budget - needed(0)) // (needed(1) - needed(0))
        panels = -(-self.dim // min(self.dim, most))
        even = -(-self.dim // panels)
        padded = -(-even // 16) * 16  # whole vector registers
        return min(padded if padded <= most else even, self.dim)

    def _sample(self) -> str:
        """Of some rows of the features and some edges: enough to tell one input from another, and read in no time."""
        digest = hashlib.sha256()
        reader = Features(self.features)
        for row in _spread(self.num_nodes):
            digest.update(reader.read(row, row + 1).cpu().numpy().tobytes())
        for node in _spread(self.num_nodes):
            if isinstance(self.graph, Neighbours):
                sources = self.graph.sources(*self.graph.indptr[node : node + 2].tolist())
            else:
                sources = self.graph.in_edges(node)[0].to(torch.int32)
            digest.update(sources.sort().values.cpu().numpy().tobytes())
        return digest.hexdigest()

    def _make(self, columns: int, missing: list[tuple[int, int, int]]) -> None:
        """The missing ranges of rows, and before them whatever parts are missing."""
        if documents.look(self.folder / "plan.json")[0] != {**self.content, "columns": columns}:
            shutil.rmtree(self.folder / "parts", ignore_errors=True)
            documents.write(self.folder / "plan.json", {**self.content, "columns": columns})
        for left_over in (self.folder / "parts").glob(".*"):  # by a process that was killed
            left_over.unlink()
        parts = self._parts(columns)
        notes = {part.name: note for part in parts if (note := self._note(part)) is not None}
        self._check_disk([part for part in parts if part.name not in notes])
        source = Features(self.features, self.recipe.svd, self.recipe.standardize)
        steps = len(parts) + len(missing)
        self._make_parts(parts, columns, source, notes, steps)
        self._assemble(parts, source, notes, missing, steps)

    def begin(self, machines: int) -> int:
        """The number of panels, of which every machine has one if there are columns enough."""
        planned = self._planned()
        if planned is None:
            planned = min(self._columns(None), max(1, -(-self.dim // machines)))
            shutil.rmtree(self.folder / "parts", ignore_errors=True)
            documents.write(self.folder / documents.PLAN, {**self.content, "columns": planned})
        return -(-self.dim // planned)

    def some(self, panels: Collection[int]) -> list[Path]:
        """The files of some panels, made where they are not there yet."""
        columns = self._planned()
        if columns is None:
            raise JobError(f"{self.folder}: no diffusion was begun here")
        if self._columns(columns) != columns:
            raise JobError(
                f"a memory budget of {memory.shown(self.budget)} has no room for panels of {columns} columns"
            )
        parts = [part for part in self._parts(columns) if part.panel in panels]
        notes = {part.name: note for part in parts if (note := self._note(part)) is not None}
        source = Features(self.features, self.recipe.svd, self.recipe.standardize)
        self._make_parts(parts, columns, source, notes, len(parts))
        return [path for part in parts for path in (self._path(part), self._path(part).with_suffix(".json"))]

    def _parts(self, columns: int) -> list[_Part]:
        return [
            _Part(number, panel, first, last)
            for panel, (first, last) in enumerate(ranges(self.dim, columns))
            for number, block in enumerate(self.recipe.blocks)
            if block.power > 0  # the features themselves are read where they are
        ]

    def _make_parts(
        self, parts: list[_Part], columns: int, source: Features, notes: dict[str, dict[str, Any]], steps: int
    ) -> None:
        """Those that have no note yet."""
        if len(notes) == len(parts):
            return
        edges = self.graph if isinstance(self.graph, Neighbours) else in_edges.of_graph(self.graph)
        panels = panels_of(edges, self.recipe, columns)
        for panel in sorted({part.panel for part in parts}):
            self._make_panel([part for part in parts if part.panel == panel], panels, source, notes, steps)

    def _make_panel(
        self, parts: list[_Part], panels: Panels, source: Features, notes: dict[str, dict[str, Any]], steps: int
    ) -> None:
        """Every block of a panel that is not there yet."""
        by_number = {part.number: part for part in parts}
        held: int | None = None  # the block that is in memory
        for part in parts:
            if part.name in notes:
                continue
            self.progress(len(notes), steps, "blocks diffused")
            width = part.last - part.first
            origin, times = self.recipe.origin(part.number)
            if origin is None:
                source.fill(panels.source(width), part.first)
            elif origin != held:
                _read_into(panels.source(width), self._path(by_number[origin]))
            panel = panels.advance(self.recipe.blocks[part.number].operator, times, width)
            notes[part.name] = self._write_part(part, panel)
            held = part.number

    def _assemble(
        self,
        parts: list[_Part],
        source: Features,
        notes: dict[str, dict[str, Any]],
        missing: list[tuple[int, int, int]],
        steps: int,
    ) -> None:
        """The missing ranges of rows of the result, from the parts."""
        if self._result() is None:
            self._create()
        own = source.moments() if self.recipe.standardize and any(not b.power for b in self.recipe.blocks) else None
        offset = self.path.stat().st_size - self.num_nodes * self.width * self.dtype.itemsize
        for count, (number, start, stop) in enumerate(missing):
            self.progress(len(parts) + count, steps, "blocks diffused")
            rows = torch.empty(stop - start, self.width, dtype=getattr(torch, self.recipe.storage))

            def put(block: int, first: int, x: Tensor, scale: Moments | None, rows: Tensor = rows) -> None:
                x = x if scale is None else scale.standardized(x)
                place = block * self.dim + first
                rows[:, place : place + x.shape[1]] = stored(x, rows.dtype)

            for block, wanted in enumerate(self.recipe.blocks):
                if wanted.power == 0:
                    put(block, 0, source.read(start, stop), own)
            for part in parts:
                x = torch.empty(stop - start, part.last - part.first)
                _read_into(x, self._path(part), start)
                put(part.number, part.first, x, _moments(notes[part.name]))
            data = rows.numpy().data.cast("B")
            # Written, not mapped: a full disk is then an error here and not a signal that kills the process.
            with self.path.open("r+b") as file:
                file.seek(offset + start * self.width * self.dtype.itemsize)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            note = {"start": start, "sha256": hashlib.sha256(data).hexdigest()}
            files.write_json(self.folder / "rows" / f"{number:05d}.json", note)

    def _row_ranges(self) -> Iterator[tuple[int, int, int]]:
        """Number, start and stop."""
        for number, (start, stop) in enumerate(ranges(self.num_nodes, self.range_rows)):
            yield number, start, stop

    def _is_sound(self, number: int, start: int, stop: int) -> bool:
        note = _json(self.folder / "rows" / f"{number:05d}.json")
        result = self._result()
        if note is None or result is None:
            return False
        digest = hashlib.sha256(np.ascontiguousarray(MappedRows(result).read(start, stop)).data).hexdigest()
        return bool(note.get("start") == start and note.get("sha256") == digest)

    def _tell_damage(self, missing: list[tuple[int, int, int]]) -> None:
        """Of ranges that are not sound: which were once?"""
        for number, start, stop in missing:
            if (self.folder / "rows" / f"{number:05d}.json").exists():
                rows = f"rows {start:,} to {stop - 1:,}"
                self.say(f"{self.path}: {rows} are not what was written, or their note is not; they are made again")

    def _result(self) -> np.memmap | None:
        """The file of the result, whatever is in it yet; None where it is not there or not what it should be.

        Raises:
            OSError: it is there and cannot be read.
        """
        try:
            result = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            return None
        except OSError:
            raise
        except Exception:  # a damaged header: whatever numpy's parser makes of it
            return None
        good = isinstance(result, np.memmap) and result.flags.c_contiguous and result.dtype == self.dtype
        return result if good and result.shape == (self.num_nodes, self.width) else None

    def _create(self) -> None:
        """All zeros, which take no room on the disk yet."""
        with files.writing(self.path) as file:
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.num_nodes, self.width)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + self.num_nodes * self.width * self.dtype.itemsize)

    def _path(self, part: _Part) -> Path:
        return self.folder / "parts" / f"{part.name}.f32"

    def _write_part(self, part: _Part, panel: Tensor) -> dict[str, Any]:
        note: dict[str, Any] = {"first": part.first, "last": part.last}
        if self.recipe.standardize:
            own = moments(parts_of(panel))
            # an infinity is no number in JSON
            deviation = [value if value < float("inf") else None for value in own.deviation.tolist()]
            note |= {"mean": own.mean.tolist(), "deviation": deviation}
        digest = hashlib.sha256()
        data = panel.numpy().data.cast("B")
        with files.writing(self._path(part)) as file:
            for start, stop in ranges(len(data), _CHUNK):
                digest.update(data[start:stop])
                file.write(data[start:stop])
        documents.write(self._path(part).with_suffix(".json"), {**note, "sha256": digest.hexdigest()})
        return note

    def _note(self, part: _Part) -> dict[str, Any] | None:
        """The note of a part that is there as it was written."""
        note, _ = documents.look(self._path(part).with_suffix(".json"))
        path = self._path(part)
        if note is None or not path.is_file() or (note.get("first"), note.get("last")) != (part.first, part.last):
            return None
        return note if files.sha256(path) == note.get("sha256") else None

    def _check_disk(self, parts: list[_Part]) -> None:
        """That the parts to write and the result fit on the disk."""
        needed = sum(part.last - part.first for part in parts) * self.num_nodes * 4
        # what is still a hole takes no room
        there = self.path.stat().st_blocks * 512 if self.path.is_file() else 0
        needed += max(0, self.num_nodes * self.width * self.dtype.itemsize - there)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise JobError(
                f"diffusing needs {memory.shown(needed)} more on the disk with {self.folder}, which has "
                f"{memory.shown(free)} free: make room and run again"
            )


def _moments(note: dict[str, Any]) -> Moments | None:
    if "mean" not in note:
        return None
    deviation = [float("inf") if value is None else value for value in note["deviation"]]
    return Moments(torch.tensor(note["mean"], dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32))


def _read_into(x: Tensor, path: Path, start: int = 0) -> None:
    """Rows from `start` on of a file of such rows."""
    with path.open("rb", buffering=0) as file:
        file.seek(start * x.shape[1] * 4)
        data = x.numpy().data.cast("B")
        filled = 0
        while filled < len(data):
            count = file.readinto(data[filled:])
            if not count:
                raise JobError(f"{path} was cut short while it was in use: run again")
            filled += count


def _spread(count: int) -> list[int]:
    """Up to 64 of the numbers below `count`, spread over them."""
    return sorted({int(place) for place in np.linspace(0, count - 1, 64)}) if count else []


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
