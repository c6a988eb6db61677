"""What lies in a results folder, read without a line of stage-bench: is each file whole, and what is finished?"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from stressed import RANGE_BYTES

ID = "[0-9a-f]{16}"
_TIMES = re.compile(r".*seconds|peak_memory_mb|hardware|energy.*|.*joules")
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")


@dataclass
class Found:
    """finished: what is not to be done or written again, with what tells whether it was. jobs: those of the plan that
    are done. unfinished: kinds of things that were begun. temporary: files that a killed process was writing.
    whole: diffusions of which every row is there, so that their blocks are no longer needed.
    """

    finished: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    jobs: set[str] = field(default_factory=set)
    unfinished: Counter[str] = field(default_factory=Counter)
    temporary: list[str] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = Counter(key.partition(" ")[0] for key in self.finished)
        done = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing"
        begun = ", ".join(f"{count} {kind}" for kind, count in self.unfinished.items())
        return f"{done} done{f'; begun: {begun}' if begun else ''}; {len(self.temporary)} temporary"


def look(root: Path) -> Found:
    """Every file below `root/results` and `root/reports`. Raises AssertionError: something is not as it must be."""
    found = Found()
    results = root / "results"
    for path in sorted(path for top in (results, root / "reports") for path in top.rglob("*") if path.is_file()):
        if _TEMPORARY.fullmatch(path.name):
            found.temporary.append(str(path.relative_to(root)))
        elif not any(re.fullmatch(pattern, str(path.relative_to(root))) for pattern in _KNOWN):
            found.problems.append(f"{path}: nobody knows what this is")
    for look_at, folder in ((_run, "runs"), (_embedding, "embeddings"), (_diffusion, "diffusion")):
        for path in sorted((results / folder).glob("*")):
            look_at(path, found)
    for id_ in sorted({path.name.partition(".")[0] for path in (results / "studies").glob("[0-9a-f]*")}):
        _study(results / "studies", id_, found)
    for path in sorted((results / "logs").glob("*.json")):
        _json(path, found)
    for path in sorted((root / "reports").rglob("*")):
        if path.is_file() and not _TEMPORARY.fullmatch(path.name):
            _report_file(path, found)
    assert not found.problems, "\n".join(found.problems)
    return found


_KNOWN = [
    rf"results/runs/{ID}/(run\.json|predictions\.npz)",
    rf"results/embeddings/{ID}/(manifest\.json|vectors\.npy|shards/\d{{5}}\.json|locks/\w+)",
    rf"results/diffusion/{ID}/(plan\.json|manifest\.json|matrix\.npy|lock|rows/\d{{5}}\.json|parts/\d{{5}}-\d\d\.(f32|json))",
    rf"results/studies/{ID}(\.json|\.trials\.jsonl|\.lock|\.workers/[0-9a-f]{{32}})",
    r"results/logs/stressed-[0-9TZ]+-\d+\.(json|log)",
    rf"results/claims/{ID}",
    r"reports/stressed/[a-z]+\.(csv|md|tex|html|json|npz)",
    r"reports/stressed/plots/[\w.-]+\.(svg|png)",
]


def kept(before: Found, now: Found) -> list[str]:
    """What was finished before and is not there any more, or was done again."""
    return [
        f"{key} {'was done again' if key in now.finished else 'is lost'}"
        for key, mark in before.finished.items()
        if now.finished.get(key) != mark and not any(key.startswith(f"block {id_}/") for id_ in now.whole)
    ]


def content(root: Path) -> dict[str, Any]:
    """What a results folder and its leaderboard say, apart from times and where they were spent."""
    results, said = root / "results", root / "reports" / "stressed"
    found: dict[str, Any] = {name: _untimed(said / name) for name in ("leaderboard.csv", "runs.csv")}
    for path in results.glob("runs/*/predictions.npz"):
        found[f"run {path.parent.name}"] = _digest(path)
    for path in (*results.glob("embeddings/*/vectors.npy"), *results.glob("diffusion/*/matrix.npy")):
        found[f"{path.parent.parent.name} {path.parent.name}"] = _digest(path)
    for path in results.glob("studies/*.json"):
        rows = json.loads(path.read_text())["history"]
        found[f"study {path.name}"] = [{key: row[key] for key in row if key != "seconds"} for row in rows]
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]


def _untimed(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: row[key] for key in row if not _TIMES.fullmatch(key)} for row in csv.DictReader(file)]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _mark(path: Path) -> tuple[Any, ...]:
    """Other where a file was written again, even with the same content."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, _digest(path)


