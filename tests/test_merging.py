"""`merge`: results of several machines in one folder, whatever is in several of them, contradicts or is damaged."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console

import tiny
from stage_bench import files, seals
from stage_bench.answers import store as answers
from stage_bench.counting import Counting
from stage_bench.errors import StageBenchError
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import merging
from stage_bench.runs.store import Store
from stage_bench.training import studies, tuning
from stage_bench.training.ensembles import stored
from studying import FIRST, Objective, choice
from test_store import record

SUITE = {
    "features": [{"name": "shallow", "dimension": 4}],
    "training": {"epochs": 5},
    "backbones": ["mlp", "gcn"],
    "ensembles": [{"name": "both", "members": ["mlp", "gcn"]}],
}
ID = "0123456789abcdef"
ROWS, SHARD = 50, 16


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Path:
    """r1/results with seeds 0 and 1, r2/results with seeds 2 and 3, made by themselves."""
    place = tmp_path_factory.mktemp("machines")
    for name, seeds in (("r1", [0, 1]), ("r2", [2, 3])):
        tiny.write_folder(place / name / "data", 60)
        assert tiny.carry_out(place / name, {**SUITE, "seeds": seeds}) == []
    return place


@pytest.fixture
def r1(machines, tmp_path) -> Path:
    return Path(shutil.copytree(machines / "r1" / "results", tmp_path / "r1"))


@pytest.fixture
def r2(machines, tmp_path) -> Path:
    return Path(shutil.copytree(machines / "r2" / "results", tmp_path / "r2"))


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "results"


def merge(target: Path, *folders: Path) -> merging.Merge:
    merged = merging.plan(folders, target)
    merging.carry_out(merged)
    return merged


def refused(target: Path, *folders: Path) -> list[str]:
    """The lines of a merge that is refused, which writes nothing."""
    before = content(target)
    with pytest.raises(StageBenchError) as error:
        merge(target, *folders)
    assert content(target) == before
    return str(error.value).splitlines()


def content(folder: Path) -> dict[str, bytes]:
    """Every file by its place."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def kept(folder: Path) -> dict[str, bytes]:
    """The same without locks; logs, which may have been begun in one second, by their content alone."""
    found = {name: data for name, data in content(folder).items() if "lock" not in name}
    return {
        hashlib.sha256(data).hexdigest() if name.startswith("logs/") else name: data for name, data in found.items()
    }


def ids(results: Path) -> set[str]:
    return {path.name for path in (results / "runs").iterdir()}


def change(path: Path, **values) -> None:
    """With a checksum that is right: see test_damage.py for one that is not."""
    path.write_text(json.dumps(seals.sealed({**json.loads(path.read_text()), **values})))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def put(results: Path, seed: int = 0, id_: str = ID, **changes) -> Path:
    """A run with its predictions, or a failed one."""
    failed = changes.get("status") == "failed"
    predictions = None if failed else stored(np.random.RandomState(seed).randn(20, 3), "c0ffee")
    Store(results).put(record(id=id_, **changes), predictions)
    return results


