"""Cora: the LINQS citation graph (`cora.content`, `cora.cites`) with the texts of McCallum et al."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stage_bench.datasets.upstream.lookup import count, decode, edges_between, find, gpt_predictions, lines
from stage_bench.datasets.upstream.table import Table
from stage_bench.errors import StageBenchError

LABEL_NAMES = (
    "Case_Based",
    "Genetic_Algorithms",
    "Neural_Networks",
    "Probabilistic_Methods",
    "Reinforcement_Learning",
    "Rule_Learning",
    "Theory",
)


def read(upstream: Path) -> Table:
    """From the files of `cora_orig.zip`, unpacked anywhere under `upstream`; node order is that of `cora.content`.

    Raises:
        StageBenchError: a file is missing or a line is not of its form; with the line.
    """
    ids, labels = _content(find(upstream, "cora.content"))
    pairs = _cites(find(upstream, "cora.cites"))
    edges, dropped = edges_between(ids, pairs)
    papers = find(upstream, "mccallum/cora/papers")
    names, unlisted, several = _file_names(papers, ids)
    extractions = _Extractions(papers.parent / "extractions")
    texts = [extractions.texts(names.get(id_, ())) for id_ in ids]
    absent = sum(text is None for text in texts) - unlisted
    titles, abstracts = zip(*(text or ("", "") for text in texts), strict=True)
    notes = [
        *count(unlisted, "paper", "is not in `papers`: no title and no abstract"),
        *count(absent, "paper", "has no text file: no title and no abstract"),
        *count(sum(not title for title in titles), "paper", "without a title"),
        *count(sum(not abstract for abstract in abstracts), "paper", "without an abstract"),
        *count(several, "paper", "with several text files: the most complete is taken, of equals the last listed"),
        *count(extractions.ambiguous, "file name", "fits several text files; none is taken"),
        *count(dropped, "citation", "left out: an end is not in cora.content"),
    ]
    return Table(
        columns={"id": ids, "title": titles, "abstract": abstracts},
        text="Title: {title}\nAbstract: {abstract}",
        labels=labels,
        label_names=LABEL_NAMES,
        edges=edges,
        gpt_preds=gpt_predictions(upstream, len(ids)),
        licence="McCallum: free to use for research",
        origin="LINQS citation graph and McCallum et al. 2000 texts, from TAPE's cora_orig.zip; src cites dst",
        notes=notes,
    )


def _content(path: Path) -> tuple[list[str], np.ndarray]:
    """Paper ids, and labels int64 [num_nodes]."""
    known = {name: label for label, name in enumerate(LABEL_NAMES)}
    labels: dict[str, int] = {}
    for number, line in lines(path):
        cells = line.split()
        if len(cells) < 2 or cells[-1] not in known:
            raise StageBenchError(f"{path}:{number}: expected a paper id, its words and one of {', '.join(known)}")
        if cells[0] in labels:
            raise StageBenchError(f"{path}:{number}: paper {cells[0]} stands here twice")
        labels[cells[0]] = known[cells[-1]]
    return list(labels), np.array(list(labels.values()), dtype=np.int64)


def _cites(path: Path) -> list[tuple[str, str]]:
    """(citing, cited): the file has them the other way round."""
    pairs = []
    for number, line in lines(path):
        cells = line.split()
        if len(cells) != 2:
            raise StageBenchError(f"{path}:{number}: expected two paper ids")
        pairs.append((cells[1], cells[0]))
    return pairs


def _file_names(path: Path, ids: Iterable[str]) -> tuple[dict[str, list[str]], int, int]:
    """The text files that each paper is listed with; how many papers are not listed, and how many more than once."""
    wanted = set(ids)
    names: dict[str, list[str]] = {}
    for number, line in lines(path):
        cells = line.split("\t")
        if cells[0] not in wanted:
            continue
        if len(cells) < 2:
            raise StageBenchError(f"{path}:{number}: expected a paper id, a tab and a file name")
        listed = names.setdefault(cells[0], [])
        if cells[1] not in listed:
            listed.append(cells[1])
    return names, len(wanted) - len(names), sum(len(listed) > 1 for listed in names.values())


class _Extractions:
    """The folder of text files. Archives and file systems change some characters of their names: `:` becomes `_`."""

    def __init__(self, folder: Path) -> None:
        self.exact: dict[str, Path] = {}
        self.alike: dict[str, list[Path]] = {}
        self.ambiguous = 0
        if not folder.is_dir():
            raise StageBenchError(f"{folder}: no such folder")
        for path in sorted(folder.iterdir()):
            self.exact[path.name] = path
            self.alike.setdefault(_key(path.name), []).append(path)

    def texts(self, names: Iterable[str]) -> tuple[str, str] | None:
        """(title, abstract) from the most complete of a paper's files, of equals the last; None where it has none."""
        best: tuple[str, str] | None = None
        for name in names:
            path = self._path(name)
            if path is not None:
                found = _title_and_abstract(path)
                if best is None or sum(map(bool, found)) >= sum(map(bool, best)):
                    best = found
        return best

    def _path(self, name: str) -> Path | None:
        if name in self.exact:
            return self.exact[name]
        alike = self.alike.get(_key(name), [])
        self.ambiguous += len(alike) > 1
        return alike[0] if len(alike) == 1 else None


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.#~+=%-]+", "_", name)


def _title_and_abstract(path: Path) -> tuple[str, str]:
    """The first `Title:` and the first `Abstract:` line; an empty string where there is none."""
    found = {"Title:": "", "Abstract:": ""}
    for line in reversed(decode(path.read_bytes()).split("\n")):
        for tag in found:
            if line.startswith(tag):
                found[tag] = line.removeprefix(tag).strip()
    return found["Title:"], found["Abstract:"]
