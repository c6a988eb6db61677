"""Which test nodes each run was right about: what tests on nodes need, kept beside the rows in hits.npz."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from stage_bench import array_files
from stage_bench.errors import StageBenchError, brief
from stage_bench.files import write_bytes
from stage_bench.leaderboard.samples import Hits

NAME = "hits.npz"


def write(folder: Path, hits: Hits) -> Path:
    """Write bool [test nodes] of each run id, compressed; the same hits give the same bytes."""
    file = io.BytesIO()
    np.savez_compressed(file, **{id_: hits[id_] for id_ in sorted(hits)})  # type: ignore[arg-type]
    write_bytes(folder / NAME, file.getvalue())
    return folder / NAME


def read(folder: Path) -> Hits:
    """What was written; empty where there is no such file. Raises StageBenchError: it cannot be read."""
    try:
        found = array_files.read(folder / NAME)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StageBenchError(f"{folder / NAME}: cannot be read: {error}; delete it, or make the report anew") from None
    for id_, hit in found.items():
        if hit.ndim != 1 or hit.dtype != np.bool_:
            raise StageBenchError(f"{folder / NAME}: {brief(id_)} is not a list of right and wrong")
    return found
