"""`doctor`: a results folder checked and mended; an installation looked at, each line with what to do."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

import tiny
from stage_bench import registry, seals
from stage_bench.answers import store as answers
from stage_bench.checks import Line
from stage_bench.errors import StageBenchError
from stage_bench.execution import doctor, reaching, running
from stage_bench.features.source import predictions_id
from stage_bench.kernels import allocator
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import energy, examination, findings, mending, provenance, remains
from stage_bench.runs.findings import Findings, Outcome
from stage_bench.runs.store import Store
from stage_bench.training import studies, tuning
from stage_bench.training.ensembles import stored
from studying import FIRST, Objective, choice
from test_store import record

ID, OTHER = "0123456789abcdef", "ffffffffffffffff"
ROWS, SHARD = 50, 16
LONG_AGO = time.time() - 2 * remains.OLD_SECONDS


def put(results: Path, id_: str = ID, **changes) -> Path:
    failed = changes.get("status") == "failed"
    predictions = None if failed else stored(np.random.RandomState(0).randn(20, 3), "c0ffee")
    Store(results).put(record(id=id_, **changes), predictions)
    return results / "runs" / id_


def vectors() -> np.ndarray:
    return np.random.RandomState(0).randn(ROWS, 3).astype(np.float32)


def embed(results: Path, id_: str = ID) -> list[int]:
    """The parts of an embedding that had to be made."""
    asked = []

    def compute(shards):
        for shard in shards:
            asked.append(shard.number)
            yield shard, vectors()[shard.start : shard.stop], {"seconds": 1.0}

    EmbeddingCache(results / "embeddings").write(id_, ROWS, SHARD, compute, {"dataset": "tiny"})
    return asked


def diffuse(results: Path) -> Path:
    from diffused import random_nx, to_dgl
    from stage_bench.diffusion.out_of_core import diffuse_to
    from stage_bench.diffusion.recipe import IDENTITY, Recipe, powers_of

    graph, recipe = to_dgl(random_nx(False, 0)), Recipe((IDENTITY, *powers_of("adjacency", 2)))
    features = np.random.RandomState(0).randn(graph.num_nodes(), 4).astype(np.float32)
    diffuse_to(results / "diffusion" / ID, graph, features, recipe, 10**10)
    return results / "diffusion" / ID


def search(results: Path, trials: int = 3) -> int:
    """How many trials had to be run."""
    objective = Objective()
    tuning.search(results / "studies", ID, choice(trials, sampler="random"), FIRST, objective)
    return len(objective.tried)


def answer(results: Path, node: int) -> Path:
    answers.write(results / "answers" / ID, node, {"choices": [{"message": {"content": "birds"}}]}, {})
    return results / "answers" / ID / f"{node}.json"


@pytest.fixture
def results(tmp_path) -> Path:
    """One of everything, sound."""
    folder = tmp_path / "results"
    put(folder), put(folder, OTHER, status="failed", metrics={}, error="nan")
    assert embed(folder) == [0, 1, 2, 3]
    diffuse(folder)
    assert search(folder) == 3
    answer(folder, 0), answer(folder, 1)
    return folder


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def old(path: Path) -> Path:
    """Nobody has written to it for long."""
    for each in (*path.rglob("*"), path) if path.is_dir() else (path,):
        os.utime(each, (LONG_AGO, LONG_AGO))
    return path


def fix(results: Path) -> tuple[Findings, list[Outcome]]:
    found = examination.examine(results)
    return found, mending.mend(found)


def said(found: Findings, outcomes: list[Outcome] | None = None) -> list[str]:
    return [f"{'ok' if line.passed else 'FAIL'} {line.what}" for line in findings.lines(found, outcomes)]


# --- a results folder ---


def test_nothing_is_wrong(results):
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    found = examination.examine(results)
    assert said(found) == [
        "ok 1 run failed: `stage-bench run` tries again, show run ID says why",
        f"ok {results}: 2 runs, 1 embedding, 1 diffusion, 1 study, 2 answers checked; nothing is wrong",
    ]
    assert findings.is_sound(found)
    assert mending.mend(found) == []
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before, "nothing is written"


def test_a_damaged_run_is_set_aside(results):
    folder = results / "runs" / ID
    edit(folder / "run.json", '"test_accuracy": 0.8', '"test_accuracy": 0.9')
    found = examination.examine(results)
    problem = f"{folder}: run.json: not what was written: its checksum is another"
    effect = "the run counts as missing; `stage-bench run` does it again"
    assert said(found)[0] == f"FAIL {problem}; {effect}; --fix sets it aside in {results}/damaged"
    assert said(found)[-1].startswith("FAIL ")
    assert said(found)[-1].endswith("; 1 problem")
    assert folder.is_dir(), "to look changes nothing"
    outcomes = mending.mend(found)
    assert said(found, outcomes)[0] == f"ok {problem}; set aside in {results}/damaged/runs-{ID}; {effect}"
    assert said(found, outcomes)[-1].endswith("; 1 problem, 1 of them mended")
    assert findings.is_sound(found, outcomes)
    assert not folder.exists()
    assert sorted(path.name for path in (results / "damaged" / f"runs-{ID}").iterdir()) == [
        "predictions.npz",
        "run.json",
    ]
    again = examination.examine(results)
    assert findings.is_sound(again)
    assert f"ok {results}/damaged holds 1 thing set aside: remove it when you have no more use for that" in said(again)


def test_what_is_set_aside_keeps_what_was_before(results):
    for _ in range(3):
        flip(put(results) / "predictions.npz")
        assert findings.is_sound(*fix(results))
    assert {path.name for path in (results / "damaged").iterdir()} == {f"runs-{ID}", f"runs-{ID}-2", f"runs-{ID}-3"}


def test_parts_of_an_embedding_are_made_again_and_no_others(results):
    folder = results / "embeddings" / ID
    flip(folder / "vectors.npy", -12 * 10)
    found, outcomes = fix(results)
    (line,) = [line for line in said(found, outcomes) if str(folder) in line]
    assert f"{folder}: vectors.npy: rows 32 to 47 are not what was written; set aside in " in line
    assert line.endswith("where a run needs it, `stage-bench run` makes these again")
    assert {path.name for path in (results / "damaged" / f"embeddings-{ID}").iterdir()} == {
        "00002.json",
        "manifest.json",
    }
    assert examination.examine(results).unfinished["embeddings"] == 1
    assert embed(results) == [2]
    assert findings.is_sound(examination.examine(results))


def test_without_a_sound_manifest_no_part_is_made_again(results):
    folder = results / "embeddings" / ID
    edit(folder / "manifest.json", '"seconds": 4.0', '"seconds": 9.0')
    found, outcomes = fix(results)
    assert findings.is_sound(found, outcomes)
    assert "manifest.json: not what was written" in said(found, outcomes)[0]
    assert embed(results) == []
    assert json.loads((folder / "manifest.json").read_text())["seconds"] == 4.0


@pytest.mark.parametrize("harm", ["absent", "another header", "all rows"])
def test_an_embedding_of_which_nothing_is_left(results, harm):
    path = results / "embeddings" / ID / "vectors.npy"
    if harm == "absent":
        path.unlink()
    else:
        np.save(path, np.array([{}]) if harm == "another header" else vectors() + 1, allow_pickle=True)
    found, outcomes = fix(results)
    assert "vectors.npy is absent, or nothing in it is what was written" in said(found, outcomes)[0]
    assert not path.parent.exists()
    assert embed(results) == [0, 1, 2, 3]


def test_class_scores_go_with_their_features(results):
    """They are made together, and by nothing else."""
    scores = predictions_id(ID)
    embed(results, scores)
    flip(results / "embeddings" / scores / "vectors.npy")
    found, outcomes = fix(results)
    assert findings.is_sound(found, outcomes)
    assert said(found, outcomes)[0].endswith(f"`stage-bench run` makes it again, with the features {ID}")
    assert not list((results / "embeddings").iterdir())
    assert {path.name for path in (results / "damaged").iterdir()} == {
        f"embeddings-{scores}",
        f"embeddings-{scores}-with-{ID}",
    }


def test_both_may_be_damaged(results):
    scores = predictions_id(ID)
    embed(results, scores)
    for id_ in (ID, scores):
        (results / "embeddings" / id_ / "vectors.npy").write_bytes(b"")
    assert findings.is_sound(*fix(results))
    assert findings.is_sound(examination.examine(results))


@pytest.mark.parametrize("file", ["matrix.npy", "manifest.json", "rows/00000.json"])
def test_a_damaged_diffusion(results, file):
    path = results / "diffusion" / ID / file
    if file == "matrix.npy":
        flip(path)
    else:
        path.write_text("{")
    found, outcomes = fix(results)
    assert said(found, outcomes)[0].endswith("where a run needs it, `stage-bench run` makes it again")
    assert not (results / "diffusion" / ID).exists()
    diffuse(results)
    assert findings.is_sound(examination.examine(results))


def test_a_plan_that_is_damaged_is_no_reason_to_diffuse_again(results):
    path = results / "diffusion" / ID / "plan.json"
    edit(path, '"num_nodes": 3', '"num_nodes": 4')
    assert findings.is_sound(*fix(results))
    when = (path.parent / "matrix.npy").stat().st_mtime_ns
    diffuse(results)
    assert (path.parent / "matrix.npy").stat().st_mtime_ns == when


def test_a_damaged_summary_is_made_from_its_trials(results):
    summary = results / "studies" / f"{ID}.json"
    expected = studies.load(summary)
    edit(summary, '"winner": ', '"winner": 1')
    found, outcomes = fix(results)
    assert findings.is_sound(found, outcomes)
    assert not summary.exists()
    assert search(results) == 0
    assert studies.load(summary) == expected


def test_a_study_that_is_lost_is_known_to_have_been_there(results):
    """Or nobody would know that a report lacks it."""
    (results / "studies" / f"{ID}.trials.jsonl").unlink()
    (results / "studies" / f"{ID}.json").write_text("")
    assert findings.is_sound(*fix(results))
    assert studies.is_begun(results / "studies", ID)
    assert search(results) == 3


def test_a_damaged_trial_is_taken_out(results):
    journal = results / "studies" / f"{ID}.trials.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(
        b"".join([*lines[:3], lines[3].replace(b'"val_accuracy": 0.', b'"val_accuracy": 0.9'), *lines[4:]])
    )
    found, outcomes = fix(results)
    assert findings.is_sound(found, outcomes)
    assert f"{journal}: line 4: not what was written: its checksum is another; set aside in" in said(found, outcomes)[0]
    assert journal.read_bytes() == b"".join([*lines[:3], *lines[4:]])
    assert findings.is_sound(examination.examine(results))
    (results / "studies" / f"{ID}.json").unlink()
    assert search(results) == 1, "that one alone is run again"


def test_a_damaged_answer_is_asked_for_again(results):
    path = results / "answers" / ID / "1.json"
    edit(path, "birds", "birbs")
    found, outcomes = fix(results)
    assert said(found, outcomes)[0].endswith("where its features are made, the model is asked again")
    assert not path.exists()
    assert (results / "damaged" / f"answers-{ID}-1.json" / "1.json").is_file()
    assert answers.read(path.parent, 0) is not None


def test_one_line_a_problem(results):
    flip(results / "runs" / ID / "predictions.npz")
    flip(results / "embeddings" / ID / "vectors.npy")
    flip(results / "diffusion" / ID / "matrix.npy")
    (results / "studies" / f"{ID}.json").write_text("{")
    (results / "answers" / ID / "0.json").write_text("{")
    found = examination.examine(results)
    assert [problem.kind for problem in found.problems] == ["runs", "embeddings", "diffusion", "studies", "answers"]
    assert [line[:5] for line in said(found)].count("FAIL ") == 6
    assert said(found)[-1].endswith("; 5 problems")
    outcomes = mending.mend(found)
    assert all(outcome.is_mended for outcome in outcomes)
    assert len(list((results / "damaged").iterdir())) == 5


def test_a_newer_record_is_left(results):
    path = results / "runs" / ID / "run.json"
    path.write_text(json.dumps(seals.sealed({**json.loads(path.read_text()), "schema_version": 99})))
    found, outcomes = fix(results)
    assert said(found, outcomes)[0].startswith(f"FAIL {path.parent}: run.json: record version 99 is newer")
    assert said(found, outcomes)[0].endswith("update stage-bench, or remove it")
    assert path.is_file()
    assert not findings.is_sound(found, outcomes)


def test_records_of_before_have_no_checksum(results):
    path = results / "runs" / ID / "run.json"
    value = json.loads(path.read_text())
    del value[seals.KEY]
    path.write_text(json.dumps({**value, "schema_version": 2}))
    found = examination.examine(results)
    assert findings.is_sound(found)
    assert "ok 1 run of before records had checksums: a changed number there would not show" in said(found)


@pytest.mark.parametrize("kind", ["runs", "embeddings", "diffusion", "studies", "answers"])
def test_what_a_process_is_at_work_on_is_left_alone(results, kind):
    lock = {
        "runs": results / "claims" / ID,
        "embeddings": results / "embeddings" / ID / "locks" / "00001",
        "diffusion": results / "diffusion" / ID / "lock",
        "studies": results / "studies" / f"{ID}.workers" / "a",
        "answers": results / "answers" / ID / "lock",
    }[kind]
    path = {
        "runs": results / "runs" / ID / "predictions.npz",
        "embeddings": results / "embeddings" / ID / "vectors.npy",
        "diffusion": results / "diffusion" / ID / "matrix.npy",
        "studies": results / "studies" / f"{ID}.json",
        "answers": results / "answers" / ID / "0.json",
    }[kind]
    flip(path, 100)
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        found, outcomes = fix(results)
        assert said(found, outcomes)[0].endswith("another process is at work on it; try again when that has ended")
        assert not findings.is_sound(found, outcomes)
        assert path.exists()
        assert not (results / "damaged").exists()
    assert findings.is_sound(*fix(results))


def test_what_was_made_again_meanwhile_is_left(results):
    path = results / "runs" / ID / "predictions.npz"
    flip(path)
    found = examination.examine(results)
    put(results)
    outcomes = mending.mend(found)
    assert [outcome.why for outcome in outcomes] == ["it is sound now, or gone"]
    assert findings.is_sound(found, outcomes)
    assert path.is_file()


def test_what_is_being_written_is_looked_at_again(results, monkeypatch):
    """Predictions go before their record."""
    flip(old(results / "runs" / ID) / "predictions.npz")
    monkeypatch.setattr(time, "sleep", lambda seconds: put(results))
    assert findings.is_sound(examination.examine(results))


def test_only_what_nobody_writes_to_is_removed(results):
    young = results / "runs" / ID / ".run.json.abcd1234"
    young.write_text("{")
    temporary = [
        results / "runs" / ID / ".run.json.q_0a12bc",
        results / "embeddings" / ID / "shards" / ".00001.json.abcdefgh",
        results / "studies" / f".{ID}.json.abcdefgh",
        results / "answers" / ID / ".7.json.abcdefgh",
    ]
    for path in temporary:
        path.write_bytes(b"x" * 1000)
        old(path)
    mine = results / "runs" / ID / ".hidden"
    mine.touch()
    old(mine)
    found = examination.examine(results)
    assert findings.is_sound(found), "they do no harm"
    assert "ok 4 temporary files (0.0 MB): left by what was killed, --fix removes that" in said(found)
    outcomes = mending.mend(found)
    assert "ok 4 temporary files (0.0 MB): removed" in said(found, outcomes)
    assert not any(path.exists() for path in temporary)
    assert young.exists()
    assert mine.exists()


def test_what_killed_processes_left(results):
    interrupted = old(put(results, "a" * 16))
    (interrupted / "run.json").unlink()
    old(interrupted)
    (put(results, "b" * 16) / "run.json").unlink()
    merging_ = results / "embeddings" / f".{OTHER}.merging"
    merging_.mkdir()
    (merging_ / "vectors.npy").write_bytes(b"")
    old(merging_)
    for kind, name in (("embeddings", "work"), ("diffusion", "parts")):
        folder = results / kind / ID / name
        folder.mkdir()
        (folder / "file").write_bytes(b"")
        old(folder)
    (results / "studies" / f"{ID}.workers").mkdir()
    (results / "studies" / f"{ID}.workers" / "dead").touch()
    (results / "claims").mkdir()
    (results / "claims" / ID).touch()
    with FileLock(results / "claims" / OTHER):
        found = examination.examine(results)
        assert findings.is_sound(found)
        assert [left.what for left in found.remains] == [
            "1 half-filled folder of a merge",
            "1 folder of interrupted runs",
            "1 folder work/ of finished embeddings",
            "1 folder parts/ of finished diffusion",
            "2 marks of processes at work",
        ]
        assert mending.mend(found) == []
        assert (results / "claims" / OTHER).exists()
    assert not interrupted.exists()
    assert (results / "runs" / ("b" * 16)).is_dir(), "it may be at work"
    assert not merging_.exists()
    assert np.array_equal(EmbeddingCache(results / "embeddings").read(ID), vectors())


def test_what_cannot_be_removed_is_said(results, monkeypatch):
    path = results / "runs" / ID / ".run.json.abcd1234"
    path.touch()
    old(path)

    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(self))

    found = examination.examine(results)
    monkeypatch.setattr(Path, "unlink", refuse)
    outcomes = mending.mend(found)
    assert not findings.is_sound(found, outcomes)
    assert any(
        "1 temporary file (0.0 MB) left over" in line and "Permission denied" in line for line in said(found, outcomes)
    )


def test_what_cannot_be_moved_is_said(results, monkeypatch):
    flip(results / "runs" / ID / "predictions.npz")
    found = examination.examine(results)

    def refuse(*args):
        raise PermissionError(13, "Permission denied", str(args[0]))

    monkeypatch.setattr(shutil, "move", refuse)
    outcomes = mending.mend(found)
    assert said(found, outcomes)[0].endswith(f"{results}/runs/{ID}: Permission denied")
    assert not findings.is_sound(found, outcomes)


def test_a_disk_that_cannot_be_read(results, monkeypatch):
    def broken(self, id_):
        raise OSError(5, "Input/output error", str(results / "runs" / id_ / "predictions.npz"))

    monkeypatch.setattr(Store, "read", broken)
    found, outcomes = fix(results)
    (line, *_) = said(found, outcomes)
    assert line.startswith(
        f"FAIL {results}/runs/{ID}/predictions.npz: cannot be read: Input/output error; nothing of it is used; "
    )


def test_links_and_strangers_are_told(results, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (results / "runs" / "linked").symlink_to(tmp_path / "elsewhere")
    (results / "notes.txt").write_text("mine")
    found = examination.examine(results)
    assert findings.is_sound(found)
    assert f"ok 1 symbolic link not followed, the first is {results}/runs/linked" in said(found)
    assert f"ok {results}/notes.txt is no part of a results folder" in said(found)


def test_a_name_tells_a_terminal_nothing(results):
    (results / "runs" / "\x1b[31m").mkdir()
    (results / "runs" / "\x1b[31m" / "run.json").write_text("{")
    for line in said(examination.examine(results)):
        assert line.isprintable()


@pytest.mark.parametrize("what", ["absent", "a file", "no results", "its parent"])
def test_folders_that_are_none(results, tmp_path, what):
    folder = tmp_path / "other"
    if what == "a file":
        folder.write_text("")
    elif what == "no results":
        folder.mkdir()
    elif what == "its parent":
        folder = tmp_path
    with pytest.raises(StageBenchError) as error:
        examination.examine(folder)
    assert str(error.value).startswith(str(folder))
    assert str(error.value).endswith("did you mean " + str(results) + "?") == (what == "its parent")


def test_progress_is_told(results):
    told: list[tuple[int, int, str]] = []
    examination.examine(results, lambda *step: told.append(step))
    assert told == [(number, 7, "checked") for number in range(1, 8)]


def test_the_whole_way(tmp_path, stage_bench):
    """Damaged, mended, made again: the same board."""
    tiny.write_folder(tmp_path / "data", 60)
    suite = {"features": [{"name": "shallow", "dimension": 4}], "training": {"epochs": 5}, "backbones": ["mlp", "gcn"]}
    assert tiny.carry_out(tmp_path, {**suite, "seeds": 2}) == []
    before = {run.id: run.metrics for run in tiny.records(tmp_path)}
    flip(tmp_path / "results" / "runs" / min(before) / "predictions.npz")
    flip(next((tmp_path / "results" / "embeddings").glob("*/vectors.npy")))
    code, out, err = stage_bench("doctor", "--results", tmp_path / "results")
    assert (code, err) == (1, "")
    assert [line[:6] for line in out.splitlines()] == ["FAIL  "] * 3
    code, out, err = stage_bench("doctor", "--results", tmp_path / "results", "--fix", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["sound"], told["checked"]) == (True, {"runs": 4, "embeddings": 1})
    assert [(each["kind"], each["mended"]) for each in told["problems"]] == [("runs", True), ("embeddings", True)]
    assert all(Path(each["set_aside"]).is_dir() for each in told["problems"])
    assert tiny.carry_out(tmp_path, {**suite, "seeds": 2}) == []
    assert {run.id: run.metrics for run in tiny.records(tmp_path)} == before
    code, out, err = stage_bench("doctor", "--results", tmp_path / "results", "--json")
    assert (code, json.loads(out)["problems"]) == (0, [])


def test_the_calls_that_are_wrong(stage_bench, tmp_path):
    assert stage_bench("doctor", "--fix") == (2, "", "error: --fix mends a results folder: name it with --results\n")
    code, out, err = stage_bench("doctor", "--results", tmp_path / "nope")
    assert (code, out, err) == (2, "", f"error: {tmp_path}/nope: there is no such folder\n")


def test_a_folder_is_checked_without_torch(results):
    script = (
        "import sys\nfrom stage_bench import cli\n"
        "try: cli.main()\n"
        "finally: print([name for name in ('torch', 'dgl', 'pandas') if name in sys.modules], file=sys.stderr)"
    )
    arguments = [sys.executable, "-c", script, "doctor", "--results", str(results)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


# --- an installation ---

TOPICS = [
    *("versions", "processor", "dgl", "devices", "threads", "allocator", "data", "weights", "disk", "energy"),
    *("network", "ray", "plots", "browser"),
]


@pytest.fixture
def offline(monkeypatch) -> None:
    monkeypatch.setattr(reaching, "ask", lambda: [])


def of(topic: str, data: Path = Path("nowhere")) -> list[Line]:
    return [line for line in doctor.examine(data) if line.topic == topic]


def test_every_topic_has_a_line(offline, tmp_path):
    lines = list(doctor.examine(tmp_path))
    assert list(dict.fromkeys(line.topic for line in lines)) == [topic for topic in TOPICS if topic != "network"]
    assert all(line.what.isprintable() for line in lines)


def test_for_machines(stage_bench, tmp_path):
    code, out, err = stage_bench("doctor", "--json", data=tmp_path)
    assert err == ""
    told = json.loads(out)
    assert told["healthy"] == (code == 0)
    assert list(dict.fromkeys(line["topic"] for line in told["lines"])) == TOPICS
    assert set(told["lines"][0]) == {"topic", "passed", "what"}
    assert len([line for line in told["lines"] if line["topic"] == "network"]) == 2


def test_what_fails_is_a_line_and_the_rest_goes_on(offline, monkeypatch, tmp_path):
    def broken():
        raise RuntimeError("no such thing")

    monkeypatch.setattr(provenance, "versions", broken)
    first, second, *_ = doctor.examine(tmp_path)
    assert (first.topic, first.passed) == ("versions", False)
    assert first.what.startswith("RuntimeError: no such thing")
    assert second.topic == "processor"


def test_a_data_folder_that_is_not_there(offline, tmp_path):
    (line,) = of("data", tmp_path / "nope")
    assert line.what.endswith("the folder is not there, `stage-bench prepare SUITE` makes it")
    assert line.passed


def test_weights_of_every_model_are_somewhere(offline, tmp_path, monkeypatch):
    """At hand, or with what to do to have them; nothing is fetched."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    told = "\n".join(line.what for line in of("weights"))
    for name in registry.ready("llms"):
        assert name in told
    assert "`stage-bench prepare SUITE` fetches" in told
    assert "no server is named: set $OPENAI_BASE_URL" in told
    assert told.count("its weights are not here") <= 1, "of minilm alone"


