"""The splits that a folder dataset prescribes: the column `split`, `split.json`, and `split_NAME.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench import registry
from stage_bench.datasets.nodes_file import NodeTable
from stage_bench.datasets.splits import DEFAULT_RULE, PARTS, Split, fixed_split, random_shares
from stage_bench.errors import StageBenchError, brief
from stage_bench.located_yaml import Document

_PART_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_PROTOCOLS = "random-60-20-20 (any three percentages), column, file"


def protocol(card: Document, table: NodeTable | None, folder: Path) -> tuple[str, str]:
    """The default protocol, and why it is that where dataset.yaml does not say.

    Raises:
        StageBenchError: dataset.yaml names no protocol that there is, or none while the data holds two.
    """
    if "splits" not in card.value:
        column = table is not None and {_PART_OF.get(value) for value in table.split.values} >= set(PARTS)
        file = (folder / "split.json").is_file()
        if column and file:
            raise card.error(
                [], "the nodes have a `split` column and there is a split.json: add splits: {protocol: column}, or file"
            )
        if column:
            return "column", "the nodes have a `split` column with train, val and test"
        return ("file", "there is a split.json") if file else (DEFAULT_RULE, "")
    given = card.value["splits"]
    if not isinstance(given, dict):
        raise card.error(["splits"], "splits is a mapping: {protocol: ...}")
    for key in given:
        if key != "protocol":
            raise card.error(["splits", key], registry.unknown("key", key, ["protocol"]), key=True)
    name = str(given.get("protocol", DEFAULT_RULE))
    try:
        known = name in ("column", "file") or random_shares(name) is not None
    except StageBenchError as error:
        raise card.error(["splits", "protocol"], str(error)) from None
    if not known:
        raise card.error(["splits", "protocol"], f"unknown protocol '{brief(name)}' (valid: {_PROTOCOLS})")
    return name, ""


def from_column(table: NodeTable, labels: np.ndarray) -> Split:
    """Raises StageBenchError: the column holds another word, or no split that `fixed_split` takes; with the place."""
    any_label = bool((labels >= 0).any())  # a graph without labels may show its split
    parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for code, value in enumerate(table.split.values):
        part = _PART_OF.get(value)
        if part is None:
            place = table.place(table.split.first[code])
            raise StageBenchError(f"{place}: split '{brief(value, 60)}' (valid: train, val, test, or empty)")
        nodes = np.flatnonzero(table.split.codes == code)
        parts[part].append(nodes)
        unlabelled = nodes[labels[nodes] < 0]
        if len(unlabelled) and any_label:
            node = int(unlabelled[0])
            raise StageBenchError(f"{table.place(node)}: node {node} belongs to the {part} part but has no label")
    empty = np.empty(0, dtype=np.int64)
    joined = {part: np.concatenate([empty, *nodes]) for part, nodes in parts.items()}
    return fixed_split(labels, "column", joined, str(table.path))


def from_file(path: Path, name: str, labels: np.ndarray) -> Split:
    """Raises StageBenchError: the file holds no three lists, or no split that `fixed_split` takes."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageBenchError(f"{path}: no such file, but the protocol is `file`") from None
    except (ValueError, RecursionError) as error:
        raise StageBenchError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise StageBenchError(f"{path}: expected an object with the lists train, val and test")
    parts: dict[str, np.ndarray] = {}
    for key, nodes in content.items():
        part = _PART_OF.get(key)
        if part is None or part in parts:
            raise StageBenchError(f"{path}: key '{brief(key)}' (valid: train, val, test, each once)")
        if not isinstance(nodes, list) or not all(type(node) is int and abs(node) < 2**63 for node in nodes):
            raise StageBenchError(f"{path}: '{key}' is not a list of row numbers")
        parts[part] = np.array(nodes, dtype=np.int64)
    missing = [part for part in PARTS if part not in parts]
    if missing:
        raise StageBenchError(f"{path}: the list '{missing[0]}' is missing")
    return fixed_split(labels, name, parts, str(path))


def check_name(path: Path, name: str) -> None:
    """Raises StageBenchError: a suite could not ask for it, or would get it where it asks for another."""
    if not name or name in ("column", "file") or name.startswith("random-"):
        raise StageBenchError(f"{path}: a split of one's own cannot be called '{brief(name)}'; rename the file")


def named(folder: Path) -> dict[str, Path]:
    """The further split files by the name of their split."""
    return {path.stem.removeprefix("split_"): path for path in sorted(folder.glob("split_*.json"))}