def embed(results: Path, seed: int = 0, shards: int = 4, shard_rows: int = SHARD) -> Path:
    """An embedding, or the first shards of one."""
    made = np.random.RandomState(seed).randn(ROWS, 3).astype(np.float32)

    def compute(wanted):
        for shard in wanted:
            if shard.number == shards:
                raise KeyboardInterrupt
            yield shard, made[shard.start : shard.stop], {"seconds": 1.0}

    try:
        EmbeddingCache(results / "embeddings").write(ID, ROWS, shard_rows, compute, {"dataset": "tiny"})
    except KeyboardInterrupt:
        assert shards < -(-ROWS // shard_rows)
    return results


def vectors(results: Path, seed: int = 0) -> bool:
    """Whether that embedding is there, and sound."""
    found = EmbeddingCache(results / "embeddings").read(ID)
    return found is not None and np.array_equal(found, np.random.RandomState(seed).randn(ROWS, 3).astype(np.float32))


# --- all of it ---


def test_seeds_of_two_machines_make_one_board(machines, r1, r2, tmp_path, stage_bench):
    target = tmp_path / "work" / "results"
    code, out, err = stage_bench("merge", r1, r2)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines() if line.startswith("runs")] == [["runs", "12", "12", "0", "0"]]
    assert ids(target) == ids(r1) | ids(r2)
    suite = tmp_path / "suite.yaml"
    dataset = {"name": "tiny", "path": str(machines / "r1" / "data")}
    suite.write_text(json.dumps({"name": "tiny", "datasets": [dataset], **SUITE, "seeds": 4}))
    code, out, err = stage_bench("plan", suite)
    assert (code, out.splitlines()[-1]) == (0, "13 jobs, 0 to do")
    code, out, err = stage_bench("report", suite, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["counts"] == {"done": 12, "failed": 0, "missing": 0}
    found = {row["backbone"]: (row["n_runs"], row["status"]) for row in report["leaderboard"]}
    assert found == dict.fromkeys(("mlp", "gcn", "both"), (4, "ok"))


def test_again_there_is_nothing_to_do(r1, r2, target):
    merge(target, r1, r2)
    before = content(target)
    again = merge(target, r1, r2)
    assert again.copies == ()
    assert again.notes == ()
    assert content(target) == before
    assert again.counts["runs"] == merging.Counts(total=12, in_several=12)
    assert not list(target.rglob(".*merging")), "nothing half done is left"


def test_what_was_there_takes_part(r1, r2):
    """And what is in it is not written anew."""
    before = {name: (r1 / name).stat().st_mtime_ns for name in content(r1)}
    merged = merge(r1, r2, r1)
    assert merged.counts["runs"] == merging.Counts(total=12, copied=6)
    assert merged.counts["embeddings"] == merging.Counts(total=1, in_several=1)
    assert {name: (r1 / name).stat().st_mtime_ns for name in before} == before


def test_the_sources_stay_as_they_are(r1, r2, target):
    before = content(r1), content(r2)
    merge(target, r1, r2)
    assert (content(r1), content(r2)) == before
    expected = {**kept(r2), **kept(r1)}
    assert kept(target).keys() == expected.keys()
    for name, data in kept(target).items():
        assert data == expected[name], name


def test_counts_for_machines(r1, r2, tmp_path, stage_bench):
    put(r1, status="failed", error="nan")
    put(r2)
    code, out, err = stage_bench("merge", r1, r2, "--results", tmp_path / "all", "--json")
    assert code == 0
    counts = json.loads(out)
    assert list(counts) == ["runs", "embeddings", "diffusion", "studies", "answers", "logs"]
    assert counts["runs"] == {"total": 13, "copied": 13, "in_several": 0, "left_out": 1}
    assert counts["answers"] == {"total": 0, "copied": 0, "in_several": 0, "left_out": 0}
    assert err.splitlines() == [
        f"{r1}/runs/{ID} (cora minilm gcn seed 0): failed; that of {r2} is done, and is kept",
    ]


def test_merging_imports_no_torch(r1, target):
    script = (
        "import sys\nfrom stage_bench import cli\n"
        "try: cli.main()\n"
        "finally: print([name for name in ('torch', 'dgl', 'pandas') if name in sys.modules], file=sys.stderr)"
    )
    arguments = [sys.executable, "-c", script, "merge", str(r1), "--results", str(target)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("what", ["absent", "a file", "no results", "its parent", "in the way"])
def test_folders_that_are_none(r1, tmp_path, target, what):
    folder = tmp_path / "other"
    message = f"{folder}: there is no such folder"
    if what == "a file":
        folder.write_text("")
    elif what == "no results":
        (folder / "notes").mkdir(parents=True)
        message = f"{folder} is no results folder: it holds no runs, embeddings, "
    elif what == "its parent":
        shutil.copytree(r1, folder / "results")
        message = f"{folder} is no results folder: "
    elif what == "in the way":
        target.write_text("")
        folder, message = r1, f"--results {target}: there is a file in the way"
    with pytest.raises(StageBenchError) as error:
        merge(target, r1, folder)
    assert str(error.value).startswith(message)
    assert str(error.value).endswith(f"did you mean {folder}/results?") == (what == "its parent")
    assert target.is_file() == (what == "in the way")


def test_strangers_are_named_and_stay_where_they_are(r1, target):
    (r1 / "notes.txt").write_text("mine")
    merged = merge(target, r1)
    assert merged.notes == (f"{r1}/notes.txt: no part of a results folder, not copied",)
    assert not (target / "notes.txt").exists()


# --- runs ---


def test_a_contradiction_is_named_and_nothing_is_copied(r1, r2, tmp_path, stage_bench):
    put(r1, 0, metrics={"test_accuracy": 0.5, "epochs": 3})
    put(r2, 1, metrics={"test_accuracy": 0.75, "epochs": 3})
    code, out, err = stage_bench("merge", r1, r2)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: a conflict; nothing was copied. Remove one of each two, and merge again:",
        f"error: {r1}/runs/{ID} (cora minilm gcn seed 0) and {r2}/runs/{ID}: "
        "test_accuracy 0.5 / 0.75, other predictions",
    ]
    assert not (tmp_path / "work" / "results").exists()


def test_contradictions_are_counted(tmp_path, target):
    for number in range(23):
        put(tmp_path / "a", 0, f"{number:016d}")
        put(tmp_path / "b", 1, f"{number:016d}")
    lines = refused(target, tmp_path / "a", tmp_path / "b")
    assert lines[0].startswith("23 conflicts; nothing was copied.")
    assert lines[-1] == "... and 3 more like these"
    assert len(lines) == 22
    assert all(line.endswith(": other predictions") for line in lines[1:-1])
    assert not target.exists()


def test_the_target_may_contradict_too(tmp_path, target):
    put(target, 0)
    (line,) = refused(target, put(tmp_path / "a", 1))[1:]
    assert line.startswith(f"{target}/runs/{ID} ")


def test_equal_predictions_may_be_packed_otherwise(tmp_path, target):
    """Another version of zlib, for one."""
    put(tmp_path / "a"), put(tmp_path / "b")
    path = tmp_path / "b" / "runs" / ID / "predictions.npz"
    np.savez(path, **Store(tmp_path / "b").predictions(ID))
    change(path.with_name("run.json"), predictions_sha256=files.sha256(path))
    merged = merge(target, tmp_path / "a", tmp_path / "b")
    assert merged.counts["runs"] == merging.Counts(total=1, copied=1, in_several=1)
    assert kept(target) == kept(tmp_path / "a")


@pytest.mark.parametrize("where", ["first", "second", "target"])
def test_a_run_that_is_done_beats_one_that_failed(tmp_path, target, where):
    failed, done = (tmp_path / "a", tmp_path / "b") if where != "second" else (tmp_path / "b", tmp_path / "a")
    failed = target if where == "target" else failed
    put(failed, status="failed", metrics={}, error="nan"), put(done)
    merged = merge(target, *sorted({failed, done} - {target}))
    assert Store(target).done(ID) is not None
    assert [line.partition(": ")[2] for line in merged.notes] == [f"failed; that of {done} is done, and is kept"]
    assert merged.counts["runs"] == merging.Counts(total=1, copied=1, left_out=1)


def test_of_two_failures_the_first_is_kept(tmp_path, target):
    for name in "ab":
        put(tmp_path / name, status="failed", error=f"error of {name}")
    merged = merge(target, tmp_path / "a", tmp_path / "b")
    assert Store(target).get(ID).error == "error of a"
    assert merged.counts["runs"] == merging.Counts(total=1, copied=1, in_several=1)
    assert [path.name for path in (target / "runs" / ID).iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda run: flip(run / "predictions.npz"), "predictions.npz: damaged or absent"),
        (lambda run: (run / "predictions.npz").unlink(), "predictions.npz: damaged or absent"),
        (lambda run: (run / "run.json").write_text("{"), "run.json: "),
        (lambda run: (run / "run.json").write_text("[" * 100_000), "run.json: "),
        (lambda run: change(run / "run.json", schema_version=99), "run.json: record version 99 is newer than"),
        (lambda run: change(run / "run.json", id="fedc"), "run.json: holds the record of fedc"),
        (lambda run: change(run / "run.json", metrics=[1]), "run.json: not a run record: metrics is of the wrong type"),
        (lambda run: (run / "run.json").unlink(), "has no run.json: it was interrupted"),
    ],
)
def test_damaged_runs_are_left_out(tmp_path, target, damage, why):
    damage(put(tmp_path / "a") / "runs" / ID)
    put(tmp_path / "a", id_="ffffffffffffffff")
    merged = merge(target, tmp_path / "a")
    assert ids(target) == {"ffffffffffffffff"}
    assert merged.counts["runs"] == merging.Counts(total=1, copied=1, left_out=1)
    (line,) = merged.notes
    assert line.startswith(f"{tmp_path}/a/runs/{ID}: {why}")
    assert line.endswith("; left out")
    # a sound one takes its place, wherever the damaged one is
    put(tmp_path / "b")
    shutil.copytree(tmp_path / "a", target, dirs_exist_ok=True)
    merged = merge(target, tmp_path / "a", tmp_path / "b")
    assert Store(target).done(ID) is not None
    assert [line.rpartition("; ")[2] for line in merged.notes] == ["replaced", "left out"]