def test_a_disk_that_is_nearly_full(offline, monkeypatch):
    usage = shutil._ntuple_diskusage(10**12, 10**12, 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    (line,) = of("disk")
    assert (line.what, line.passed) == ("1 GiB free here: make room before a large suite", False)


def test_energy_that_is_not_measured_says_why(tmp_path, offline):
    assert energy.lack("cpu", root=tmp_path / "nope").startswith("this system has no counters (")
    assert energy.lack("cpu", root=tmp_path) == f"no processor package has a counter in {tmp_path}"
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    for name, content in (("name", "package-0\n"), ("max_energy_range_uj", "1000000\n"), ("energy_uj", "5\n")):
        (zone / name).write_text(content)
    assert energy.lack("cpu", root=tmp_path) == ""
    assert len(energy.counters("cpu", root=tmp_path)) == 1
    assert "torch does not say which GPUs" in energy.lack("cuda", root=tmp_path, nvml=object())
    assert energy.counters("cuda", root=tmp_path, nvml=object()) == []
    if os.geteuid() != 0:
        (zone / "energy_uj").chmod(0)
        assert "sudo chmod a+r" in energy.lack("cpu", root=tmp_path)


def test_an_allocator_in_place_of_the_systems(offline, monkeypatch):
    monkeypatch.setattr(allocator, "keep_memory", lambda keep=True: False)
    (line,) = of("allocator")
    assert "no mallopt" in line.what
    assert line.passed
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self: "7f libjemalloc.so.2" if str(self) == "/proc/self/maps" else read(self)
    )
    (line,) = of("allocator")
    assert line.what.startswith("allocator: jemalloc takes the place")


