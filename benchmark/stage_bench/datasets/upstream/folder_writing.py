"""Writing a Table as a folder dataset (docs/datasets.md), which appears when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stage_bench.datasets.upstream.table import Table
from stage_bench.errors import StageBenchError

_EDGES = 1_000_000  # at a time
_LINES = 10_000


class _Dumper(yaml.SafeDumper):
    """Puts quotes around texts that YAML 1.2 would take for numbers, such as 1e5, and PyYAML would not."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    quoted = text[:1] in set("0123456789+-.") or "\n" in text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Dumper.add_representer(str, _text_node)


def write(table: Table, folder: Path, name: str, sources: Mapping[str, str]) -> None:
    """Write `folder`; folder_reading of it gives the same texts, labels and edges.

    sources: upstream file to its sha256, for the card.

    Raises:
        StageBenchError: the table does not fit together, or a folder of that name is there already.
        OSError: the disk is full, or a file cannot be written.
    """
    table.check()
    if folder.exists():
        raise StageBenchError(f"{folder}: is there already, without a dataset.yaml; move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_lines(temporary / "nodes.jsonl", _nodes(table))
        _write_edges(temporary / "edges.csv", table.edges)
        if table.parts:
            parts = {part: nodes.tolist() for part, nodes in table.parts.items()}
            _write_lines(temporary / "split.json", [json.dumps(parts)])
        if table.gpt_preds is not None:
            _write_lines(temporary / "gpt_preds.csv", table.gpt_preds)
        if table.features is not None:
            with (temporary / "ogb_features.npy").open("wb") as file:
                np.save(file, table.features.astype(np.float32, copy=False), allow_pickle=False)
        card = yaml.dump(_card(table, name, sources), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        (temporary / "dataset.yaml").write_text(card, encoding="utf-8")
        temporary.chmod(0o755)
        _sync(*sorted(temporary.iterdir()), temporary)
        temporary.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _card(table: Table, name: str, sources: Mapping[str, str]) -> dict[str, Any]:
    card: dict[str, Any] = {
        "name": name,
        "text": table.text,
        "label_names": [str(label) for label in table.label_names],
        "directed": table.directed,
        "splits": {"protocol": "file" if table.parts else table.split},
        "num_nodes": table.num_nodes,
        "licence": table.licence,
        "origin": table.origin,
        "notes": list(table.notes),
        "sources": dict(sources),
    }
    return {key: value for key, value in card.items() if value not in ("", [], {})}


def _nodes(table: Table) -> Iterator[str]:
    """One JSON object a node. What UTF-8 cannot hold, half of a surrogate pair, is written as an escape."""
    names = list(table.columns)
    for label, *values in zip(table.labels.tolist(), *table.columns.values(), strict=True):
        row = dict(zip(names, values, strict=True))
        row["label"] = table.label_names[label] if label >= 0 else None
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        try:
            text.encode()
        except UnicodeEncodeError:
            text = json.dumps(row, allow_nan=False)
        yield text


def _write_lines(path: Path, texts: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n", buffering=1 << 20) as file:
        file.writelines(f"{text}\n" for text in texts)


def _write_edges(path: Path, edges: np.ndarray) -> None:
    import pandas

    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write("src,dst\n")
        for start in range(0, edges.shape[1], _EDGES):
            pandas.DataFrame(edges[:, start : start + _EDGES].T).to_csv(file, header=False, index=False)


def _sync(*paths: Path) -> None:
    """To the disk: a folder that has its name must not be found empty after a power failure."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
