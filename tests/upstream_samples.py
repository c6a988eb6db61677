"""Upstream files of the named datasets: small, and in exactly the forms in which the real ones come."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pyg_files

Pair = tuple[int, int]


def put(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def zipped(folder: Path, inside: str) -> bytes:
    """The folder as a zip, under a top folder, with what a Mac adds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = f"{inside}/{path.relative_to(folder)}"
            archive.writestr(f"{name}/" if path.is_dir() else name, b"" if path.is_dir() else path.read_bytes())
            if path.is_file():
                archive.writestr(f"__MACOSX/{inside}/{path.relative_to(folder)}", b"\0\5\26\7")
    return buffer.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def cora(folder: Path, papers: Iterable[tuple[str, str]], cites: Iterable[tuple[str, str]]) -> Path:
    """`cora.content` and `cora.cites`, and no texts yet. papers: (id, class); cites: (cited, citing)."""
    words = "\t".join("0100000001")
    put(folder / "cora.content", "".join(f"{id_}\t{words}\t{label}\n" for id_, label in papers))
    put(folder / "cora.cites", "".join(f"{cited}\t{citing}\n" for cited, citing in cites))
    (folder / "mccallum/cora/extractions").mkdir(parents=True, exist_ok=True)
    return folder


def extraction(folder: Path, name: str, title: str | None, abstract: str | None, encoding: str = "utf-8") -> None:
    """One file of McCallum's: lines with a tag, then the paper's references and more."""
    lines = [f"URL: http://{name}", "Refering-URL: http://www.x.org/~me/"]
    lines += [f"Title: {title}"] if title is not None else []
    lines += ["Author: A. N. Author", "Address: Somewhere"]
    lines += [f"Abstract: {abstract}"] if abstract is not None else []
    lines += ["Keyword: none", "1 Introduction \x85 with an odd character", "Reference: [1] Title: Of Another Paper"]
    put(folder / "mccallum/cora/extractions" / name, "\n".join(lines) + "\n", encoding)


def pubmed(folder: Path, papers: Sequence[tuple[str, int]], cites: Iterable[tuple[str, str]], records: Any) -> Path:
    """papers: (id, class 1 to 3); cites: (tail, head); records: the content of pubmed.json."""
    nodes = [
        "NODE\tpaper",
        "cat=1,2,3:label\tnumeric:w-rat:0.0\tnumeric:w-common:0.0\tstring:summary",
        *(f"{id_}\tlabel={label}\tw-rat=0.0934\tw-common=0.028\tsummary=w-rat,w-common" for id_, label in papers),
    ]
    edges = [
        "DIRECTED\tcites",
        "NO_FEATURES",
        *(f"{number}\tpaper:{tail}\t|\tpaper:{head}" for number, (tail, head) in enumerate(cites, 33824)),
    ]
    put(folder / "data/Pubmed-Diabetes.NODE.paper.tab", "\n".join(nodes) + "\n")
    put(folder / "data/Pubmed-Diabetes.DIRECTED.cites.tab", "\n".join(edges) + "\n")
    put(folder / "pubmed.json", json.dumps(records))
    return folder


def ogb(
    folder: Path,
    labels: Sequence[int],
    edges: Sequence[Pair],
    split: tuple[str, Sequence[Sequence[int]]],
    features: np.ndarray,
    years: Sequence[int] | None = None,
) -> Path:
    """raw/ and split/ of one of OGB's folders; split: its name, and the nodes of train, valid and test."""
    table = {
        "edge": edges,
        "node-label": [[label] for label in labels],
        "num-node-list": [[len(labels)]],
        "num-edge-list": [[len(edges)]],
        "node-feat": features.tolist(),
    }
    if years is not None:
        table["node_year"] = [[year] for year in years]
    for name, rows in table.items():
        put(folder / f"raw/{name}.csv.gz", "".join(",".join(map(str, row)) + "\n" for row in rows))
    for name, nodes in zip(("train", "valid", "test"), split[1], strict=True):
        put(folder / f"split/{split[0]}/{name}.csv.gz", "".join(f"{node}\n" for node in nodes))
    put(folder / "RELEASE_v1.txt", "release 1\n")
    return folder


