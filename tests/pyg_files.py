"""Files as `torch.save` writes them with objects of PyG and torch_sparse in them, without either of the two."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_CLASSES: dict[str, tuple[str, ...]] = {
    "torch_geometric": (),
    "torch_geometric.data": (),
    "torch_sparse": (),
    "torch_geometric.data.data": ("Data", "DataEdgeAttr", "DataTensorAttr"),
    "torch_geometric.data.storage": ("GlobalStorage",),
    "torch_sparse.tensor": ("SparseTensor",),
    "torch_sparse.storage": ("SparseStorage",),
}


@contextmanager
def classes() -> Iterator[dict[str, type]]:
    """Classes of these names, in modules that are there for as long as something is saved."""
    made = {}
    for module, names in _CLASSES.items():
        sys.modules[module] = ModuleType(module)
        for name in names:
            made[name] = type(name, (), {"__module__": module})
            setattr(sys.modules[module], name, made[name])
    try:
        yield made
    finally:
        for module in _CLASSES:
            del sys.modules[module]


def with_state(cls: type, **attributes: Any) -> Any:
    value = cls()
    value.__dict__.update(attributes)
    return value


def sparse(made: dict[str, type], row: Any, col: Any, size: int, *, rowptr: bool = False) -> Any:
    """torch_sparse's SparseTensor; `rowptr`: with the rows as offsets, as it is after some operations."""
    storage = {"_row": torch.as_tensor(row), "_rowptr": None, "_col": torch.as_tensor(col), "_value": None}
    if rowptr:
        counts = torch.bincount(storage["_row"], minlength=size)
        storage |= {"_row": None, "_rowptr": torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])}
    storage |= {"_sparse_sizes": (size, size), "_rowcount": None, "_colptr": None, "_csr2csc": None}
    return with_state(made["SparseTensor"], storage=with_state(made["SparseStorage"], **storage))


def data(made: dict[str, type], layout: str, fields: dict[str, Any]) -> Any:
    """PyG's Data. layout: "new" since PyG 2.0, "old" before, "dict" for the fields alone."""
    if layout == "dict":
        return fields
    if layout == "old":
        return with_state(made["Data"], edge_attr=None, pos=None, __num_nodes__=None, **fields)
    value = with_state(made["Data"], _edge_attr_cls=made["DataEdgeAttr"], _tensor_attr_cls=made["DataTensorAttr"])
    value.__dict__["_store"] = with_state(made["GlobalStorage"], _mapping=fields, _parent=value)
    return value


def save(path: Path, layout: str, fields: dict[str, Any], adj: tuple[Any, Any, int] | None = None, **how: Any) -> Path:
    """Write a file. adj: rows, columns and size of a SparseTensor `adj_t`; how: options of `sparse`."""
    with classes() as made:
        if adj is not None:
            fields = {**fields, "adj_t": sparse(made, *adj, **how)}
        torch.save(data(made, layout, fields), path)
    return path
