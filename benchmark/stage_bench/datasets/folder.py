"""The folder format: a graph as `dataset.yaml`, `nodes.*` and `edges.*` (docs/datasets.md)."""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench import located_yaml, registry
from stage_bench.datasets.spec import DatasetSpec
from stage_bench.datasets.splits import DEFAULT_RULE, Split, fixed_split, random_shares
from stage_bench.datasets.textgraph import TextGraph, clean_edges
from stage_bench.errors import StageBenchError
from stage_bench.llms.prompts import VARIANTS

_COLUMN = re.compile(r"\{([A-Za-z_]\w*)\}")
_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_PROTOCOLS = "random-60-20-20 (any three percentages), column, file"
_KEYS = ("name", "text", "label_names", "directed", "splits", "instructions", "num_nodes")
_CARD_KEYS = ("origin", "licence", "license", "homepage", "citation")


class DatasetMissing(StageBenchError):
    """The files of a dataset are not there; the message says what to get."""


def load_named(spec: DatasetSpec, data: Path, *, undirected: bool = True) -> TextGraph:
    """A registered dataset from `<data folder>/<name>`."""
    folder = data / spec.name
    if not (folder / "dataset.yaml").is_file():
        raise DatasetMissing(
            f"dataset '{spec.name}' is not in the data folder {data} (--data or $STAGE_BENCH_DATA); get {spec.get}"
        )
    return load(folder, spec.name, instructions=spec.instructions, undirected=undirected)


def load(
    folder: Path, name: str | None = None, *, instructions: dict[str, str] | None = None, undirected: bool = True
) -> TextGraph:
    """Read a folder; the graph is made undirected unless told otherwise, without self-loops and duplicates.

    Raises:
        DatasetMissing: there is no such folder.
        StageBenchError: something in it is wrong; the message has the file and the line.
    """
    if not (folder / "dataset.yaml").is_file():
        raise DatasetMissing(f"{folder} holds no dataset.yaml (docs/datasets.md describes the folder format)")
    card = located_yaml.load(folder / "dataset.yaml")
    nodes_path = _one_of(folder, "nodes", (".jsonl", ".csv", ".parquet"))
    rows = list(_rows(nodes_path))
    if not rows:
        raise StageBenchError(f"{nodes_path}: holds no nodes")
    for key in card.value:
        near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.85)
        if near and key not in _KEYS:  # other keys are free, but this one was hardly meant to be
            raise card.error([key], f"unknown key '{key}'; did you mean '{near[0]}'?", key=True)
    expected = card.value.get("num_nodes")
    if expected is not None and expected != len(rows):
        raise card.error(["num_nodes"], f"num_nodes is {expected}, but {nodes_path.name} holds {len(rows)} nodes")
    labels, label_names = _labels(rows, card, nodes_path)
    edges = _edges(_one_of(folder, "edges", (".csv", ".parquet")), len(rows))
    directed = card.value.get("directed", True)
    if not isinstance(directed, bool):
        raise card.error(["directed"], "directed: write true or false")
    undirected = undirected or not directed  # a file of undirected edges holds each of them once
    edges, done = clean_edges(edges, len(rows), directed=not undirected)
    texts = _texts(rows, card, nodes_path)
    default, fixed = _splits(rows, labels, card, folder, nodes_path)
    facts: dict[str, Any] = {key: card.value[key] for key in _CARD_KEYS if key in card.value}
    facts["edge_policy"] = (
        "undirected, coalesced, no self-loops" if undirected else "directed, coalesced, no self-loops"
    )
    facts |= done
    return TextGraph(
        name=name or str(card.value.get("name") or folder.resolve().name),
        texts=texts,
        edges=edges,
        labels=labels,
        label_names=label_names,
        fixed_splits=fixed,
        default_split=default,
        instructions={**(instructions or {}), **_instructions(card)},
        facts=facts,
    )