def test_a_damaged_run_of_the_target_stays_as_it_is(tmp_path, target):
    flip(put(target) / "runs" / ID / "predictions.npz")
    before = content(target)
    merged = merge(target, put(tmp_path / "a", id_="ffffffffffffffff"))
    assert merged.notes[0].endswith("; left as it is")
    assert before.items() <= content(target).items()


# --- embeddings and diffusions ---


def test_equal_embeddings_are_kept_once(tmp_path, target):
    merged = merge(target, embed(tmp_path / "a"), embed(tmp_path / "b"))
    assert vectors(target)
    assert merged.counts["embeddings"] == merging.Counts(total=1, copied=1, in_several=1)
    assert not (target / "embeddings" / ID / "locks").exists()


def test_equal_embeddings_may_have_been_made_in_other_parts(tmp_path, target):
    merge(target, embed(tmp_path / "a"), embed(tmp_path / "b", shard_rows=25))
    assert vectors(target)


def test_vectors_that_differ_are_a_conflict_that_says_by_how_much(tmp_path, target):
    a, b = embed(tmp_path / "a"), embed(tmp_path / "b")
    made = np.random.RandomState(0).randn(ROWS, 3).astype(np.float32)
    made[17] = np.nextafter(made[17], np.float32(9))

    def compute(shards):
        yield from ((shard, made[shard.start : shard.stop], {"seconds": 1.0}) for shard in shards)

    shutil.rmtree(b / "embeddings")
    EmbeddingCache(b / "embeddings").write(ID, ROWS, SHARD, compute, {"dataset": "tiny"})
    (line,) = refused(target, a, b)[1:]
    assert line.startswith(f"{a}/embeddings/{ID} (tiny) and {b}/embeddings/{ID}: 1 of 50 rows differ, by ")
    assert "e-0" in line
    assert line.endswith("on other hardware the last bits may differ, so none is wrong: remove one of the two folders")
    shutil.rmtree(b / "embeddings" / ID)  # which is advice that works
    merge(target, a, b)
    assert vectors(target)


