"""What a results folder holds, kind by kind: how it is found, checked and compared. Nothing is unpickled or changed."""

from __future__ import annotations

import filecmp
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench.answers import store as answers
from stage_bench.diffusion import documents
from stage_bench.errors import StageBenchError, shown
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import row_files
from stage_bench.runs.record import RunRecord
from stage_bench.runs.row_files import Damaged
from stage_bench.runs.store import Store
from stage_bench.training import studies

DONE, FAILED, PARTIAL = "done", "failed", "partial"
"""Of a run that failed, and of work that was interrupted and would be gone on with."""

FOLDERS = ("runs", "embeddings", "diffusion", "studies", "answers", "logs")

_OF_THIS_PLACE = ("claims", "damaged")
"""What results folders hold that is nobody else's: who does which job (execution/claims.py), what was set aside."""

_MANIFEST = "manifest.json"
_JOURNAL = ".trials.jsonl"
_VALUE = 60  # characters shown of an answer


@dataclass(frozen=True, eq=False)
class Holding:
    """One thing in one results folder.

    content: what its kind compares. files: its own, by their place in `results`, in the order in which they are to be
    written: the last one makes it whole.
    """

    kind: Kind
    id: str
    results: Path
    state: str
    content: Any
    files: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.kind.path(self.results, self.id)

    @property
    def title(self) -> str:
        """The path, and what it is where that says more."""
        what = self.kind.what(self)
        return f"{self.path} ({what})" if what else str(self.path)


class Kind:
    """One folder of a results folder, as FOLDERS has it.

    whole: the files of one holding make a folder that is there as a whole, or not at all.
    """

    name = ""
    whole = False

    def path(self, results: Path, id_: str) -> Path:
        return results / self.name / id_

    def ids(self, results: Path) -> Iterator[str]:
        """What may be held there, by the names of files and folders."""
        return (entry.name for entry in _entries(results / self.name) if entry.is_dir(follow_symlinks=False))

    def look(self, results: Path, id_: str) -> Holding | None:
        """What is held under an id, without reading all of it; None where nothing is.

        Raises:
            Damaged: what is there cannot be used.
        """
        raise NotImplementedError

    def damage(self, holding: Holding) -> str:
        """What is wrong with it, all of which is read; empty where it is sound."""
        return ""

    def same(self, one: Holding, other: Holding) -> bool:
        """Whether two that are done hold the same, as far as can be told at once."""
        return bool(one.content == other.content)

    def continues(self, one: Holding, other: Holding) -> bool:
        """Whether the other holds all that one does, and more."""
        return False

    def difference(self, one: Holding, other: Holding) -> str:
        """How two that are sound differ, and what to do then; empty where they may stand for each other."""
        raise NotImplementedError

    def what(self, holding: Holding) -> str:
        """A few words for people."""
        return ""


class Runs(Kind):
    name = "runs"

    def look(self, results: Path, id_: str) -> Holding | None:
        try:
            record = Store(results).read(id_)
        except StageBenchError as error:
            where = f"{self.path(results, id_)}{os.sep}"
            raise Damaged(str(error).removeprefix(where)) from None
        if record is None:
            if not self.path(results, id_).is_dir():
                return None
            raise Damaged("has no run.json: it was interrupted")
        names = ("predictions.npz", "run.json") if record.status == "ok" else ("run.json",)
        state = DONE if record.status == "ok" else FAILED
        return Holding(self, id_, results, state, record, tuple(f"{self.name}/{id_}/{name}" for name in names))

    def same(self, one: Holding, other: Holding) -> bool:
        ours, theirs = one.content, other.content
        return (ours.predictions_sha256, ours.metrics) == (theirs.predictions_sha256, theirs.metrics)

    def difference(self, one: Holding, other: Holding) -> str:
        ours, theirs = one.content.metrics, other.content.metrics
        said = [
            f"{key} {_number(ours.get(key))} / {_number(theirs.get(key))}"
            for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key)
        ]
        # Another library may pack the same numbers into other bytes.
        packed = one.content.predictions_sha256 != other.content.predictions_sha256
        if packed and not _equal(*(Store(each.results).predictions(each.id) for each in (one, other))):
            said.append("other predictions")
        return ", ".join(said)

    def what(self, holding: Holding) -> str:
        return title(holding.content)


