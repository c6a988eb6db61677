"""Files that `torch.save` wrote with PyG's `Data` or a dict in them, read without PyG, torch or running any of it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench.datasets.upstream import inert_pickles
from stage_bench.datasets.upstream.inert_pickles import Record
from stage_bench.errors import StageBenchError, shown


def read(path: Path) -> dict[str, Any]:
    """The fields by name: tensors and arrays as numpy arrays (of texts: dtype object), else plain values or Records.

    Raises:
        StageBenchError: it is no such file, is damaged, or asks for a name that is not admitted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            value = inert_pickles.read(archive)
    except FileNotFoundError:
        raise StageBenchError(f"{path}: no such file") from None
    except inert_pickles.Refused as error:
        raise StageBenchError(f"{path}: refused, and nothing in it was run: {shown(error)}") from None
    except Exception as error:  # whatever a damaged file makes the zip and pickle modules raise
        what = " ".join(str(error).split()) or type(error).__name__
        raise StageBenchError(
            f"{path}: damaged, or not a file of torch.save since torch 1.6 ({what}); delete it to fetch it again"
        ) from None
    fields = _fields(value)
    if fields is None:
        raise StageBenchError(f"{path}: holds a {type(value).__name__}, neither PyG's Data nor a dict")
    return fields


def _fields(value: Any) -> dict[str, Any] | None:
    """Of a dict, or of a Data object as PyG laid it out before version 2.0 and does since."""
    if isinstance(value, Record):
        store = value.attributes.get("_store")
        value = store.attributes.get("_mapping") if isinstance(store, Record) else value.attributes
    if not isinstance(value, dict):
        return None
    named = {str(key): field for key, field in value.items()}
    return {key: field for key, field in named.items() if not key.startswith("_") and field is not None}


def vector(path: Path, fields: dict[str, Any], name: str) -> np.ndarray:
    """A field with one value a node, [num_nodes] or [num_nodes, 1], as [num_nodes].

    Raises:
        StageBenchError: there is no such field, or it has another shape.
    """
    if name not in fields:
        raise StageBenchError(f"{path}: holds no '{name}' (there are {shown(', '.join(sorted(fields)))})")
    values = fields[name]
    if isinstance(values, (list, tuple)):
        values = np.array(values, dtype=object)
    if not isinstance(values, np.ndarray) or values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)):
        shape = getattr(values, "shape", type(values).__name__)
        raise StageBenchError(f"{path}: '{name}' is {shape}, expected one value a node")
    return values.reshape(-1)


def labels(path: Path, fields: dict[str, Any]) -> np.ndarray:
    """The field `y` as int64 [num_nodes].

    Raises:
        StageBenchError: there is no such field, or it does not hold one whole number a node.
    """
    values = vector(path, fields, "y")
    if values.dtype.kind not in "iu":
        raise StageBenchError(f"{path}: 'y' holds {values.dtype}, expected whole numbers")
    return values.astype(np.int64)


def edges(path: Path, fields: dict[str, Any]) -> np.ndarray:
    """int64 [2, num_edges], sources above destinations: `edge_index`, else the sparse matrix `adj_t`.

    Raises:
        StageBenchError: neither is there, or it is of another form.
    """
    index = fields["edge_index"] if "edge_index" in fields else _of_sparse(fields.get("adj_t"))
    if not isinstance(index, np.ndarray) or index.ndim != 2 or index.shape[0] != 2 or index.dtype.kind not in "iu":
        raise StageBenchError(
            f"{path}: neither 'edge_index' nor 'adj_t' holds edges (there are {shown(', '.join(sorted(fields)))})"
        )
    return index.astype(np.int64)


def _of_sparse(matrix: Any) -> np.ndarray | None:
    """Of torch_sparse's SparseTensor. It is the transposed adjacency matrix: rows are destinations."""
    storage = matrix.attributes.get("storage") if isinstance(matrix, Record) else None
    if not isinstance(storage, Record):
        return None
    row, rowptr, col = (storage.attributes.get(key) for key in ("_row", "_rowptr", "_col"))
    if row is None and isinstance(rowptr, np.ndarray) and isinstance(col, np.ndarray):
        row = _rows(rowptr, len(col))
    if not isinstance(row, np.ndarray) or not isinstance(col, np.ndarray) or row.shape != col.shape:
        return None
    return np.stack([col, row])


def _rows(rowptr: np.ndarray, size: int) -> np.ndarray | None:
    """The row of each of `size` entries, from where each row begins."""
    if rowptr.ndim != 1 or rowptr.dtype.kind not in "iu":
        return None
    counts: np.ndarray = np.diff(rowptr.astype(np.int64))
    return np.repeat(np.arange(len(counts)), counts) if (counts >= 0).all() and counts.sum() == size else None