def test_embeddings_of_another_width_are_a_conflict(tmp_path, target):
    embed(tmp_path / "a")
    facts = {"dataset": "tiny"}
    EmbeddingCache(tmp_path / "b" / "embeddings").keep(ID, ROWS, lambda: (np.ones((ROWS, 5)), {"seconds": 0.0}), facts)
    (line,) = refused(target, tmp_path / "a", tmp_path / "b")[1:]
    assert ": 50 x 3 float32 / 50 x 5 float32; " in line


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda folder: flip(folder / "vectors.npy"), "vectors.npy: rows 48 to 49 are not what was written"),
        (lambda folder: (folder / "vectors.npy").unlink(), "vectors.npy is absent"),
        (lambda folder: np.save(folder / "vectors.npy", np.array([{}]), allow_pickle=True), "vectors.npy is no matrix"),
        (lambda folder: (folder / "vectors.npy").write_bytes(b"\x93NUMPY"), "vectors.npy is no matrix"),
        (
            lambda folder: np.save(folder / "vectors.npy", np.ones((40, 3), np.float32)),
            "shards/00003.json is of no part",
        ),
        (lambda folder: (folder / "shards" / "00003.json").unlink(), "vectors.npy: rows 32 to 49 are not what was"),
        (lambda folder: (folder / "shards" / "00001.json").unlink(), "shards/00001.json is absent or no note"),
        (lambda folder: (folder / "shards" / "00000.json").write_text("{}"), "shards/00000.json is absent or no note"),
        (lambda folder: change(folder / "shards" / "00002.json", start=0), "shards/00002.json is of no part"),
        (lambda folder: shutil.rmtree(folder / "shards"), "shards/ holds no checksums"),
        (
            lambda folder: change(folder / "manifest.json", rows=49),
            "vectors.npy is not of the shape that manifest.json",
        ),
        (lambda folder: change(folder / "manifest.json", id="fedc"), "manifest.json: holds that of fedc"),
    ],
)
def test_damaged_embeddings_are_left_out(tmp_path, target, damage, why):
    damage(embed(tmp_path / "a") / "embeddings" / ID)
    merged = merge(target, tmp_path / "a")
    assert not (target / "embeddings").exists()
    assert len(merged.notes) == 1
    assert merged.notes[0].startswith(f"{tmp_path}/a/embeddings/{ID}: {why}")
    assert merged.counts["embeddings"] == merging.Counts(left_out=1)
    merge(target, tmp_path / "a", embed(tmp_path / "b"))
    assert vectors(target)


