"""PubMed: the LINQS graph of diabetes papers, with their titles and abstracts from `pubmed.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench.datasets.upstream.lookup import count, edges_between, find, gpt_predictions, lines
from stage_bench.datasets.upstream.table import Table
from stage_bench.errors import StageBenchError

LABEL_NAMES = ("Diabetes Mellitus, Experimental", "Diabetes Mellitus Type 1", "Diabetes Mellitus Type 2")
_HEADER_LINES = 2


def read(upstream: Path) -> Table:
    """From the files of `PubMed_orig.zip`, unpacked anywhere under `upstream`; node order is that of the node file.

    Raises:
        StageBenchError: a file is missing or a line is not of its form; with the line.
    """
    ids, labels = _nodes(find(upstream, "Pubmed-Diabetes.NODE.paper.tab"))
    edges, dropped = edges_between(ids, _cites(find(upstream, "Pubmed-Diabetes.DIRECTED.cites.tab")))
    records, repeated, differing, others = _records(find(upstream, "pubmed.json"), set(ids))
    titles = [records.get(id_, ("", ""))[0] for id_ in ids]
    abstracts = [records.get(id_, ("", ""))[1] for id_ in ids]
    notes = [
        *count(len(ids) - len(records), "paper", "without a record in pubmed.json: no title and no abstract"),
        *count(sum(not title for title in titles), "paper", "without a title"),
        *count(sum(not abstract for abstract in abstracts), "paper", "without an abstract"),
        *count(repeated, "record", "repeated with the same text"),
        *count(differing, "record", "repeated with another text: the first one counts"),
        *count(others, "record", "of pubmed.json belonging to no node"),
        *count(dropped, "citation", "left out: an end is not in the node file"),
    ]
    return Table(
        columns={"id": ids, "title": titles, "abstract": abstracts},
        text="Title: {title}\nAbstract: {abstract}",
        labels=labels,
        label_names=LABEL_NAMES,
        edges=edges,
        gpt_preds=gpt_predictions(upstream, len(ids)),
        origin="LINQS Pubmed-Diabetes graph in the order of its node file; titles and abstracts from TAPE's "
        "PubMed_orig.zip, joined by PMID",
        notes=notes,
    )


def _nodes(path: Path) -> tuple[list[str], np.ndarray]:
    """PubMed ids, and labels int64 [num_nodes]."""
    labels: dict[str, int] = {}
    for number, line in lines(path):
        if number <= _HEADER_LINES:
            continue
        cells = line.split("\t")
        if len(cells) < 2 or cells[1] not in ("label=1", "label=2", "label=3"):
            raise StageBenchError(f"{path}:{number}: expected a paper id and label=1, label=2 or label=3")
        if cells[0] in labels:
            raise StageBenchError(f"{path}:{number}: paper {cells[0]} stands here twice")
        labels[cells[0]] = int(cells[1][-1]) - 1
    return list(labels), np.array(list(labels.values()), dtype=np.int64)


def _cites(path: Path) -> list[tuple[str, str]]:
    """(tail, head) of every edge."""
    pairs = []
    for number, line in lines(path):
        if number <= _HEADER_LINES:
            continue
        cells = line.split("\t")
        if len(cells) != 4 or not (cells[1].startswith("paper:") and cells[3].startswith("paper:")):
            raise StageBenchError(f"{path}:{number}: expected an edge id, paper:ID, | and paper:ID")
        pairs.append((cells[1].removeprefix("paper:"), cells[3].removeprefix("paper:")))
    return pairs


def _records(path: Path, wanted: set[str]) -> tuple[dict[str, tuple[str, str]], int, int, int]:
    """(title, abstract) by PubMed id; how many repeat another, how many contradict one, how many are of no node."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise StageBenchError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, list):
        raise StageBenchError(f"{path}: expected a list of records")
    found: dict[str, tuple[str, str]] = {}
    repeated = differing = others = 0
    for position, record in enumerate(content):
        if not isinstance(record, dict):
            raise StageBenchError(f"{path}: record {position} is not an object")
        id_ = str(record.get("PMID", "")).strip()
        if id_ not in wanted:
            others += 1
            continue
        texts = (_text(path, position, record, "TI"), _text(path, position, record, "AB"))
        first = found.setdefault(id_, texts)
        if first is not texts:
            repeated += first == texts
            differing += first != texts
    return found, repeated, differing, others


def _text(path: Path, position: int, record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None or value != value:  # NaN, which JSON does not have but Python writes
        return ""
    if not isinstance(value, str):
        raise StageBenchError(f"{path}: {key} of record {position} is not a text")
    return value