def _one_of(folder: Path, stem: str, endings: tuple[str, ...]) -> Path:
    found = [folder / f"{stem}{ending}" for ending in endings if (folder / f"{stem}{ending}").is_file()]
    names = " or ".join(f"{stem}{ending}" for ending in endings)
    if not found:
        raise StageBenchError(f"{folder}: holds no {names}")
    if len(found) > 1:
        raise StageBenchError(f"{folder}: holds {' and '.join(path.name for path in found)}; keep one of them")
    return found[0]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, columns) of every node."""
    if path.suffix == ".jsonl":
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    raise StageBenchError(
                        f"{path}:{number}: an empty line; row number is node id, so none may be empty"
                    )
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise StageBenchError(f"{path}:{number}: not a JSON object: {error}") from None
                if not isinstance(row, dict):
                    raise StageBenchError(f"{path}:{number}: not a JSON object")
                yield f"{path}:{number}", row
    elif path.suffix == ".csv":
        yield from _csv_rows(path)
    else:
        for number, row in enumerate(_parquet(path).to_pylist()):
            yield f"{path}: row {number}", row


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(2**31 - 1)  # the module's own limit, 128 KiB, is less than some texts have
    reader = csv.reader(_lines(path), strict=True)
    line = 1
    try:
        header = next(reader, [])
        for name in header:
            if header.count(name) > 1:
                raise StageBenchError(f"{path}:1: column '{name}' stands here twice")
        line = reader.line_num + 1  # a quoted cell may span lines: a row's place is the line it begins on
        for cells in reader:
            if not cells:
                raise StageBenchError(f"{path}:{line}: an empty line; row number is node id, so none may be empty")
            if len(cells) != len(header):
                raise StageBenchError(f"{path}:{line}: the row does not have the header's {len(header)} columns")
            yield f"{path}:{line}", dict(zip(header, cells, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise StageBenchError(f"{path}:{line}: not CSV: {error}") from None


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise StageBenchError(f"{path}:{number}: not UTF-8: {error.reason}") from None


def _parquet(path: Path) -> Any:
    """A pyarrow table: unlike a data frame it keeps whole numbers whole where some are missing."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise StageBenchError(f"{path}: reading parquet needs: pip install 'stage-bench[parquet]'") from None
    try:
        return parquet.read_table(path)
    except Exception as error:
        raise StageBenchError(f"{path}: not a parquet file: {' '.join(str(error).split())}") from None


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


def _labels(
    rows: list[tuple[str, dict[str, Any]]], card: located_yaml.Document, path: Path
) -> tuple[np.ndarray, list[str]]:
    """Labels as indices into the names; numbers with gaps are closed up, an empty label is -1."""
    raw: list[Any] = []
    for place, row in rows:
        value = row.get("label")
        if isinstance(value, (list, dict, bool)):
            raise StageBenchError(f"{place}: label {value!r} is neither a name nor a number")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        raw.append(None if _is_empty(value) else value)
    given = [value for value in raw if value is not None]
    if not given:
        raise StageBenchError(f"{path}: no node has a label (column 'label')")
    numbers = all(isinstance(value, int) or re.fullmatch(r"-?\d+", str(value)) for value in given)
    declared = card.value.get("label_names")
    if declared is not None:
        if not isinstance(declared, list) or not declared:
            raise card.error(["label_names"], "label_names is a list of names")
        names = [str(name) for name in declared]
        if len(set(names)) < len(names):
            raise card.error(["label_names"], "label_names holds a name twice")
        index: dict[Any, int] = {name: position for position, name in enumerate(names)}
        if numbers and not all(str(value) in index for value in given):
            index = {str(position): position for position in range(len(names))}
    else:
        unique = sorted({str(value) for value in given}, key=(lambda text: int(text)) if numbers else None)
        names = list(unique)
        index = {name: position for position, name in enumerate(names)}
    labels = np.full(len(rows), -1, dtype=np.int64)
    for node, value in enumerate(raw):
        if value is None:
            continue
        position = index.get(str(value))
        if position is None:
            raise StageBenchError(f"{rows[node][0]}: label '{value}' is not among label_names of {card.path.name}")
        labels[node] = position
    if len(names) < 2:
        raise StageBenchError(f"{path}: all labels are '{names[0]}'; a classification needs two classes")
    return labels, names


def _texts(rows: list[tuple[str, dict[str, Any]]], card: located_yaml.Document, path: Path) -> list[str] | None:
    """One text a node by the template; an empty value is an empty string, a node with none of the columns an error."""
    template = card.value.get("text")
    if template is None:
        return None
    if not isinstance(template, str):
        raise card.error(["text"], "text is a template over the node columns, such as '{title}'")
    columns = _COLUMN.findall(template)
    if not columns:
        raise card.error(["text"], "the text template names no column, such as '{title}'")
    present = {column for _, row in rows for column in row}
    for column in columns:
        if column not in present:
            raise card.error(["text"], f"the text template names column '{column}', which no node in {path.name} has")
    texts: list[str] = []
    for place, row in rows:
        if not any(column in row for column in columns):
            raise StageBenchError(
                f"{place}: node {len(texts)} has no text: none of the columns {', '.join(columns)} of the text template"
            )
        texts.append(_COLUMN.sub(lambda found: _cell(place, row, found.group(1)), template))  # noqa: B023
    return texts