def test_an_embedding_that_is_damaged_contradicts_nobody(tmp_path, target):
    """Its checksums are others, and its vectors are not even those."""
    flip(embed(tmp_path / "a", seed=1) / "embeddings" / ID / "vectors.npy")
    merge(target, tmp_path / "a", embed(tmp_path / "b"))
    assert vectors(target)


def test_an_embedding_that_is_damaged_in_the_target_is_replaced_where_that_shows(tmp_path, target):
    (embed(target) / "embeddings" / ID / "vectors.npy").write_bytes(b"")
    merged = merge(target, embed(tmp_path / "a"))
    assert merged.notes == (f"{target}/embeddings/{ID}: vectors.npy is no matrix; replaced",)
    assert vectors(target)
    assert [path.name for path in (target / "embeddings").iterdir()] == [ID]


@pytest.mark.parametrize("where", ["first", "target"])
def test_an_unfinished_embedding_gives_way(tmp_path, target, where):
    unfinished = embed(target if where == "target" else tmp_path / "a", shards=2)
    done = embed(tmp_path / "b")
    merged = merge(target, *sorted({unfinished, done} - {target}))
    assert vectors(target)
    assert merged.notes == (
        f"{unfinished}/embeddings/{ID}: not finished, left out; that of {done} is done, and is kept",
    )


def test_an_unfinished_embedding_that_nobody_has_done_is_gone_on_with(tmp_path, target):
    merged = merge(target, embed(tmp_path / "a", shards=2), embed(tmp_path / "b", shards=3))
    assert [line.rpartition("; ")[2] for line in merged.notes] == [
        f"that of {tmp_path}/a is not finished either, and is kept"
    ]
    asked = []
    made = np.random.RandomState(0).randn(ROWS, 3).astype(np.float32)

    def compute(shards):
        for shard in shards:
            asked.append(shard.number)
            yield shard, made[shard.start : shard.stop], {"seconds": 1.0}

    EmbeddingCache(target / "embeddings").write(ID, ROWS, SHARD, compute, {})
    assert asked == [2, 3]
    assert vectors(target)


def test_what_only_unfinished_features_need_is_not_copied_with_finished_ones(tmp_path, target):
    work = embed(tmp_path / "a") / "embeddings" / ID / "work"
    work.mkdir()
    (work / "optimizer.pt").write_bytes(b"")
    merge(target, tmp_path / "a")
    assert not (target / "embeddings" / ID / "work").exists()


