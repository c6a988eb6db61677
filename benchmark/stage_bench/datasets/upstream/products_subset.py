"""TAPE's subset of ogbn-products: 54,025 nodes, in a file of tensors and a table of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stage_bench.datasets.upstream import categories, torch_files
from stage_bench.datasets.upstream.csv_columns import read_columns
from stage_bench.datasets.upstream.lookup import count, find, gpt_predictions
from stage_bench.datasets.upstream.table import Table
from stage_bench.errors import StageBenchError

_PARTS = {"train": "train_mask", "val": "val_mask", "test": "test_mask"}


def read(upstream: Path) -> Table:
    """From `ogbn-products_subset.pt` (x, y, masks, adj_t, n_id, n_asin) and `ogbn-products_subset.csv`.

    Raises:
        StageBenchError: a file is missing or wrong, or a node's text is not in the table.
    """
    path = find(upstream, "ogbn-products_subset.pt")
    data = torch_files.read(path)
    labels = torch_files.labels(path, data)
    texts, notes = _texts(path, data, find(upstream, "ogbn-products_subset.csv"), len(labels))
    features = data.get("x")
    return Table(
        columns={"id": texts["uid"], "nid": texts["nid"], "title": texts["title"], "content": texts["content"]},
        text="Title:\n{title}\nContent:\n {content}",
        labels=labels,
        label_names=categories.PRODUCTS,
        edges=torch_files.edges(path, data),
        directed=False,
        parts={part: np.flatnonzero(torch_files.vector(path, data, mask)) for part, mask in _PARTS.items()},
        features=features.astype(np.float32) if isinstance(features, np.ndarray) and features.ndim == 2 else None,
        gpt_preds=gpt_predictions(upstream, len(labels)),
        licence="Amazon licence (see OGB)",
        origin="TAPE's subset of ogbn-products: graph, labels, masks and texts from its repository",
        notes=[
            *notes,
            *count(sum(not title for title in texts["title"]), "product", "without a title"),
            *count(sum(not content for content in texts["content"]), "product", "without a description"),
        ],
    )


def _texts(path: Path, data: dict[str, Any], table: Path, num_nodes: int) -> tuple[dict[str, list[str]], list[str]]:
    """The columns of the table with row i about node i, and notes on how that was made sure.

    Nodes are found by their ASIN (`n_asin`, in the table `uid`), else by their number in ogbn-products (`n_id`, `nid`);
    where the file of tensors has neither, by position.
    """
    columns = read_columns(table, ("uid", "nid", "title", "content"))
    ids = {
        column: [str(value) for value in torch_files.vector(path, data, name)]
        for column, name in (("uid", "n_asin"), ("nid", "n_id"))
        if name in data
    }
    if not ids:
        if len(columns["title"]) != num_nodes:
            raise StageBenchError(f"{table}: {len(columns['title'])} rows, but {path.name} has {num_nodes} nodes")
        return columns, ["texts are taken by position: the file of tensors holds no ids"]
    for values in ids.values():
        if len(values) != num_nodes:
            raise StageBenchError(f"{path}: {len(values)} ids of nodes, but {num_nodes} labels")
    key = next(iter(ids))
    rows: dict[str, int] = {}
    for row, id_ in enumerate(columns[key]):
        first = rows.setdefault(id_, row)
        if any(columns[name][first] != columns[name][row] for name in ("title", "content")):
            raise StageBenchError(f"{table}: {key} {id_} stands here twice, with different texts")
    for id_ in ids[key]:
        if id_ not in rows:
            raise StageBenchError(f"{table}: holds no row for {key} {id_}, which {path.name} has")
    order = [rows[id_] for id_ in ids[key]]
    columns = {name: [values[row] for row in order] for name, values in columns.items()}
    differing = sum(given != found for given, found in zip(ids.get("nid", columns["nid"]), columns["nid"], strict=True))
    return columns, [f"texts are joined by {key}", *count(differing, "node", "whose nid is not its n_id")]