def test_threads(offline, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setattr(doctor, "_quota", lambda: 0.5)
    (line,) = of("threads")
    assert "OMP_NUM_THREADS=3" in line.what
    assert "unset OMP_WAIT_POLICY" in line.what
    assert "0.5 cores' time: choose --workers 1" in line.what


def test_what_is_not_installed(offline, monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda package: "")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (ray,), (plots,), (browser,) = of("ray"), of("plots"), of("browser")
    assert "pip install 'stage-bench[ray]'" in ray.what
    assert "pip install 'stage-bench[plots]'" in plots.what
    assert "apt install chromium" in browser.what
    assert ray.passed
    assert plots.passed
    assert browser.passed


# --- a network ---


def test_a_server_that_does_not_answer_is_no_failure(monkeypatch):
    """A machine without a network is no worse for it, nor does it wait long."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("HF_ENDPOINT", "not a url")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    begin = time.perf_counter()
    index, hub = reaching.lines(reaching.ask())
    assert time.perf_counter() - begin < 2 * reaching.SECONDS
    assert index.what.startswith("package index 127.0.0.1 cannot be reached (")
    assert "secret" not in index.what
    assert hub.what.startswith("model hub without a name cannot be reached (")
    assert index.passed
    assert hub.passed


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch):
    import requests

    monkeypatch.setattr(reaching, "SECONDS", 0.2)
    monkeypatch.setattr(requests, "head", lambda *args, **more: time.sleep(5))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    begin = time.perf_counter()
    assert all("no answer in time" in line.what for line in reaching.lines(reaching.ask()))
    assert time.perf_counter() - begin < 3


def test_any_answer_is_one(monkeypatch):
    import requests

    asked = []

    def head(url, timeout, allow_redirects):
        asked.append((url, timeout))
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(requests, "head", head)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    index, hub = reaching.lines(reaching.ask())
    assert index.what == "package index pypi.org can be reached"
    assert "HF_HUB_OFFLINE is set" in hub.what
    assert asked == [("https://pypi.org/simple/", reaching.SECONDS)]


def test_a_plan_of_a_mended_folder_is_what_it_was(tmp_path):
    """What is set aside is missing, and nothing else."""
    tiny.write_folder(tmp_path / "data", 60)
    suite = {
        "features": [{"name": "shallow", "dimension": 4}],
        "training": {"epochs": 3},
        "backbones": ["mlp"],
        "seeds": 2,
    }
    assert tiny.carry_out(tmp_path, suite) == []
    gone = min(run.id for run in tiny.records(tmp_path))
    (tmp_path / "results" / "runs" / gone / "run.json").write_text("")
    assert findings.is_sound(*fix(tmp_path / "results"))
    folders = running.Folders(tmp_path, tmp_path / "results", tmp_path / "reports")
    plan = running.make_plan(tmp_path / "suite.yaml", folders)
    assert [job.id for job in running.todo(plan, folders, pytest.fail)] == [gone]