def test_diffusions(tmp_path, target):
    from diffused import random_nx, to_dgl
    from stage_bench.diffusion.out_of_core import diffuse_to
    from stage_bench.diffusion.recipe import IDENTITY, Recipe, powers_of

    graph, recipe = to_dgl(random_nx(False, 0)), Recipe((IDENTITY, *powers_of("adjacency", 2)))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        features = np.random.RandomState(seed).randn(graph.num_nodes(), 4).astype(np.float32)
        diffuse_to(tmp_path / name / "diffusion" / ID, graph, features, recipe, 10**10)
    assert merge(target, tmp_path / "a", tmp_path / "b").counts["diffusion"] == merging.Counts(1, 1, 1)
    assert kept(target) == kept(tmp_path / "a")
    (line,) = refused(target, tmp_path / "c")[1:]
    assert ": 30 of 30 rows differ, by " in line
    assert line.endswith("remove one of the two folders; it is made again where a run needs it")
    (tmp_path / "c" / "diffusion" / ID / "manifest.json").unlink()
    assert len(merge(target, tmp_path / "c").notes) == 1


# --- studies ---


def study(results: Path, trials: int, plan: dict | None = None) -> Path:
    tuning.search(results / "studies", ID, choice(trials, sampler="random"), FIRST, Objective(plan))
    return results


def history(results: Path) -> list[studies.Trial]:
    found = studies.load(results / "studies" / f"{ID}.json")
    assert found is not None
    return found[1]


def test_equal_studies_are_kept_once(tmp_path, target):
    merged = merge(target, study(tmp_path / "a", 3), study(tmp_path / "b", 3))
    assert merged.counts["studies"] == merging.Counts(total=1, copied=1, in_several=1)
    assert sorted(path.name for path in (target / "studies").iterdir()) == [f"{ID}.json", f"{ID}.trials.jsonl"]
    assert history(target) == history(tmp_path / "a")
    objective = Objective()
    tuning.search(target / "studies", ID, choice(5, sampler="random"), FIRST, objective)
    assert len(objective.tried) == 2, "it can be gone on with"


def test_another_winner_is_a_conflict(tmp_path, target):
    a, b = study(tmp_path / "a", 2), study(tmp_path / "b", 2, {0: MemoryError()})
    (line,) = refused(target, a, b)[1:]
    assert line.startswith(f"{a}/studies/{ID}.json and {b}/studies/{ID}.json: another winner (")
    assert line.endswith("; remove one study, and the runs that were tuned by it")
    assert "lr=" in line


@pytest.mark.parametrize("longer", ["first", "second", "target"])
def test_a_study_that_goes_on_from_another_serves_both(tmp_path, target, longer):
    long = study(target if longer == "target" else tmp_path / ("a" if longer == "first" else "b"), 6)
    short = study(tmp_path / ("b" if longer == "first" else "a"), 3)
    merged = merge(target, *sorted({long, short} - {target}))
    assert history(target) == history(long)
    assert len(history(target)) == 6
    assert len(merged.notes) == (longer == "second")


def unfinished(results: Path, trials: int) -> Path:
    with pytest.raises(KeyboardInterrupt):
        study(results, trials + 1, {trials: KeyboardInterrupt()})
    return results


def test_an_unfinished_study_gives_way_or_is_gone_on_with(tmp_path, target):
    merged = merge(target, unfinished(tmp_path / "a", 2), unfinished(tmp_path / "b", 1))
    assert merged.notes == (
        f"{tmp_path}/b/studies/{ID}.json: not finished, left out; "
        f"that of {tmp_path}/a is not finished either, and is kept",
    )
    objective = Objective()
    tuning.search(tmp_path / "go-on" / "studies", ID, choice(3, sampler="random"), FIRST, objective)
    assert len(objective.tried) == 3
    merged = merge(target, tmp_path / "go-on")
    assert merged.notes == (
        f"{target}/studies/{ID}.json: not finished, left out; that of {tmp_path}/go-on is done, and is kept",
    )
    assert history(target) == history(tmp_path / "go-on")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda studies: change(studies / f"{ID}.json", id="fedc"), "holds the study fedc"),
        (lambda studies: change(studies / f"{ID}.json", winner=99), "names no winner among its trials"),
        (lambda studies: (studies / f"{ID}.trials.jsonl").write_text("{}\n"), f"{ID}.trials.jsonl:1: no trial"),
    ],
)
def test_damaged_studies_are_left_out(tmp_path, target, damage, why):
    damage(study(tmp_path / "a", 2) / "studies")
    assert merge(target, tmp_path / "a").notes == (f"{tmp_path}/a/studies/{ID}.json: {why}; left out",)
    assert not target.exists()


