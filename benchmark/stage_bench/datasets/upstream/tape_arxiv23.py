"""tape-arxiv23: TAPE's graph of computer-science papers of 2023, and a table of their titles and abstracts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stage_bench.datasets.upstream import categories, torch_files
from stage_bench.datasets.upstream.csv_columns import read_columns
from stage_bench.datasets.upstream.lookup import count, find, gpt_predictions
from stage_bench.datasets.upstream.table import Table
from stage_bench.errors import StageBenchError

_SUBJECT = re.compile(r"\((cs\.[A-Z]{2})\)")
_ENOUGH = 0.9  # a table of other papers, or in another order, agrees on the most frequent class at best


def read(upstream: Path) -> Table:
    """From `graph.pt` (y, edge_index) and `paper_info.csv`, whose rows are in node order or have a `node_id`.

    Raises:
        StageBenchError: a file is missing or wrong, or the rows are not about the nodes.
    """
    path = find(upstream, "graph.pt")
    data = torch_files.read(path)
    labels = torch_files.labels(path, data)
    table = find(upstream, "paper_info.csv")
    columns = read_columns(table, ("title", "abstract"))
    if len(columns["title"]) != len(labels):
        raise StageBenchError(f"{table}: {len(columns['title'])} papers, but {path.name} has {len(labels)} nodes")
    if "node_id" in columns:
        columns = _in_order(table, columns)
    ids = {"id": columns["arxiv_id"]} if "arxiv_id" in columns else {}
    titles, abstracts = columns["title"], columns["abstract"]
    return Table(
        columns={**ids, "title": titles, "abstract": abstracts},
        text="Title: {title}\nAbstract: {abstract}",
        labels=labels,
        label_names=categories.ARXIV,
        edges=torch_files.edges(path, data),
        gpt_preds=gpt_predictions(upstream, len(labels)),
        origin="TAPE's arxiv_2023: graph and labels as stored, directed, with edges that stand there twice",
        notes=[
            *_agreement(table, columns.get("subject"), labels),
            *count(sum(not title for title in titles), "paper", "without a title"),
            *count(sum(not abstract for abstract in abstracts), "paper", "without an abstract"),
        ],
    )


def _in_order(table: Path, columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """The rows in the order of their `node_id`."""
    rows = {id_: row for row, id_ in enumerate(columns["node_id"])}
    order = [rows.get(str(node)) for node in range(len(columns["node_id"]))]
    if None in order:
        raise StageBenchError(f"{table}: no row has node_id {order.index(None)}")
    return {key: [values[row] for row in order if row is not None] for key, values in columns.items()}


def _agreement(table: Path, subjects: list[str] | None, labels: np.ndarray) -> list[str]:
    """That text i belongs to node i: the label was made from the paper's subject, "Machine Learning (cs.LG)"."""
    if subjects is None:
        return ["texts are taken by position: paper_info.csv has no column `subject` to check them by"]
    found = [_SUBJECT.search(subject) for subject in subjects]
    known = [match[1] == categories.ARXIV[label] for match, label in zip(found, labels, strict=True) if match]
    if not known:
        return ["texts are taken by position: the column `subject` of paper_info.csv names no category"]
    if sum(known) < _ENOUGH * len(known):
        raise StageBenchError(
            f"{table}: only {sum(known)} of {len(known)} subjects are the label of their node; the rows are not in the "
            "order of the nodes"
        )
    return count(len(known) - sum(known), "paper", "whose subject is not its label")