def _json(path: Path, found: Found) -> dict[str, Any]:
    """An object that is there under its final name has to be whole; empty where it is not there."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        value: dict[str, Any] = json.loads(data)
    except ValueError as error:
        found.problems.append(f"{path}: {error}")
        return {}
    # A note of a part is bound to what it is a part of.
    if not _is_sealed(value, "", path.parent.parent.name, f"{path.parent.name}/{path.name}"):
        found.problems.append(f"{path}: its checksum is not its own")
    return value


def _is_sealed(value: dict[str, Any], *contexts: str) -> bool:
    """That the checksum of an object that has one is its own; contexts: what it may be computed with as well."""
    if "own_sha256" not in value:
        return True
    rest = {key: item for key, item in value.items() if key != "own_sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return value["own_sha256"] in [hashlib.sha256(f"{context}\n{text}".encode()).hexdigest() for context in contexts]


def _run(folder: Path, found: Found) -> None:
    predictions = folder / "predictions.npz"
    if predictions.exists():
        try:
            with zipfile.ZipFile(predictions) as archive:
                whole = archive.testzip() is None and {"probabilities.npy", "logits.npy"} <= set(archive.namelist())
        except zipfile.BadZipFile:
            whole = False
        if not whole:
            found.problems.append(f"{predictions}: not whole")
    record = _json(folder / "run.json", found)
    if not record:
        found.unfinished["run"] += 1
        return
    if record.get("id") != folder.name or record.get("status") != "ok":
        found.problems.append(f"{folder}: of {record.get('id')}, {record.get('status')} {record.get('error')}")
    elif not predictions.exists() or _digest(predictions) != record["predictions_sha256"]:
        found.problems.append(f"{predictions}: absent, or another than its record says")
    else:
        found.finished[f"run {folder.name}"] = (*_mark(folder / "run.json"), *_mark(predictions))
        found.jobs.add(folder.name)


def _rows(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _part(name: str, note: Path, rows: np.ndarray | None, size: int, found: Found) -> None:
    """Rows of a matrix whose note says that they are there."""
    said = _json(note, found)
    if not said:
        return
    here = rows[said["start"] : said["start"] + size] if rows is not None else np.empty(0)
    if hashlib.sha256(np.ascontiguousarray(here).tobytes()).hexdigest() != said["sha256"]:
        found.problems.append(f"{note}: its rows are not there, or others")
    found.finished[f"{name} {note.parent.parent.name}/{note.stem}"] = _mark(note)


def _embedding(folder: Path, found: Found) -> None:
    manifest = _json(folder / "manifest.json", found)
    vectors = folder / "vectors.npy"
    rows = _rows(vectors) if vectors.exists() else None
    notes = sorted((folder / "shards").glob("[0-9]*.json"))
    for note in notes:
        _part("shard", note, rows, manifest.get("shard_rows", 1024), found)
    if not manifest:
        found.unfinished["embedding"] += 1
        return
    if rows is None or rows.shape != (manifest["rows"], manifest["dimension"]):
        found.problems.append(f"{vectors}: absent, or of another shape than its manifest says")
    if len(notes) != -(-manifest["rows"] // manifest["shard_rows"]):
        found.problems.append(f"{folder}: {len(notes)} parts, and a manifest")
    found.finished[f"embedding {folder.name}"] = _mark(folder / "manifest.json")
    found.jobs.add(folder.name)


def _diffusion(folder: Path, found: Found) -> None:
    matrix = folder / "matrix.npy"
    rows = _rows(matrix) if matrix.exists() else None
    stride = max(1, RANGE_BYTES // (rows.shape[1] * rows.itemsize)) if rows is not None else 0
    notes = sorted((folder / "rows").glob("[0-9]*.json"))
    for note in notes:
        _part("range", note, rows, stride, found)
    plan, manifest = _json(folder / "plan.json", found), _json(folder / "manifest.json", found)
    if rows is not None and len(notes) == -(-len(rows) // stride):
        found.whole.add(folder.name)
    if manifest:
        if folder.name not in found.whole:
            found.problems.append(f"{folder}: {len(notes)} ranges of rows, and a manifest")
        found.finished[f"diffusion {folder.name}"] = _mark(folder / "manifest.json")
        return
    found.unfinished["diffusion"] += 1
    for note in sorted((folder / "parts").glob("[0-9]*.json")):
        said, block = _json(note, found), note.with_suffix(".f32")
        size = plan["num_nodes"] * (said["last"] - said["first"]) * 4
        if not block.exists() or block.stat().st_size != size or _digest(block) != said["sha256"]:
            found.problems.append(f"{block}: absent, or another than its note says")
        else:
            found.finished[f"block {folder.name}/{note.stem}"] = _mark(block)


def _study(folder: Path, id_: str, found: Found) -> None:
    journal = folder / f"{id_}.trials.jsonl"
    lines = journal.read_bytes().split(b"\n") if journal.exists() else [b""]
    ended: Counter[int] = Counter()
    for line in lines[:-1]:  # behind the last line break: what a killed process could not end
        trial = json.loads(line)
        if not _is_sealed(trial, id_):
            found.problems.append(f"{journal}: a line with another checksum than its own")
        if trial["state"] != "running":
            ended[trial["number"]] += 1
            found.finished[f"trial {id_}/{trial['number']}"] = (line,)
    found.problems += [f"{journal}: trial {number} ended {count} times" for number, count in ended.items() if count > 1]
    if _json(folder / f"{id_}.json", found):
        found.finished[f"study {id_}"] = _mark(folder / f"{id_}.json")
        found.jobs.add(id_)
    else:
        found.unfinished["study"] += 1


def _report_file(path: Path, found: Found) -> None:
    data = path.read_bytes()
    whole = True
    if path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(data.decode())))
        whole = data.endswith(b"\n") and len({len(row) for row in rows}) == 1
    elif path.suffix == ".json":
        _json(path, found)
    elif path.suffix == ".npz":
        whole = zipfile.is_zipfile(path)
    elif path.suffix == ".png":
        whole = data.endswith(b"IEND\xae\x42\x60\x82")
    elif path.suffix == ".svg":
        ElementTree.fromstring(data)
    elif path.suffix == ".html":
        whole = data.rstrip().endswith(b"</html>")
    if not whole:
        found.problems.append(f"{path}: not whole")