def test_a_study_without_its_summary_is_gone_on_with(tmp_path, target):
    """Its trials are there; a summary that is damaged is left out with them, until it is removed."""
    summary = study(tmp_path / "a", 2) / "studies" / f"{ID}.json"
    summary.write_text("{")
    assert merge(target, tmp_path / "a").notes == (f"{summary}: no study; left out",)
    assert not target.exists()
    summary.unlink()
    merge(target, tmp_path / "a")
    assert [path.name for path in (target / "studies").iterdir()] == [f"{ID}.trials.jsonl"]


# --- answers ---


def answer(results: Path, node: int, text: str, **ours) -> Path:
    response = {"choices": [{"message": {"content": text}}]}
    answers.write(results / "answers" / ID, node, response, {"seconds": 0.1, **ours})
    return results


def test_answers_add_up(tmp_path, target):
    answer(tmp_path / "a", 0, "birds"), answer(tmp_path / "a", 1, "cars")
    answer(tmp_path / "b", 1, "cars", wall=3.0), answer(tmp_path / "b", 10, "dogs")
    (tmp_path / "b" / "answers" / ID / "manifest.json").write_text("{}")
    merged = merge(target, tmp_path / "a", tmp_path / "b")
    assert {path.name for path in (target / "answers" / ID).iterdir()} == {
        "0.json",
        "1.json",
        "10.json",
        "manifest.json",
    }
    assert answers.read(target / "answers" / ID, 1) == answers.read(tmp_path / "a" / "answers" / ID, 1)
    assert merged.counts["answers"] == merging.Counts(total=4, copied=4, in_several=1)


def test_other_answers_are_a_conflict(tmp_path, target):
    answer(tmp_path / "a", 3, "birds\x1b[31m"), answer(tmp_path / "b", 3, "cars " * 50)
    (line,) = refused(target, tmp_path / "a", tmp_path / "b")[1:]
    assert line.startswith(
        f"{tmp_path}/a/answers/{ID}/3.json and {tmp_path}/b/answers/{ID}/3.json: another answer ('birds"
    )
    assert line.endswith("...'); remove one")
    assert "\x1b" not in line


def test_damaged_answers_are_left_out(tmp_path, target):
    answer(tmp_path / "a", 0, "birds"), answer(tmp_path / "a", 1, "cars")
    (tmp_path / "a" / "answers" / ID / "1.json").write_text("{")
    merged = merge(target, tmp_path / "a")
    assert [path.name for path in (target / "answers" / ID).iterdir()] == ["0.json"]
    assert merged.notes == (f"{tmp_path}/a/answers/{ID}/1.json: no response of a chat model: not JSON; left out",)


# --- logs ---


def test_logs_keep_their_names_and_none_is_lost(tmp_path, target):
    for name, text in (("a", "one"), ("b", "two"), ("c", "two"), ("d", "three")):
        (tmp_path / name / "logs").mkdir(parents=True)
        (tmp_path / name / "logs" / "cora-20260101T000000-7.log").write_text(text)
    folders = [tmp_path / name for name in "abcd"]
    merged = merge(target, *folders)
    assert {path.name: path.read_text() for path in (target / "logs").iterdir()} == {
        "cora-20260101T000000-7.log": "one",
        "cora-20260101T000000-7-2.log": "two",
        "cora-20260101T000000-7-3.log": "three",
    }
    assert merged.counts["logs"] == merging.Counts(total=3, copied=3, in_several=1)
    assert merge(target, *folders).copies == ()


# --- how far it is ---


def test_progress_is_told_of_checks_and_copies(r1, r2, target):
    told: list[tuple[int, int, str]] = []
    merged = merging.plan([r1, r2], target, lambda *step: told.append(step))
    checked = merged.counts["runs"].total + merged.counts["embeddings"].total
    assert told == [(number + 1, checked, "checked") for number in range(checked)]
    told.clear()
    merging.carry_out(merged, lambda *step: told.append(step))
    assert [step[0] for step in told] == sorted(step[0] for step in told)
    assert told[-1] == (len(merged.copies), len(merged.copies), "copied")
    assert re.fullmatch(r"copied, (\d+ KB) of \1", told[-2][2])


