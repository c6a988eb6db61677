"""ogbn-arxiv and ogbn-products: OGB's raw files, and the titles and abstracts or descriptions beside them.

The files are read as they are: the `ogb` package's own loaders unpickle freely and ask questions.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench.datasets.upstream.lookup import count, find, gpt_predictions, lines
from stage_bench.datasets.upstream.table import Table
from stage_bench.datasets.upstream.text_spool import TextSpool
from stage_bench.errors import StageBenchError

_ROWS = 200_000  # of the feature table at a time


def read_arxiv(upstream: Path) -> Table:
    """From `arxiv.zip` (folders raw, split/time, mapping) and `titleabs.tsv`, unpacked anywhere under `upstream`.

    Raises:
        StageBenchError: a file is missing or wrong, or a paper has no line in `titleabs.tsv`.
    """
    graph = _graph(upstream, "time")
    path = find(upstream, "mapping/nodeidx2paperid.csv.gz")
    ids = _mapping(path, "node idx", "paper id", len(graph.labels))
    texts, junk, repeated, differing = _titles_and_abstracts(find(upstream, "titleabs.tsv"), set(ids))
    missing = [id_ for id_ in ids if id_ not in texts]
    if missing:
        raise StageBenchError(
            f"{find(upstream, 'titleabs.tsv')}: {len(missing)} of {len(ids)} papers have no line, the first of them "
            f"paper id {missing[0]}"
        )
    titles, abstracts = zip(*(texts[id_] for id_ in ids), strict=True)
    years = _numbers(find(upstream, "raw/node_year.csv.gz"), 1)[:, 0]
    names = _label_names(upstream, "mapping/labelidx2arxivcategeory.csv.gz", "arxiv category")
    names = ["cs." + name.split()[-1].upper() if name.startswith("arxiv cs ") else name for name in names]
    notes = [
        *count(junk, "line", "of titleabs.tsv that is no paper, skipped"),
        *count(sum(not title for title in titles), "paper", "without a title"),
        *count(sum(not abstract for abstract in abstracts), "paper", "without an abstract"),
        *count(repeated, "line", "of titleabs.tsv repeated"),
        *count(differing, "line", "of titleabs.tsv with another text for the same paper: the first one counts"),
    ]
    return Table(
        columns={"id": ids, "year": years.tolist(), "title": titles, "abstract": abstracts},
        text="Title: {title}\nAbstract: {abstract}",
        labels=graph.labels,
        label_names=names,
        edges=graph.edges,
        parts=graph.parts,
        features=graph.features,
        gpt_preds=gpt_predictions(upstream, len(ids)),
        licence="ODC-BY",
        origin="OGB's ogbn-arxiv and its titleabs.tsv, joined by paper id; src cites dst; official split by year",
        notes=notes,
    )


def read_products(upstream: Path) -> Table:
    """From `products.zip` (folders raw, split/sales_ranking, mapping) and Amazon-3M's `trn.json` and `tst.json`.

    Raises:
        StageBenchError: a file is missing or wrong, or a product is in neither of the two.
    """
    graph = _graph(upstream, "sales_ranking")
    asins = _mapping(find(upstream, "mapping/nodeidx2asin.csv.gz"), "node idx", "asin", len(graph.labels))
    first: dict[str, int] = {}
    node_of_text = np.array([first.setdefault(asin, node) for node, asin in enumerate(asins)], dtype=np.int64)
    texts = TextSpool(upstream, len(asins))
    repeated = no_title = no_content = 0
    for part in ("trn", "tst"):
        path = find(upstream, f"{part}.json.gz", f"{part}.json")
        for number, record in _json_lines(path):
            node = first.get(str(record.get("uid")))
            if node is None:
                continue
            if node in texts:
                repeated += 1
                continue
            title, content = (_text(path, number, record, key) for key in ("title", "content"))
            texts.put(node, (title, content))
            no_title += not title
            no_content += not content
    missing = np.setdiff1d(texts.missing(), np.flatnonzero(node_of_text != np.arange(len(asins))))
    if len(missing):
        raise StageBenchError(
            f"{upstream}: {len(missing)} of {len(asins)} products are neither in trn.json nor in tst.json, the first "
            f"of them {asins[missing[0]]}"
        )
    names = _label_names(upstream, "mapping/labelidx2productcategory.csv.gz", "product category")
    notes = [
        *count(no_title, "product", "without a title"),
        *count(no_content, "product", "without a description"),
        *count(repeated, "record", "of Amazon-3M for a product that has one already: the first one counts"),
        *count(len(asins) - len(first), "node", "with the ASIN of another: they share its text"),
    ]
    return Table(
        columns={"id": asins, "title": texts.column(0, node_of_text), "content": texts.column(1, node_of_text)},
        text="Title:\n{title}\nContent:\n {content}",
        labels=graph.labels,
        label_names=names,
        edges=graph.edges,
        directed=False,
        parts=graph.parts,
        features=graph.features,
        licence="Amazon licence (see OGB)",
        origin="OGB's ogbn-products, texts of Amazon-3M joined by ASIN; official split by sales rank",
        notes=notes,
    )


@dataclass(frozen=True)
class _Graph:
    labels: np.ndarray
    edges: np.ndarray
    features: np.ndarray
    parts: dict[str, np.ndarray]


def _graph(upstream: Path, split: str) -> _Graph:
    """What both datasets have: raw/*.csv.gz and split/<split>/*.csv.gz, without headers."""
    label_path = find(upstream, "raw/node-label.csv.gz")
    labels = _numbers(label_path, 1)[:, 0]
    edge_path = find(upstream, "raw/edge.csv.gz")
    edges = np.ascontiguousarray(_numbers(edge_path, 2).T)
    for name, path, number in (("node", label_path, len(labels)), ("edge", edge_path, edges.shape[1])):
        said = find(upstream, f"raw/num-{name}-list.csv.gz")
        expected = int(_numbers(said, 1).sum())
        if number != expected:
            raise StageBenchError(f"{path}: {number} {name}s, but {said.name} says {expected}")
    if edges.size and (edges.min() < 0 or edges.max() >= len(labels)):
        raise StageBenchError(f"{edge_path}: names node {edges.max()}, but the nodes are 0 to {len(labels) - 1}")
    files = {"train": "train", "val": "valid", "test": "test"}
    parts = {part: _numbers(find(upstream, f"{split}/{file}.csv.gz"), 1)[:, 0] for part, file in files.items()}
    features = _features(find(upstream, "raw/node-feat.csv.gz"), len(labels))
    return _Graph(labels, edges, features, parts)


def _frame(path: Path, **options: Any) -> Any:
    import pandas

    try:
        return pandas.read_csv(path, **options)
    except (ValueError, OverflowError, OSError, EOFError, zlib.error) as error:
        raise StageBenchError(f"{path}: not a CSV file of the expected form: {' '.join(str(error).split())}") from None


def _numbers(path: Path, width: int) -> np.ndarray:
    """int64 [rows, width] of a table without a header."""
    frame = _frame(path, header=None, dtype=np.int64)
    if frame.shape[1] != width:
        raise StageBenchError(f"{path}: {frame.shape[1]} columns, expected {width}")
    values: np.ndarray = frame.to_numpy()
    return values


def _features(path: Path, num_nodes: int) -> np.ndarray:
    """float32 [num_nodes, dim], without ever holding the table in double precision."""
    chunks = _frame(path, header=None, dtype=np.float32, chunksize=_ROWS)
    features, row = np.empty((0, 0), dtype=np.float32), 0
    try:
        for chunk in chunks:
            if row == 0:
                features = np.empty((num_nodes, chunk.shape[1]), dtype=np.float32)
            if row + len(chunk) > num_nodes:
                raise StageBenchError(f"{path}: more than {num_nodes} rows, one for each node")
            features[row : row + len(chunk)] = chunk.to_numpy()
            row += len(chunk)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise StageBenchError(f"{path}: not a table of numbers: {' '.join(str(error).split())}") from None
    if row != num_nodes:
        raise StageBenchError(f"{path}: {row} rows, but there are {num_nodes} nodes")
    return features


def _mapping(path: Path, key: str, value: str, size: int | None = None) -> list[str]:
    """The values at the keys 0 to size - 1, each of which has to stand there once; by default as many as there are."""
    frame = _frame(path, dtype={key: np.int64, value: str}, keep_default_na=False)
    for column in (key, value):
        if column not in frame.columns:
            raise StageBenchError(f"{path}:1: column '{column}' is missing (there are {', '.join(frame.columns)})")
    size = len(frame) if size is None else size
    if not np.array_equal(np.sort(frame[key]), np.arange(size)):
        raise StageBenchError(f"{path}: '{key}' is not each of 0 to {size - 1} once")
    values: list[str] = frame.sort_values(key)[value].tolist()
    return values


def _label_names(upstream: Path, name: str, column: str) -> list[str]:
    """Different names: an empty one becomes "class 24", one that another class has is followed by its number."""
    names: list[str] = []
    for label, text in enumerate(_mapping(find(upstream, name), "label idx", column)):
        plain = text.strip() or f"class {label}"
        names.append(f"{plain} ({label})" if plain in names else plain)
    return names


def _titles_and_abstracts(path: Path, wanted: set[str]) -> tuple[dict[str, tuple[str, str]], int, int, int]:
    """(title, abstract) by paper id; how many lines are no paper, repeat another, or contradict another.

    Some copies begin and end with what is left of an archive's header, and the first paper is part of that line.
    """
    found: dict[str, tuple[str, str]] = {}
    junk = repeated = differing = 0
    for _, line in lines(path):
        id_, *texts = line.split("\t", 2)
        if len(texts) != 2 or not (id_.isascii() and id_.isdigit()):
            junk += 1
            continue
        if id_ in wanted:
            texts_ = (texts[0], texts[1])
            first = found.setdefault(id_, texts_)
            if first is not texts_:
                repeated += first == texts_
                differing += first != texts_
    return found, junk, repeated, differing


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of one JSON object a line, gzipped or not."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("not an object")
                yield number, record
        except (ValueError, RecursionError, OSError, EOFError, zlib.error) as error:
            raise StageBenchError(f"{path}:{max(number, 1)}: not one JSON object a line: {error}") from None


def _text(path: Path, number: int, record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise StageBenchError(f"{path}:{number}: {key} is not a text")
    return value
