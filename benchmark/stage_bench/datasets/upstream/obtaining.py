"""Obtaining a named dataset: fetch its upstream files, unpack and read them, write the folder format."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from stage_bench import registry
from stage_bench.datasets.folder import DatasetMissing
from stage_bench.datasets.spec import DatasetSpec, Source
from stage_bench.datasets.upstream import archives, checksums, fetching, folder_writing
from stage_bench.datasets.upstream.table import Table
from stage_bench.errors import StageBenchError

Step = Callable[[int, int, str], None]

_UNPACKED = "unpacked"


def upstream_folder(data: Path, name: str) -> Path:
    """Where the upstream files of a dataset lie, and where a person puts those that cannot be fetched."""
    return data / "upstream" / name


def obtain(spec: DatasetSpec, data: Path, on_step: Step = lambda done, total, what: None) -> list[str]:
    """Have `<data>/<name>/` in the folder format; what is there is not made again.

    on_step: (done, total, what is being done). While fetching these are bytes, total 0 where the size is unknown;
    in the other steps both are 0.

    Returns:
        Lines for the user: what was fetched, what the files hold, what could not be had and is not needed.

    Raises:
        DatasetMissing: stage-bench knows no upstream files of it; says what to get.
        StageBenchError: a file cannot be had or is not what it should be; says what to do.
    """
    folder = data / spec.name
    if (folder / "dataset.yaml").is_file():
        return []
    if not spec.sources:
        raise DatasetMissing(f"dataset '{spec.name}' is not in the data folder {data}; {spec.how_to_get}")
    upstream = upstream_folder(data, spec.name)
    try:
        upstream.mkdir(parents=True, exist_ok=True)
        with _locked(
            upstream / ".lock", lambda: on_step(0, 0, f"waiting for another process that fetches {spec.name}")
        ):
            if (folder / "dataset.yaml").is_file():  # another process was faster
                return []
            if folder.exists():
                raise StageBenchError(f"{folder}: is there, but holds no dataset.yaml; complete it or move it away")
            _clear(data, spec.name)
            lines = [line for source in spec.sources for line in _fetch(source, upstream, on_step)]
            for source in spec.sources:
                _unpack(source, upstream, on_step)
            on_step(0, 0, f"reading {spec.name}")
            table = _read(spec, upstream)
            on_step(0, 0, f"writing {folder}")
            folder_writing.write(table, folder, spec.name, checksums.present(upstream))
            _clear(data, spec.name)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full; free some space and run it again" if full else error.strerror or str(error)
        raise StageBenchError(f"dataset '{spec.name}': {error.filename or data}: {what}") from None
    return [*lines, *table.notes, f"{spec.name} is in {folder}"]


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _clear(data: Path, name: str) -> None:
    """What an interrupted call left: files that were unpacked are unpacked again, a half-written folder is dropped."""
    upstream = upstream_folder(data, name)
    for path in (upstream / _UNPACKED, *data.glob(f".{name}.*")):
        shutil.rmtree(path, ignore_errors=True)


def _fetch(source: Source, upstream: Path, on_step: Step) -> list[str]:
    unpacked = upstream / archives.stem(source.file)
    if source.unpack and unpacked.exists() and not (upstream / source.file).exists():
        if unpacked.is_file():
            return fetching.fetch(replace(source, file=unpacked.name, sha256=""), upstream)
        return [f"{unpacked.name}/ was there already: taken as it is"]
    on_step(0, 0, f"fetching {source.file}")
    try:
        return fetching.fetch(source, upstream, lambda done, total: on_step(done, total, f"fetching {source.file}"))
    except StageBenchError as error:
        if source.optional and not (upstream / source.file).exists():
            return [f"without {source.file}, which is optional: {error}"]
        raise


def _unpack(source: Source, upstream: Path, on_step: Step) -> None:
    archive = upstream / source.file
    if source.unpack and archive.exists():
        on_step(0, 0, f"unpacking {source.file}")
        target = upstream / _UNPACKED / archives.stem(source.file)
        archives.unpack(archive, target, max_bytes=source.max_unpacked)


def _read(spec: DatasetSpec, upstream: Path) -> Table:
    table: Table = registry.resolve(spec.reader)(upstream)
    if spec.nodes not in (None, table.num_nodes):
        raise StageBenchError(
            f"{upstream}: the files hold {table.num_nodes} nodes, but {spec.name} has {spec.nodes}; they are not the "
            "published ones"
        )
    return table