def test_where_there_is_no_terminal_a_line_comes_every_ten_seconds():
    console = Console(file=io.StringIO())
    with Counting(console) as counting:
        counting.step(1, 2000, "copied")
        assert console.file.getvalue() == ""
        counting._last_line -= 11
        counting.step(1001, 2000, "copied, 1 of 2 MB")
        counting.step(1002, 2000, "copied, 1 of 2 MB")
    assert console.file.getvalue() == "1,001 of 2,000 copied, 1 of 2 MB\n"


# --- what must not happen ---


@pytest.mark.parametrize("where", ["a file", "a folder", "everything", "in the target", "a pipe"])
def test_links_are_refused(r1, tmp_path, target, where):
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "run.json").write_text("secret")
    run = r1 / "runs" / sorted(ids(r1))[0]
    if where == "a file":
        place = run / "run.json"
        place.unlink()
        place.symlink_to(outside / "run.json")
    elif where == "a folder":
        place = r1 / "embeddings" / ID
        place.symlink_to(outside)
    elif where == "everything":
        place = r1 / "diffusion"
        place.symlink_to(outside)
    elif where == "in the target":
        target.mkdir()
        place = target / "runs"
        place.symlink_to(outside)
    else:
        place = run / "predictions.npz"
        place.unlink()
        os.mkfifo(place)
    (line,) = refused(target, r1)
    link = f"{place} is a symbolic link, and merge follows none: put what it leads to in its place"
    assert line == (link if where != "a pipe" else f"{place} is neither a file nor a folder: remove it")
    assert [path.name for path in outside.iterdir()] == ["run.json"]


def test_a_link_that_comes_after_the_look_is_not_followed(tmp_path, target):
    merged = merging.plan([put(tmp_path / "a")], target)
    path = tmp_path / "a" / "runs" / ID / "run.json"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StageBenchError, match="symbolic"):
        merging.carry_out(merged)
    assert not (target / "runs" / ID / "run.json").exists()


@pytest.mark.parametrize("after", range(0, 24, 3))
def test_killed_at_any_moment_the_next_merge_does_the_rest(r1, r2, target, monkeypatch, after):
    put(r1, status="failed", error="nan")
    embed(r1, shards=2)
    merge(target, r1)
    put(r2), embed(r2), study(r2, 2), answer(r2, 0, "birds")
    calls = []
    copy = merging._copy

    def dies(*args):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        copy(*args)

    monkeypatch.setattr(merging, "_copy", dies)
    with pytest.raises(KeyboardInterrupt):
        merge(target, r2)
    warnings = []
    assert all(
        Store(target, warnings.append).get(id_) for id_ in ids(target) if (target / "runs" / id_ / "run.json").exists()
    )
    assert warnings == []
    assert EmbeddingCache(target / "embeddings").manifest(ID) is None or vectors(target)
    monkeypatch.undo()
    merge(target, r2)
    assert Store(target).done(ID) is not None
    assert vectors(target)
    assert kept(r2).keys() <= kept(target).keys()
    assert not list(target.rglob(".*"))[1:], "but for the lock"


def test_two_merges_into_one_folder(r1, r2, target):
    merge(target, r1)
    with FileLock(target / ".merging.lock"), pytest.raises(StageBenchError, match="another process merges into"):
        merge(target, r2)


def test_without_room_nothing_is_begun(r1, target, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9, 1000)
    monkeypatch.setattr(merging.shutil, "disk_usage", lambda path: usage)
    (line,) = refused(target, r1)
    assert line.endswith(" are to be copied, and the disk has 1 KB free")
    assert not target.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC])
def test_what_cannot_be_written_is_one_line(r1, target, monkeypatch, number):
    def fails(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(files, "writing", fails)
    with pytest.raises(OSError if number == errno.ENOSPC else StageBenchError, match=os.strerror(number)):
        merge(target, r1)


def test_what_cannot_be_read_is_one_line(r1, target, monkeypatch):
    def fails(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(merging.holdings.os, "scandir", fails)
    (line,) = refused(target, r1)
    assert line == f"{r1}/{'runs'} cannot be read: Permission denied"