def mapping(path: Path, header: str, values: Iterable[object]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(enumerate(values))
    return put(path, text.getvalue())


def arxiv(folder: Path, ids: Sequence[int] = (200971, 7, 42, 11, 5)) -> Path:
    """The folder `arxiv` of OGB's arxiv.zip: five papers."""
    edges = [(0, 1), (2, 1), (3, 4), (4, 3)]
    features = np.arange(10, dtype=np.float32).reshape(5, 2) / 8
    ogb(folder, [0, 1, 2, 1, 0], edges, ("time", [[0, 1], [2], [3, 4]]), features, [2013, 2015, 2018, 2019, 2020])
    mapping(folder / "mapping/nodeidx2paperid.csv.gz", "node idx,paper id", ids)
    names = ["arxiv cs na", "arxiv cs mm", "arxiv cs lo"]
    mapping(folder / "mapping/labelidx2arxivcategeory.csv.gz", "label idx,arxiv category", names)
    return folder


TITLEABS = (
    "5\tFifth title\tFifth abstract\n"
    "99\tOf another paper\tthat is no node\n"
    '42\tA "quoted start of a title\tnan\n'
    "11\t\tNo title\n"
    "7\tNA\tAbstract with\ta tab\n"
    "200971\tFirst title\tFirst abstract\n"
)


def products(folder: Path, asins: Sequence[str] = ("0001", "B00X", "B00Y", "0001")) -> Path:
    """The folder `products` of OGB's products.zip: four products, two of them with one ASIN."""
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    ogb(folder, [2, 0, 1, 2], [(0, 1), (1, 2), (3, 0)], ("sales_ranking", [[0], [1], [2, 3]]), features)
    mapping(folder / "mapping/nodeidx2asin.csv.gz", "node idx,asin", asins)
    names = ["Home & Kitchen", "", "Home & Kitchen"]
    mapping(folder / "mapping/labelidx2productcategory.csv.gz", "label idx,product category", names)
    return folder


def amazon(folder: Path, trn: Sequence[dict[str, Any]], tst: Sequence[dict[str, Any]], ending: str = ".gz") -> Path:
    """The folder `Amazon-3M.raw`."""
    for name, records in (("trn", trn), ("tst", tst)):
        lines = [json.dumps({**record, "target_ind": [1, 2], "target_rel": [1.0, 1.0]}) + "\n" for record in records]
        put(folder / f"{name}.json{ending}", "".join(lines))
    return folder


def subset(folder: Path, layout: str = "new", ids: bool = True, **changes: Any) -> Path:
    """TAPE's files of its subset of ogbn-products: four products."""
    fields: dict[str, Any] = {
        "x": torch.arange(8, dtype=torch.float32).reshape(4, 2),
        "y": torch.tensor([[3], [0], [46], [24]]),
        "train_mask": torch.tensor([[True], [False], [False], [True]]),
        "val_mask": torch.tensor([[False], [True], [False], [False]]),
        "test_mask": torch.tensor([[False], [False], [True], [False]]),
    }
    if ids:
        fields |= {"n_id": torch.tensor([11, 5, 99, 7]), "n_asin": np.array(["A1", "A2", "A3", "A4"], dtype=object)}
    folder.mkdir(parents=True, exist_ok=True)
    pyg_files.save(folder / "ogbn-products_subset.pt", layout, fields | changes, ([0, 1, 3], [1, 2, 0], 4))
    rows = [
        ("A1", 11, "One, with a comma", "Content\nover lines"),
        ("A2", 5, "", "No title"),
        ("A3", 99, "nan", ""),
        ("A4", 7, 'Four "quoted"', "ü 8&quot;"),
    ]
    return write_csv(folder / "ogbn-products_subset.csv", "uid,nid,title,content", rows).parent


def write_csv(path: Path, header: str, rows: Iterable[Sequence[object]]) -> Path:
    """As pandas writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


PAPERS = [
    ("2301.00001", "First, with a comma", 'An "abstract"\nover lines', "Machine Learning (cs.LG)", 0),
    ("2301.00002", "", "No title", "Artificial Intelligence (cs.AI)", 1),
    ("2301.00003", "nan", "", "Machine Learning (cs.LG)", 2),
    ("2301.00004", "Forth ü", "Last", "Computation and Language (cs.CL)", 3),
]


def tape_arxiv23(folder: Path, layout: str = "new", papers: Sequence[Sequence[object]] = PAPERS) -> Path:
    """TAPE's graph of papers of 2023: four papers, an edge that stands there twice."""
    fields = {
        "x": torch.zeros(4, 3),
        "y": torch.tensor([24, 10, 24, 30]),
        "edge_index": torch.tensor([[0, 0, 2, 3], [1, 1, 0, 2]]),
        "num_nodes": 4,
    }
    folder.mkdir(parents=True, exist_ok=True)
    pyg_files.save(folder / "graph.pt", layout, fields)
    write_csv(folder / "paper_info.csv", "arxiv_id,title,abstract,subject,node_id", papers)
    return folder