def _cell(place: str, row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if isinstance(value, (list, dict)):
        raise StageBenchError(f"{place}: column '{column}' is a {type(value).__name__}, not a text")
    return "" if _is_empty(value) else str(value)


def _edges(path: Path, num_nodes: int) -> np.ndarray:
    """int64 [2, edges in the file], every id checked."""
    import pandas

    if path.suffix == ".parquet":
        table = _parquet(path).to_pandas(ignore_metadata=True)
    else:
        try:
            table = pandas.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        except (ValueError, pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
            raise StageBenchError(f"{path}: not a CSV file: {' '.join(str(error).split())}") from None
    missing = [column for column in ("src", "dst") if column not in table.columns]
    if missing:
        raise StageBenchError(f"{path}:1: column '{missing[0]}' is missing (the header is `src,dst`)")
    if not isinstance(table.index, pandas.RangeIndex):  # pandas takes the surplus cells for an index
        raise StageBenchError(f"{path}:2: the row has more cells than the header")
    ends = []
    for column in ("src", "dst"):
        numbers = pandas.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers == np.floor(numbers))))
        if len(wrong):
            row = int(wrong[0])
            raise StageBenchError(
                f"{path}:{row + 2}: {column} '{table[column].iloc[row]}' is not a row number of a node"
            )
        outside = np.flatnonzero((numbers < 0) | (numbers >= num_nodes))
        if len(outside):
            row = int(outside[0])
            raise StageBenchError(
                f"{path}:{row + 2}: the edge names node {int(numbers[row])}, which does not exist: the nodes are 0 to "
                f"{num_nodes - 1}"
            )
        ends.append(numbers.astype(np.int64))
    return np.stack(ends)


def _splits(
    rows: list[tuple[str, dict[str, Any]]],
    labels: np.ndarray,
    card: located_yaml.Document,
    folder: Path,
    nodes_path: Path,
) -> tuple[str, dict[str, Split]]:
    """The protocol that the card names, and every split that the folder prescribes."""
    declared = card.value.get("splits", {})
    if not isinstance(declared, dict):
        raise card.error(["splits"], "splits is a mapping: {protocol: ...}")
    for key in declared:
        if key != "protocol":
            raise card.error(["splits", key], registry.unknown("key", key, ["protocol"]), key=True)
    protocol = declared.get("protocol", DEFAULT_RULE)
    fixed: dict[str, Split] = {}
    if protocol == "column":
        fixed["column"] = _column_split(rows, labels, nodes_path)
    elif protocol == "file":
        fixed["file"] = _file_split(folder / "split.json", "file", labels)
    else:
        try:
            known = random_shares(str(protocol)) is not None
        except StageBenchError as error:
            raise card.error(["splits", "protocol"], str(error)) from None
        if not known:
            raise card.error(["splits", "protocol"], f"unknown protocol '{protocol}' (valid: {_PROTOCOLS})")
    for path in sorted(folder.glob("split_*.json")):
        name = path.stem.removeprefix("split_")
        fixed.setdefault(name, _file_split(path, name, labels))
    return str(protocol), fixed


def _column_split(rows: list[tuple[str, dict[str, Any]]], labels: np.ndarray, path: Path) -> Split:
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for node, (place, row) in enumerate(rows):
        value = row.get("split")
        if _is_empty(value):
            continue
        part = _PARTS.get(str(value))
        if part is None:
            raise StageBenchError(f"{place}: split '{value}' (valid: train, val, test, or empty)")
        if labels[node] < 0:
            raise StageBenchError(f"{place}: node {node} belongs to the {part} part but has no label")
        parts[part].append(node)
    return fixed_split(
        labels, "column", {part: np.array(ids, dtype=np.int64) for part, ids in parts.items()}, str(path)
    )


def _file_split(path: Path, protocol: str, labels: np.ndarray) -> Split:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageBenchError(f"{path}: no such file, but the protocol is `file`") from None
    except (ValueError, RecursionError) as error:
        raise StageBenchError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise StageBenchError(f"{path}: expected an object with the lists train, val and test")
    parts = {}
    for key, nodes in content.items():
        part = _PARTS.get(key)
        if part is None or part in parts:
            raise StageBenchError(f"{path}: key '{key}' (valid: train, val, test, each once)")
        if not isinstance(nodes, list) or not all(type(node) is int and abs(node) < 2**63 for node in nodes):
            raise StageBenchError(f"{path}: '{key}' is not a list of row numbers")
        parts[part] = np.array(nodes, dtype=np.int64)
    missing = [part for part in ("train", "val", "test") if part not in parts]
    if missing:
        raise StageBenchError(f"{path}: the list '{missing[0]}' is missing")
    return fixed_split(labels, protocol, parts, str(path))


def _instructions(card: located_yaml.Document) -> dict[str, str]:
    declared = card.value.get("instructions", {})
    if not isinstance(declared, dict) or not all(isinstance(text, str) for text in declared.values()):
        raise card.error(["instructions"], "instructions maps a variant (default, graph-aware, dataset) to a sentence")
    for variant in declared:
        if variant not in VARIANTS:
            raise card.error(["instructions", variant], registry.unknown("instruction", variant, VARIANTS), key=True)
    return dict(declared)