class Matrices(Kind):
    """Folders of one matrix each, with checksums of its rows and a manifest that is written last."""

    whole = True

    def __init__(
        self,
        name: str,
        file: str,
        notes: str,
        advice: str,
        look: Callable[[Path], tuple[dict[str, Any] | None, str]],
    ) -> None:
        """look: a folder's manifest, and what is wrong with it where it is there and cannot be used."""
        self.name, self._file, self._notes, self._advice, self._look = name, file, notes, advice, look

    def look(self, results: Path, id_: str) -> Holding | None:
        folder = self.path(results, id_)
        manifest, problem = self._look(folder)
        if problem:
            raise Damaged(f"{_MANIFEST}: {problem}")
        if manifest is None:
            names = list(_files(folder, ()))
            if not names:
                return None
            return Holding(self, id_, results, PARTIAL, None, self._within(id_, names))
        matrix = row_files.look(folder / self._file, folder / self._notes)
        rows = manifest.get("rows", manifest.get("num_nodes"))
        width = manifest.get("dimension", manifest.get("width"))
        if (rows, width) != matrix.shape:
            raise Damaged(f"{self._file} is not of the shape that {_MANIFEST} says")
        # What only unfinished ones need; gone, unless the process was killed at the very end.
        names = [name for name in _files(folder, ("work", "parts")) if name != _MANIFEST]
        return Holding(self, id_, results, DONE, matrix, self._within(id_, [*names, _MANIFEST]))

    def _within(self, id_: str, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(f"{self.name}/{id_}/{name}" for name in names)

    def damage(self, holding: Holding) -> str:
        return str(holding.content.damage()) if holding.state == DONE else ""

    def same(self, one: Holding, other: Holding) -> bool:
        return bool(one.content.content == other.content.content)

    def difference(self, one: Holding, other: Holding) -> str:
        said = one.content.difference(other.content)
        return f"{said}; {self._advice}" if said else ""

    def what(self, holding: Holding) -> str:
        manifest = _json(holding.path / _MANIFEST) or {}
        return shown(" ".join(str(manifest[key]) for key in ("dataset", "llm") if isinstance(manifest.get(key), str)))


class Studies(Kind):
    name = "studies"

    def path(self, results: Path, id_: str) -> Path:
        return results / self.name / f"{id_}.json"

    def ids(self, results: Path) -> Iterator[str]:
        names = [entry.name for entry in _entries(results / self.name) if entry.is_file(follow_symlinks=False)]
        found = (name.removesuffix(ending) for name in names for ending in (_JOURNAL, ".json") if name.endswith(ending))
        return iter(dict.fromkeys(found))

    def look(self, results: Path, id_: str) -> Holding | None:
        summary, journal = self.path(results, id_), results / self.name / f"{id_}{_JOURNAL}"
        names = tuple(f"{self.name}/{path.name}" for path in (journal, summary) if path.is_file())
        if journal.is_file():
            _check_journal(journal, id_)
        try:
            found = studies.read(summary)
        except studies.Damaged as problem:
            raise Damaged(str(problem)) from None
        if found is None:
            return Holding(self, id_, results, PARTIAL, None, names) if names else None
        content, trials = found
        winner = next(trial for trial in trials if trial.number == content["winner"])
        return Holding(self, id_, results, DONE, (winner.values, [(t.values, t.state) for t in trials]), names)

    def continues(self, one: Holding, other: Holding) -> bool:
        """A suite that asks for fewer trials looks at the first ones alone: the longer study serves both."""
        ours, theirs = one.content[1], other.content[1]
        return len(theirs) > len(ours) and bool(theirs[: len(ours)] == ours)

    def difference(self, one: Holding, other: Holding) -> str:
        ours, theirs = one.content[0], other.content[0]
        if ours == theirs:
            return ""
        other_ones = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        winners = (", ".join(f"{key}={_number(one.get(key))}" for key in other_ones) for one in (ours, theirs))
        return f"another winner ({' / '.join(winners)}); remove one study, and the runs that were tuned by it"


class Answers(Kind):
    """Each file is a holding of its own: what several machines asked for adds up. The id is `<folder>/<file>`."""

    name = "answers"

    def ids(self, results: Path) -> Iterator[str]:
        for folder in super().ids(results):
            for entry in _entries(results / self.name / folder):
                if re.fullmatch(r"\d+\.json|manifest\.json", entry.name) and entry.is_file(follow_symlinks=False):
                    yield f"{folder}/{entry.name}"

    def look(self, results: Path, id_: str) -> Holding | None:
        if not self.path(results, id_).is_file():
            return None
        return Holding(self, id_, results, DONE, None, (f"{self.name}/{id_}",))

    def damage(self, holding: Holding) -> str:
        if holding.path.name == _MANIFEST:
            return "" if _json(holding.path) is not None else "no JSON"
        try:
            self._read(holding)
        except answers.Damaged as error:
            return f"no response of a chat model: {error}"
        return ""

    def same(self, one: Holding, other: Holding) -> bool:
        return filecmp.cmp(one.path, other.path, shallow=False)

    def difference(self, one: Holding, other: Holding) -> str:
        ours, theirs = self._read(one), self._read(other)
        if ours is None or theirs is None:
            return ""  # manifests: they count what is in the answers, and are written anew when these are read
        both = [(answer.content, answer.refused) for answer in (ours, theirs)]
        if both[0] == both[1]:
            return ""
        said = (f"'{_shortened(content)}'" if content else f"refused: {_shortened(why)}" for content, why in both)
        return f"another answer ({' / '.join(said)}); remove one"

    def _read(self, holding: Holding) -> answers.Answer | None:
        """None: it is a manifest. Raises answers.Damaged."""
        if holding.path.name == _MANIFEST:
            return None
        return answers.read(holding.path.parent, int(holding.path.stem))


KINDS: tuple[Kind, ...] = (
    Runs(),
    Matrices(
        "embeddings",
        "vectors.npy",
        "shards",
        "on other hardware the last bits may differ, so none is wrong: remove one of the two folders",
        lambda folder: EmbeddingCache(folder.parent).look(folder.name),
    ),
    Matrices(
        "diffusion",
        "matrix.npy",
        "rows",
        "remove one of the two folders; it is made again where a run needs it",
        documents.manifest,
    ),
    Studies(),
    Answers(),
)


def check(folder: Path) -> None:
    """Raises StageBenchError: it is no results folder, or there is none."""
    if not folder.is_dir():
        raise StageBenchError(f"{folder}: there is no such folder")
    if not any(os.path.lexists(folder / name) for name in FOLDERS):
        inner = folder / "results"
        hint = f"; did you mean {inner}?" if inner.is_dir() else ""
        raise StageBenchError(f"{folder} is no results folder: it holds no {', '.join(FOLDERS)}{hint}")


def logs(results: Path) -> list[Path]:
    """The files of `logs/`, by name."""
    folder = results / "logs"
    return [folder / entry.name for entry in _entries(folder) if entry.is_file(follow_symlinks=False)]


def strangers(results: Path) -> list[Path]:
    """What is in the folder and no part of a results folder."""
    return [results / entry.name for entry in _entries(results) if entry.name not in (*FOLDERS, *_OF_THIS_PLACE)]


def refused(results: Path) -> Iterator[str]:
    """A line for each thing that is neither file nor folder: links lead anywhere, and what else there is has no end."""
    for name in FOLDERS:
        place = results / name
        if os.path.lexists(place):
            yield from _refused(place, place.lstat().st_mode)


def _refused(place: Path, mode: int) -> Iterator[str]:
    if stat.S_ISLNK(mode):
        yield f"{place} is a symbolic link, and merge follows none: put what it leads to in its place"
    elif stat.S_ISDIR(mode):
        with os.scandir(place) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            yield from _refused(place / entry.name, entry.stat(follow_symlinks=False).st_mode)
    elif not stat.S_ISREG(mode):
        yield f"{place} is neither a file nor a folder: remove it"


def title(record: RunRecord) -> str:
    """What a run is, as progress and logs have it (suite/jobs.py), its dataset first."""
    features = "" if record.features == "zero-shot" and record.llm else record.features
    parts = (record.dataset, features, record.llm, record.instruction, record.backbone)
    seed = record.init_seed if record.split_seed is None else record.split_seed
    return shown(" ".join(part for part in (*parts, f"seed {seed}") if part and part != "none"))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """By name; what begins with a dot was not finished, or is a lock."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda entry: entry.name)


def _files(folder: Path, left_out: tuple[str, ...], within: str = "") -> Iterator[str]:
    """The files below a folder, by their place in it, without locks."""
    for entry in _entries(folder):
        if entry.name in ("lock", "locks", *left_out):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder / entry.name, (), f"{within}{entry.name}/")
        else:
            yield f"{within}{entry.name}"


def _check_journal(path: Path, id_: str) -> None:
    """Raises Damaged: a line is no trial. The last one may be torn; whoever goes on from it removes it."""
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            studies.parse(line, id_)
        except studies.Damaged as problem:
            raise Damaged(f"{path.name}:{number}: {problem}") from None


def _json(path: Path) -> dict[str, Any] | None:
    """None where there is no such file, or it holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and np.array_equal(one[key], other[key]) for key in one
    )


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else shown(value)


def _shortened(text: str) -> str:
    line = shown(" ".join(text.split()))
    return line if len(line) <= _VALUE else f"{line[: _VALUE - 3]}..."
