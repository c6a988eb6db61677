"""The folder format: a graph as `dataset.yaml`, `nodes.*` and `edges.*` (docs/datasets.md)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench import located_yaml, registry
from stage_bench.datasets import edges_file, label_files, matrices, nodes_file, predictions, split_files, templates
from stage_bench.datasets.label_files import Classes
from stage_bench.datasets.nodes_file import NodeTable
from stage_bench.datasets.spec import DatasetSpec
from stage_bench.datasets.splits import Split
from stage_bench.datasets.templates import Template
from stage_bench.datasets.textgraph import TextGraph, clean_edges
from stage_bench.errors import StageBenchError, brief, shown
from stage_bench.llms.prompts import VARIANTS
from stage_bench.located_yaml import Document

_KEYS = ("name", "text", "label_names", "directed", "splits", "instructions", "num_nodes")
_MOST_NODES = 1 << 28  # that a number alone makes there be: a label takes eight bytes
_CARD_KEYS = ("origin", "licence", "license", "homepage", "citation", "notes", "sources")


class DatasetMissing(StageBenchError):
    """The files of a dataset are not there; the message says what to get."""


class FolderProblems(StageBenchError):
    """What is wrong with a folder, one line each; as text only the first, which often explains the others."""

    def __init__(self, folder: Path, problems: list[str]) -> None:
        super().__init__(folder, problems)
        self.folder, self.problems = folder, tuple(problems)

    def __str__(self) -> str:
        others = len(self.problems) - 1
        more = f"; and {others} more, see stage-bench check dataset {shown(self.folder)}" if others else ""
        return self.problems[0] + more


@dataclass
class _Problems:
    """Collects errors, so that one mistake does not hide the next."""

    folder: Path
    found: list[str] = field(default_factory=list)

    @contextmanager
    def collected(self) -> Iterator[None]:
        try:
            yield
        except StageBenchError as error:
            self.found.append(str(error))
        except OSError as error:  # a folder in the place of a file, no permission
            place = shown(error.filename or self.folder)
            self.found.append(f"{place}: cannot be read: {error.strerror or error}")

    def raise_if_any(self) -> None:
        if self.found:
            raise FolderProblems(self.folder, self.found)


def load_named(spec: DatasetSpec, data: Path, *, undirected: bool = True) -> TextGraph:
    """A registered dataset from `<data folder>/<name>`."""
    folder = data / spec.name
    if not (folder / "dataset.yaml").is_file():
        raise DatasetMissing(
            f"dataset '{spec.name}' is not in the data folder {data} (--data or $STAGE_BENCH_DATA); {spec.how_to_get}"
        )
    graph = load(folder, spec.name, instructions=spec.instructions, undirected=undirected)
    return replace(graph, facts={**_known(spec, graph), **graph.facts})


def _known(spec: DatasetSpec, graph: TextGraph) -> dict[str, Any]:
    """What the registry knows of a dataset, for the card of a folder that does not say it."""
    facts = {"licence": spec.licence} if spec.licence else {}
    counts = (("nodes", spec.nodes, graph.num_nodes), ("classes", spec.classes, graph.num_classes))
    other = [f"{expected:,} {what}, not {here:,}" for what, expected, here in counts if expected not in (None, here)]
    return facts | ({"not as published": f"the published {spec.name} has {', '.join(other)}"} if other else {})


def load(
    folder: Path, name: str | None = None, *, instructions: dict[str, str] | None = None, undirected: bool = True
) -> TextGraph:
    """Read a folder; the graph is made undirected unless told otherwise, without self-loops and duplicates.

    Edges, labels, texts and even the nodes' file may be absent: the graph has none then, and what needs them says so.

    Raises:
        DatasetMissing: there is no such folder.
        FolderProblems: something in it is wrong; each message has the file and the line.
    """
    try:
        there = (folder / "dataset.yaml").is_file()
    except OSError as error:
        raise StageBenchError(f"{folder}: cannot be read: {error.strerror or error}") from None
    if not there:
        raise DatasetMissing(f"{folder} holds no dataset.yaml (docs/datasets.md describes the folder format)")
    card = located_yaml.load(folder / "dataset.yaml")
    problems = _Problems(folder)
    with problems.collected():
        _check_keys(card)
    template = None
    with problems.collected():
        template = _template(card)
    table, num_nodes = None, 0
    with problems.collected():
        table, num_nodes = _nodes(folder, card, template)
    if not num_nodes:  # nothing else can be judged
        problems.raise_if_any()
    with problems.collected():
        _check_count(card, table, num_nodes)
    with problems.collected():
        _check_texts(card, table, template)
    labels, classes = np.full(num_nodes, -1, dtype=np.int64), Classes([], np.empty(0, dtype=np.int64))
    with problems.collected():
        labels, classes = _labels(folder, card, table, num_nodes)
    edges = np.empty((2, 0), dtype=np.int64)
    with problems.collected():
        path = _one_of(folder, "edges", edges_file.ENDINGS)
        edges = edges if path is None else edges_file.read(path, num_nodes)
    both = undirected
    with problems.collected():
        directed = _directed(card)
        both = undirected or not directed  # a file of undirected edges holds each of them once
    own_instructions: dict[str, str] = {}
    with problems.collected():
        own_instructions = _instructions(card)
    answers = None
    with problems.collected():
        answers = _optional(folder, "gpt_preds", ".csv")
    default, why, fixed = _splits(folder, card, table, labels, problems)
    problems.raise_if_any()
    edges, done = clean_edges(edges, num_nodes, directed=not both)
    facts = _facts(card, table, why)
    facts["edge_policy"] = _edge_policy(path is not None, both)
    return TextGraph(
        name=name or str(card.value.get("name") or folder.resolve().name),
        texts=None if table is None else table.texts,
        edges=edges,
        labels=labels,
        label_names=classes.names,
        fixed_splits=fixed,
        default_split=default,
        instructions={**(instructions or {}), **own_instructions},
        facts={**facts, **(done if path is not None else {})},
        label_ids=classes.ids,
        blank_text=template.blank if template else "",
        predictions_path=answers,
        answers_path=folder / "answers" if (folder / "answers").is_dir() else None,
        matrix_paths=matrices.find(folder),
    )


def _check_keys(card: Document) -> None:
    for key in card.value:
        if key == "<<":  # free, like any other key, it would be passed over without a word
            raise card.error([key], "YAML 1.2 has no merge key `<<`; write the keys out", key=True)
        near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.85)
        if near and key not in _KEYS:  # other keys are free, but this one was hardly meant to be
            raise card.error([key], f"unknown key '{brief(key)}'; did you mean '{near[0]}'?", key=True)
    notes, sources = card.value.get("notes", []), card.value.get("sources", {})
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise card.error(["notes"], "notes is a list of sentences")
    if not isinstance(sources, dict):
        raise card.error(["sources"], "sources is a mapping, such as {texts: where they are from}")


def _template(card: Document) -> Template | None:
    if card.value.get("text") is None:
        return None
    try:
        return templates.parse(card.value["text"])
    except StageBenchError as error:
        raise card.error(["text"], str(error)) from None


def _nodes(folder: Path, card: Document, template: Template | None) -> tuple[NodeTable | None, int]:
    """The nodes, and how many; without their file their number has to stand elsewhere."""
    path = _one_of(folder, "nodes", nodes_file.ENDINGS)
    if path is not None:
        table = nodes_file.read(path, template)
        if not table.num_nodes:
            raise StageBenchError(f"{path}: holds no nodes")
        return table, table.num_nodes
    names = " or ".join(f"nodes{ending}" for ending in nodes_file.ENDINGS)
    answers = _optional(folder, "gpt_preds", ".csv")
    known = card.value.get("num_nodes")
    count = predictions.count(answers) if answers is not None else known if type(known) is int else 0
    if count > _MOST_NODES:
        raise card.error(["num_nodes"], f"num_nodes is more than {_MOST_NODES:,}, and no file of nodes bears that out")
    if count < 1:
        raise StageBenchError(
            f"{folder}: holds no {names}, and neither gpt_preds.csv nor num_nodes in dataset.yaml says how many nodes "
            "there are"
        )
    if template is not None:
        raise card.error(["text"], f"there is a text template, but no {names} with its columns")
    return None, count


def _check_count(card: Document, table: NodeTable | None, num_nodes: int) -> None:
    expected = card.value.get("num_nodes")
    if expected is None:
        return
    if type(expected) is not int:
        raise card.error(["num_nodes"], "num_nodes is a whole number")
    if expected != num_nodes:
        where = "gpt_preds.csv" if table is None else table.path.name
        raise card.error(["num_nodes"], f"num_nodes is {expected}, but {where} holds {num_nodes} nodes")


def _check_texts(card: Document, table: NodeTable | None, template: Template | None) -> None:
    if table is None or template is None:
        return
    for column in template.columns:
        if column not in table.columns:
            problem = f"the text template names column '{brief(column)}', which no node in {table.path.name} has"
            raise card.error(["text"], problem)
    if table.textless >= 0:
        raise StageBenchError(
            f"{table.place(table.textless)}: node {table.textless} has no text: none of the columns "
            f"{', '.join(template.columns)} of the text template"
        )


def _labels(folder: Path, card: Document, table: NodeTable | None, num_nodes: int) -> tuple[np.ndarray, Classes]:
    classes = None
    if "label_names" in card.value:
        try:
            classes = label_files.declared(card.value["label_names"], card.path.name)
        except StageBenchError as error:
            raise card.error(["label_names"], str(error)) from None
    elif (path := _optional(folder, "label_names", ".csv")) is not None:
        classes = label_files.read(path)
    if table is None:
        return np.full(num_nodes, -1, dtype=np.int64), classes or Classes([], np.empty(0, dtype=np.int64))
    if "label" not in table.columns:
        near = difflib.get_close_matches("label", [column.casefold() for column in table.columns], n=1, cutoff=0.8)
        if near:
            there = next(column for column in table.columns if column.casefold() == near[0])
            raise StageBenchError(f"{table.path}: has no column 'label', but '{brief(there)}'; rename it")
    return label_files.resolve(table, classes)


def _directed(card: Document) -> bool:
    directed = card.value.get("directed", True)
    if not isinstance(directed, bool):
        raise card.error(["directed"], "directed: write true or false")
    return directed


def _instructions(card: Document) -> dict[str, str]:
    declared = card.value.get("instructions", {})
    if not isinstance(declared, dict) or not all(isinstance(text, str) for text in declared.values()):
        raise card.error(["instructions"], "instructions maps a variant (default, graph-aware, dataset) to a sentence")
    for variant in declared:
        if variant not in VARIANTS:
            raise card.error(["instructions", variant], registry.unknown("instruction", variant, VARIANTS), key=True)
    return dict(declared)


def _splits(
    folder: Path, card: Document, table: NodeTable | None, labels: np.ndarray, problems: _Problems
) -> tuple[str, str, dict[str, Split]]:
    """The default protocol, why it is that, and every split that the folder prescribes."""
    default, why = "", ""
    fixed: dict[str, Split] = {}
    with problems.collected():
        default, why = split_files.protocol(card, table, folder)
        if default == "column":
            if table is None or "split" not in table.columns:
                raise card.error(["splits"], "the protocol is `column`, but the nodes have no column `split`")
            fixed["column"] = split_files.from_column(table, labels)
        elif default == "file":
            fixed["file"] = split_files.from_file(folder / "split.json", "file", labels)
    for name, path in split_files.named(folder).items():
        with problems.collected():
            split_files.check_name(path, name)
            fixed[name] = split_files.from_file(path, name, labels)
    return default, why, fixed


def _facts(card: Document, table: NodeTable | None, why: str) -> dict[str, Any]:
    """What the card and the check say besides the counts; keys with `_` become words there."""
    facts: dict[str, Any] = {key: card.value[key] for key in _CARD_KEYS if card.value.get(key)}
    if why:
        facts["default_split_because"] = f"dataset.yaml names no protocol, and {why}"
    if table is not None and table.absences:
        facts["empty_values"] = {column: absence.empty for column, absence in table.absences.items()}
        lacking = {
            column: {"rows": absence.absent, "first": f"{table.path.name}:{absence.first + 1}"}  # of JSON lines
            for column, absence in table.absences.items()
            if absence.absent
        }
        facts |= {"rows_without_column": lacking} if lacking else {}
    return facts


def _edge_policy(any_file: bool, both: bool) -> str:
    if not any_file:
        return "there is no edges file: the graph has no edges"
    return f"{'undirected' if both else 'directed'}, coalesced, no self-loops"


def _one_of(folder: Path, stem: str, endings: tuple[str, ...]) -> Path | None:
    """The one file `stem.*`; None where there is none, nor one that looks as if it were meant to be."""
    found = [folder / f"{stem}{ending}" for ending in endings if (folder / f"{stem}{ending}").is_file()]
    if len(found) > 1:
        raise StageBenchError(f"{folder}: holds {' and '.join(path.name for path in found)}; keep one of them")
    if found:
        return found[0]
    names = " or ".join(f"{stem}{ending}" for ending in endings)
    for path in sorted(folder.iterdir()):
        if path.is_file() and _is_near(path, stem):
            raise StageBenchError(f"{path}: is not read; the {stem} are {names}")
    return None


def _optional(folder: Path, stem: str, ending: str) -> Path | None:
    return _one_of(folder, stem, (ending,))


def _is_near(path: Path, stem: str) -> bool:
    """Whether a file's name may be meant for `stem.*`: `edge.csv`, `Edges.tsv`, `edge_list.txt`, `edges.csv.gz`."""
    first, _, ending = path.name.partition(".")
    # hidden; a feature matrix, which has any name; a description
    if not first or f".{ending}" in (*matrices.ENDINGS, ".md"):
        return False
    letters = "".join(letter for letter in first.casefold() if letter.isalpha())
    letters = letters.removesuffix("list").removesuffix("index")
    meant = stem.replace("_", "")
    begins = len(meant) > 6 and letters.startswith(meant.removesuffix("s"))  # gpt_predictions.csv
    swapped = sorted(letters) == sorted(meant)
    return begins or swapped or difflib.SequenceMatcher(None, letters, meant).ratio() > 0.8
