"""All of a results folder looked at. Nothing is unpickled or changed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from stage_bench import files, seals
from stage_bench.diffusion import documents
from stage_bench.errors import StageBenchError
from stage_bench.features.source import predictions_id
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import holdings, remains
from stage_bench.runs.findings import ASIDE, Findings, Problem, counted
from stage_bench.runs.holdings import PARTIAL, Kind
from stage_bench.runs.record import Newer
from stage_bench.runs.row_files import Damaged
from stage_bench.runs.store import Store
from stage_bench.training import studies

Step = Callable[[int, int, str], None]
"""Told (done, total, what) as it goes on."""

_AGAIN_SECONDS = 0.5  # until a second look at what was written to just now


def examine(results: Path, step: Step = lambda done, total, what: None) -> Findings:
    """Look at everything that a results folder holds, and change nothing.

    Raises:
        StageBenchError: it is no results folder, or cannot be read.
    """
    holdings.check(results)
    try:
        return _Look(results, step).findings()
    except OSError as error:
        raise StageBenchError(f"{error.filename or results} cannot be read: {error.strerror or error}") from None


def problems(results: Path, kind: str, id_: str) -> list[Problem]:
    """What is wrong with one thing."""
    return list(_Look(results).problems(kind, id_))


class _Look:
    """One look at a results folder."""

    def __init__(self, results: Path, step: Step = lambda done, total, what: None) -> None:
        self.results, self.step = results, step
        self.found = Findings(results)
        self.cache = EmbeddingCache(results / "embeddings")
        self.unsealed = 0
        self._features: dict[str, str] | None = None

    def findings(self) -> Findings:
        found = self.found
        ids = [(kind, id_) for kind in holdings.KINDS for id_ in kind.ids(self.results)]
        for number, (kind, id_) in enumerate(ids):
            found.problems += self._looked_twice(kind.name, id_)
            self.step(number + 1, len(ids), "checked")
        found.remains += remains.find(self.results)
        found.notes += self._notes()
        return found

    def _looked_twice(self, kind: str, id_: str) -> list[Problem]:
        """What is being written at this moment may be whole at the next."""
        before = self.found.checked.copy(), self.found.unfinished.copy(), self.found.failed, self.unsealed
        problems = list(self.problems(kind, id_))
        if problems and time.time() - max(remains.changed(problem.path) for problem in problems) < _AGAIN_SECONDS:
            time.sleep(_AGAIN_SECONDS)
            self.found.checked, self.found.unfinished, self.found.failed, self.unsealed = before
            problems = list(self.problems(kind, id_))
        return problems

    def problems(self, kind: str, id_: str) -> Iterator[Problem]:
        """What is wrong with one thing."""
        self.found.checked[kind] += 1
        looks = {"runs": self._run, "embeddings": self._embedding, "diffusion": self._diffusion}
        try:
            yield from {**looks, "studies": self._study, "answers": self._answer}[kind](id_)
        except OSError as error:
            path = Path(error.filename) if error.filename else _kind(kind).path(self.results, id_)
            what = f"cannot be read: {error.strerror or error}"
            yield Problem(kind, id_, path, what, "nothing of it is used", advice="is the disk sound, and is it yours?")

    def _run(self, id_: str) -> Iterator[Problem]:
        folder = Store(self.results).folder(id_)
        effect = "the run counts as missing; `stage-bench run` does it again"
        try:
            record = Store(self.results).read(id_)
        except Newer as error:
            what = str(error).removeprefix(f"{folder}{os.sep}")
            yield Problem("runs", id_, folder, what, effect, advice="update stage-bench, or remove it")
            return
        except StageBenchError as error:
            what = str(error).removeprefix(f"{folder}{os.sep}")
            yield Problem("runs", id_, folder, what, effect, (folder,))
            return
        if record is None:
            self.found.unfinished["runs"] += 1
            return
        self.found.failed += record.status == "failed"
        self.unsealed += f'"{seals.KEY}"'.encode() not in (folder / "run.json").read_bytes()

    def _embedding(self, id_: str) -> Iterator[Problem]:
        folder = self.cache.root / id_
        manifest, damage = self.cache.look(id_)
        if manifest is None and not damage:
            self.found.unfinished["embeddings"] += folder.is_dir() and any(folder.iterdir())
            return
        aside, again = [folder / "manifest.json"], "checks its parts, and makes it anew"
        if manifest is not None:
            damaged = list(self.cache.damaged(id_, manifest))
            if not damaged:
                return
            if len(damaged) * manifest["shard_rows"] >= manifest["rows"]:
                damage = "vectors.npy is absent, or nothing in it is what was written"
                aside, again = [folder], "makes it again"
            else:
                first = damaged[0]
                more = f", and {len(damaged) - 1:,} more parts" if len(damaged) > 1 else ""
                damage = f"vectors.npy: rows {first.start:,} to {first.stop - 1:,} are not what was written{more}"
                notes = [folder / "shards" / f"{shard.stem}.json" for shard in damaged]
                aside, again = [*aside, *(note for note in notes if note.exists())], "makes these again"
        else:
            damage = f"manifest.json: {damage}"
        source = self._made_with(id_)
        if source is not None:  # class scores are made with the features, and with these alone
            aside, again = [folder, source], f"makes it again, with the features {source.name}"
        effect = f"nothing is trained on it; where a run needs it, `stage-bench run` {again}"
        yield Problem("embeddings", id_, folder, damage, effect, tuple(aside))

    def _made_with(self, id_: str) -> Path | None:
        """The folder of the features that come with these class scores, if these are class scores."""
        if self._features is None:
            ids = _kind("embeddings").ids(self.results)
            self._features = {predictions_id(features): features for features in ids}
        return self.cache.root / self._features[id_] if id_ in self._features else None

    def _diffusion(self, id_: str) -> Iterator[Problem]:
        folder = self.results / "diffusion" / id_
        effect = "where a run needs it, `stage-bench run` makes it again"
        damage = self._damage(_kind("diffusion"), id_)
        if damage:
            yield Problem("diffusion", id_, folder, damage, effect, (folder,))
            return
        _, damage = documents.look(folder / documents.PLAN)
        if damage:
            path = folder / documents.PLAN
            yield Problem("diffusion", id_, path, damage, "it is left out of account", (path,))

    def _study(self, id_: str) -> Iterator[Problem]:
        summary = self.results / "studies" / f"{id_}.json"
        journal = summary.with_name(f"{id_}.trials.jsonl")
        try:
            if studies.read(summary) is None:
                self.found.unfinished["studies"] += 1
        except studies.Damaged as damage:
            # What was begun and has no summary is done again, which of a study without anything nobody would know.
            effect = "no report shows it; `stage-bench run` makes it again, from its trials where they are there"
            yield Problem("studies", id_, summary, str(damage), effect, (summary,), then=journal.touch)
        if not journal.is_file():
            return
        lines = journal.read_bytes().split(b"\n")[:-1]
        sound, damaged = [], []
        for number, line in enumerate(lines, 1):
            try:
                studies.parse(line, id_)
                sound.append(line + b"\n")
            except studies.Damaged as damage:
                damaged.append(f"line {number}: {damage}")
        if damaged:
            more = f" ({len(damaged):,} lines of {len(lines):,} are damaged)" if len(damaged) > 1 else ""
            effect = "where the study goes on, `stage-bench run` does again what only these lines told of"
            rewrite = _rewriting(journal, b"".join(sound))
            yield Problem("studies", id_, journal, damaged[0] + more, effect, (journal,), then=rewrite)

    def _answer(self, id_: str) -> Iterator[Problem]:
        path = self.results / "answers" / id_
        damage = self._damage(_kind("answers"), id_)
        if damage:
            is_manifest = path.name == "manifest.json"
            effect = "it is written anew" if is_manifest else "where its features are made, the model is asked again"
            yield Problem("answers", id_, path, damage, effect, (path,))

    def _damage(self, kind: Kind, id_: str) -> str:
        try:
            holding = kind.look(self.results, id_)
        except Damaged as damage:
            return str(damage)
        if holding is None or holding.state == PARTIAL:
            self.found.unfinished[kind.name] += holding is not None
            return ""
        return kind.damage(holding)

    def _notes(self) -> Iterator[str]:
        if self.found.failed:
            yield f"{counted(self.found.failed, 'run')} failed: `stage-bench run` tries again, show run ID says why"
        if self.unsealed:
            runs = counted(self.unsealed, "run")
            yield f"{runs} of before records had checksums: a changed number there would not show"
        links = [link for name in holdings.FOLDERS for link in _links(self.results / name)]
        if links:
            yield f"{counted(len(links), 'symbolic link')} not followed, the first is {links[0]}"
        for path in holdings.strangers(self.results):
            yield f"{path} is no part of a results folder"
        aside = self.results / ASIDE
        if aside.is_dir():
            things = counted(sum(1 for _ in aside.iterdir()), "thing")
            yield f"{aside} holds {things} set aside: remove it when you have no more use for that"


def _kind(name: str) -> Kind:
    return next(kind for kind in holdings.KINDS if kind.name == name)


def _rewriting(path: Path, data: bytes) -> Callable[[], object]:
    return lambda: files.write_bytes(path, data)


def _links(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from (Path(entry.path) for entry in os.scandir(folder) if entry.is_symlink())
