"""The console script on a tiny dataset: a whole suite, again, after failures, after interruptions."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import tiny
from stage_bench.errors import StageBenchError
from stage_bench.runs.store import Store

COLUMNS = (
    "dataset, split, features, llm, instruction, backbone, origin, n_runs, test_accuracy, test_std, ci_low, ci_high, "
    "val_accuracy, rank, rank_low, rank_high, embed_seconds, diffuse_seconds, tune_seconds, train_seconds, "
    "infer_seconds, total_seconds, peak_memory_mb, parameters, hardware, status, source, note"
)
NUM_NODES = 120
SCRIPT = str(Path(sysconfig.get_path("scripts")) / "stage-bench")

PLUGIN = """
    import multiprocessing
    import os
    import signal
    import zlib

    import numpy as np

    import stage_bench


    @stage_bench.register_llm(name="hashing", summary="words hashed to columns", dimension=24)
    class Hashing:
        def encode(self, texts):
            vectors = np.zeros((len(texts), 24), dtype=np.float32)
            for row, text in enumerate(texts):
                for word in text.split():
                    vectors[row, zlib.crc32(word.encode()) % 24] += 1
            return vectors
"""

BROKEN = """
    from stage_bench.backbones.mlp import MLP
    from stage_bench.backbones.options import MLPOptions

    WELL = "ALL_IS_WELL" in os.environ


    @stage_bench.register_backbone(name="explodes", summary="asks for more memory than there is", options=MLPOptions)
    class Explodes(MLP):
        def forward(self, graph, x):
            if not WELL:
                raise MemoryError("3 TiB")
            return super().forward(graph, x)


    @stage_bench.register_backbone(name="dies", summary="is killed, as by an out-of-memory killer", options=MLPOptions)
    class Dies(MLP):
        def forward(self, graph, x):
            if not WELL and x.shape[1] == 24 and multiprocessing.parent_process() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().forward(graph, x)


    @stage_bench.register_features(name="killer", summary="kills the workers that have nothing to do")
    def killer(graph, options):
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        return np.random.RandomState(0).randn(graph.num_nodes, 6)
"""

# The dataset takes Cora's name, so that published numbers stand beside ours.
EVERYTHING = """
    name: everything
    plugins: [plugin.py]
    datasets: [{name: cora, path: data}]
    llms: [hashing]
    features: [{name: shallow, dimension: 16}]
    training: {epochs: 12, patience: 6}
    backbones:
      - {name: mlp, hidden: 16}
      - {name: gcn, hidden: 16}
      - simplegcn
      - {name: sign, s: 1, p: 1, hidden: 8}
      - {name: revgat, hidden: 4, epochs: 3}
      - {name: gcn, tuning: {trials: 3, space: {hidden: [4, 8], lr: {low: 0.001, high: 0.1, log: true}}}}
    ensembles:
      - {name: stage, members: [mlp(hidden=16), gcn(hidden=16)]}
    seeds: SEEDS
    compare: [tape]
"""
BACKBONES = {
    *("mlp(hidden=16)", "gcn(hidden=16)", "simplegcn", "sign(s=1,p=1,hidden=8)", "revgat(hidden=4,epochs=3)"),
    *("gcn(tuning=3)", "stage"),
}
JOBS = 2 * (1 + 1 + 2 * len(BACKBONES))  # two features: each an embedding, a study, two seeds of every backbone

FAILING = """
    name: failing
    plugins: [plugin.py, broken.py]
    datasets: [{name: tiny, path: data}]
    llms: [hashing, e5-large]
    features: [killer]
    training: {epochs: 3}
    backbones: [mlp, {name: mlp, lr: 1.0e+30}, explodes, dies]
    ensembles:
      - {name: broken, members: [mlp, explodes]}
    seeds: 1
"""


@dataclass
class Bench:
    """A folder in which `stage-bench` is called."""

    folder: Path
    more_env: dict[str, str] = field(default_factory=dict)

    def suite(self, text: str, name: str = "suite.yaml") -> "Bench":
        (self.folder / name).write_text(dedent(text))
        return self

    @property
    def env(self) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items() if key != "STAGE_BENCH_DATA"}
        hub = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self.folder / "hub")}
        return {**env, **hub, "COLUMNS": "200", "NO_COLOR": "1", **self.more_env}

    def call(self, *arguments: str, command: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        script = [str(Path(sysconfig.get_path("scripts")) / "stage-bench")]
        return subprocess.run(
            [*(command or script), *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, code: int, *arguments: str) -> str:
        """`run suite.yaml`; what it said on standard error, the exit code checked."""
        done = self.call("run", "suite.yaml", "--device", "cpu", *arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def stop(self, at: int, number: int, whole_group: bool) -> int:
        """`run suite.yaml` with two workers, and a signal when job `at` is done; the exit code."""
        process = subprocess.Popen(
            [SCRIPT, "run", "suite.yaml", "--device", "cpu", "--workers", "2"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for line in process.stderr:
            if line.startswith(f"[{at}/"):
                (os.killpg if whole_group else os.kill)(process.pid, number)
                break
        process.stderr.read()
        process.wait()
        for _ in range(200):  # no worker outlives the command for long
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return process.returncode
            time.sleep(0.1)
        raise AssertionError("a worker is still there")

    def records(self) -> dict[str, dict]:
        paths = (self.folder / "results" / "runs").glob("*/run.json")
        return {path.parent.name: json.loads(path.read_text()) for path in paths}

    def board(self, name: str) -> list[dict[str, str]]:
        with (self.folder / "reports" / name / "leaderboard.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def tree(self, part: str) -> dict[str, tuple[bytes, int]]:
        """Every file below a folder: its bytes and when it was written."""
        folder = self.folder / part
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}

    def copy(self, target: Path) -> "Bench":
        shutil.copytree(self.folder, target)
        return Bench(target, self.more_env)


def new(folder: Path) -> Bench:
    folder.mkdir(parents=True, exist_ok=True)
    tiny.write_folder(folder / "data", NUM_NODES)
    (folder / "plugin.py").write_text(dedent(PLUGIN))
    (folder / "broken.py").write_text(dedent(PLUGIN).split("@stage_bench")[0] + dedent(BROKEN))
    return Bench(folder)


def jobs_to_do(said: str) -> tuple[int, int]:
    """(jobs, to do) of `everything: 34 jobs, 2 to do`."""
    (line,) = [line for line in said.splitlines() if line.endswith(" to do")]
    jobs, left = line.partition(": ")[2].split(", ")
    return int(jobs.split()[0]), int(left.split()[0])


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Bench:
    """A whole suite, done. Nobody changes it; `copy` it."""
    bench = new(tmp_path_factory.mktemp("finished")).suite(EVERYTHING.replace("SEEDS", "2"))
    assert jobs_to_do(bench.run(0, "--workers", "1")) == (JOBS, JOBS)
    return bench


@pytest.fixture
def done(finished, tmp_path) -> Bench:
    return finished.copy(tmp_path / "bench")


# --- a whole suite ---


def test_the_leaderboards_columns_are_the_contracts(finished):
    header = (finished.folder / "reports" / "everything" / "leaderboard.csv").read_text().splitlines()[0]
    assert header == COLUMNS.replace(" ", "")


def test_the_leaderboard_has_a_row_for_everything_that_was_asked_for(finished):
    ours = [row for row in finished.board("everything") if row["origin"] == "reproduced"]
    shown = {(row["features"], row["llm"], row["instruction"], row["backbone"]) for row in ours}
    expected = {("zero-shot", "hashing", "none", name) for name in BACKBONES}
    assert shown == expected | {("shallow(dimension=16)", "", "", name) for name in BACKBONES}
    assert len(ours) == len(shown)
    for row in ours:
        assert (row["dataset"], row["split"], row["n_runs"], row["status"]) == ("cora", "random-60-20-20", "2", "ok")
        assert float(row["train_seconds"]) >= 0
        assert row["hardware"]
        assert float(row["parameters"]) > 0
        assert bool(row["tune_seconds"]) == (row["backbone"] == "gcn(tuning=3)"), "empty where nothing was measured"
        assert bool(row["diffuse_seconds"]) == (not row["backbone"].startswith(("mlp", "revgat")))
        assert row["note"].startswith("tuned: ") == (row["backbone"] == "gcn(tuning=3)")
    accuracies = [float(row["test_accuracy"]) for row in finished.board("everything")]
    assert accuracies == sorted(accuracies, reverse=True)


def test_published_numbers_stand_beside_ours(finished):
    others = [row for row in finished.board("everything") if row["origin"] != "reproduced"]
    assert others
    assert {(row["origin"], row["status"]) for row in others} == {("published", "published")}
    assert all(row["source"].startswith("TAPE (arXiv 2305.19523)") for row in others)
    assert not any(row["total_seconds"] or row["rank"] for row in others)


def test_accuracies_are_those_of_the_saved_predictions(finished):
    """Recomputed from predictions.npz, the labels in the file and TAPE's rule, by nothing of the program."""
    rows = [json.loads(line) for line in (finished.folder / "data" / "nodes.jsonl").read_text().splitlines()]
    labels = np.array([row["label"] for row in rows])
    found: dict[tuple[str, str], list[float]] = {}
    validation: dict[tuple[str, str], list[float]] = {}
    for id_, record in finished.records().items():
        order = np.arange(NUM_NODES)
        np.random.RandomState(record["split_seed"]).shuffle(order)
        val, test = order[72:96], order[96:]
        with np.load(finished.folder / "results" / "runs" / id_ / "predictions.npz") as archive:
            right = archive["probabilities"].argmax(axis=1) == labels
            assert archive["probabilities"].shape == archive["logits"].shape == (NUM_NODES, 3)
            assert archive["probabilities"].dtype == np.float16
            assert str(archive["split_fingerprint"]) == record["split_fingerprint"]
        key = (record["features"], record["backbone"])
        found.setdefault(key, []).append(right[test].mean())
        validation.setdefault(key, []).append(right[val].mean())
    ours = [row for row in finished.board("everything") if row["origin"] == "reproduced"]
    assert len(found) == len(ours)
    for row in ours:
        test = found[row["features"], row["backbone"]]
        assert row["test_accuracy"] == f"{np.mean(test):.4f}"
        assert row["test_std"] == f"{np.std(test, ddof=1):.4f}"
        assert row["val_accuracy"] == f"{np.mean(validation[row['features'], row['backbone']]):.4f}"
    assert max(float(row["test_accuracy"]) for row in ours) > 0.7, "something was learnt"


def test_an_ensemble_is_the_mean_of_its_members(finished):
    store = Store(finished.folder / "results")
    ensembles = {id_: record for id_, record in finished.records().items() if record["kind"] == "ensemble"}
    assert len(ensembles) == 4
    for id_, record in ensembles.items():
        members = record["content"]["members"]
        mean = np.mean([store.predictions(member)["probabilities"].astype(np.float64) for member in members], axis=0)
        np.testing.assert_allclose(store.predictions(id_)["probabilities"], mean, atol=2e-3)
        seeds = {(store.get(member).split_seed, store.get(member).init_seed) for member in members}
        assert seeds == {(record["split_seed"], record["init_seed"])}


def test_results_lie_where_the_contract_says(finished):
    results = finished.folder / "results"
    assert {path.name for path in results.iterdir()} == {"runs", "embeddings", "studies", "logs"}
    for folder in (results / "runs").iterdir():
        assert {path.name for path in folder.iterdir()} == {"run.json", "predictions.npz"}
    reports = finished.folder / "reports" / "everything"
    assert {"leaderboard.csv", "leaderboard.md", "runs.csv"} <= {path.name for path in reports.iterdir()}
    ids = {row["id"] for row in csv.DictReader((reports / "runs.csv").read_text().splitlines())}
    assert ids == set(finished.records())


def test_a_second_run_has_nothing_to_do_and_imports_nothing_heavy(done):
    runs, board = done.tree("results"), done.tree("reports")
    program = (
        "import sys; from stage_bench import cli\n"
        "try: cli.main()\n"
        "finally: print('heavy:', sorted({'torch', 'dgl', 'optuna', 'transformers'} & set(sys.modules)))"
    )
    again = done.call("run", "suite.yaml", command=[sys.executable, "-c", program])
    assert again.returncode == 0, again.stderr
    assert jobs_to_do(again.stderr) == (JOBS, 0)
    assert again.stdout.splitlines()[-1] == "heavy: []"
    assert done.tree("results") == runs, "nothing was written"
    assert {name: data for name, (data, _) in done.tree("reports").items()} == {
        name: data for name, (data, _) in board.items()
    }


def test_report_writes_the_same_bytes(done):
    before = {name: data for name, (data, _) in done.tree("reports").items()}
    shutil.rmtree(done.folder / "reports")
    called = done.call("report", "suite.yaml")
    assert called.returncode == 0, called.stderr
    assert {name: data for name, (data, _) in done.tree("reports").items()} == before
    assert "leaderboard.csv" in called.stdout


# --- what is missing is done, and no more ---


def test_another_seed_runs_that_seed_only(done):
    before = done.tree("results/runs")
    said = done.suite(EVERYTHING.replace("SEEDS", "3")).run(0, "--workers", "1")
    assert jobs_to_do(said) == (JOBS + 2 * len(BACKBONES), 2 * len(BACKBONES))
    after = done.tree("results/runs")
    assert {name: after[name] for name in before} == before
    fresh = [record for id_, record in done.records().items() if f"{id_}/run.json" not in before]
    assert [(record["split_seed"], record["init_seed"]) for record in fresh] == [(2, 2)] * 2 * len(BACKBONES)
    assert {row["n_runs"] for row in done.board("everything") if row["origin"] == "reproduced"} == {"3"}


def test_a_lost_prediction_is_made_again_and_a_foreign_one_refused(done):
    """Two accidents, one run: a file is lost; a member of an ensemble was made on another split, which would leak."""
    store, original = Store(done.folder / "results"), done.tree("results/runs")
    runs = {(run["kind"], run["backbone"], run["llm"], run["init_seed"]): run for run in done.records().values()}
    lost = runs["train", "mlp(hidden=16)", "", 1]["id"]
    (store.folder(lost) / "predictions.npz").unlink()
    ensemble = runs["ensemble", "stage", "hashing", 0]
    member = store.get(ensemble["content"]["members"][0])
    store.put(member, {**store.predictions(member.id), "split_fingerprint": np.array("another split")})
    shutil.rmtree(store.folder(ensemble["id"]))
    before = done.tree("results/runs")

    said = done.run(1)
    assert jobs_to_do(said) == (JOBS, 2)
    assert f"{lost}/predictions.npz: damaged or absent; it will be run again" in said
    after = done.tree("results/runs")
    assert after[f"{lost}/predictions.npz"][0] == original[f"{lost}/predictions.npz"][0], "the same bytes"
    assert {name for name in before if after[name] != before[name]} == {f"{lost}/run.json"}
    assert set(after) - set(before) == {f"{lost}/predictions.npz", f"{ensemble['id']}/run.json"}
    assert "different splits" in said
    (row,) = [row for row in done.board("everything") if (row["backbone"], row["llm"]) == ("stage", "hashing")]
    assert (row["status"], row["n_runs"], row["rank"]) == ("partial", "1", "")
    assert "different splits" in row["note"]


# --- failures ---


@pytest.fixture(scope="module")
def failing(tmp_path_factory) -> tuple[Bench, str]:
    """A suite in which most things go wrong, after its first run, and what that said."""
    bench = new(tmp_path_factory.mktemp("failing")).suite(FAILING)
    return bench, bench.run(1, "--workers", "2")


REASONS = {
    "mlp(lr=1e+30)": "lower lr",
    "explodes": "out of memory: MemoryError: 3 TiB",
    "dies": "killed by signal 9",
    "broken": "out of memory: MemoryError: 3 TiB",
}


def test_failures_are_rows_and_everything_else_is_done(failing):
    bench, said = failing
    assert jobs_to_do(said) == (18, 18)
    rows = {(row["llm"] or row["features"], row["backbone"]): row for row in bench.board("failing")}
    assert len(rows) == 15
    for (source, backbone), row in rows.items():
        reason = REASONS.get(backbone, "")
        if source == "e5-large":
            reason = "hf download intfloat/e5-large"
        elif (source, backbone) == ("killer", "dies"):
            reason = ""  # it dies on the other features only
        assert row["status"] == ("failed" if reason else "ok"), row
        assert reason in row["note"], row
        assert (row["test_accuracy"] == "") == bool(reason), "an empty cell is not measured, never zero"
        assert row["n_runs"] == ("0" if reason else "1")
        assert (row["rank"] == "") == bool(reason)
    assert "13 jobs failed:" in said, "the embedding counts too"
    assert "tracebacks: results/logs/" in said
    (log,) = (bench.folder / "results" / "logs").glob("*.log")
    assert "MemoryError: 3 TiB" in log.read_text()
    assert "Traceback" in log.read_text()


def test_failed_jobs_are_tried_again_and_only_those(failing):
    bench, _ = failing
    before = bench.tree("results/runs")
    sound = {id_ for id_, record in bench.records().items() if record["status"] == "ok"}
    assert len(sound) == 3
    well = Bench(bench.folder, {"ALL_IS_WELL": "1"})
    said = well.run(1, "--workers", "1")
    assert jobs_to_do(said) == (18, 13)
    after = bench.tree("results/runs")
    assert all(after[name] == before[name] for name in before if name.split("/")[0] in sound)
    for row in bench.board("failing"):
        still = row["llm"] == "e5-large" or row["backbone"] == "mlp(lr=1e+30)"
        assert row["status"] == ("failed" if still else "ok"), row
        assert ("failed" in row["note"]) == still
    assert well.call("report", "suite.yaml").returncode == 1


# --- interruptions ---


def test_interrupted_and_killed_and_then_finished(finished, tmp_path):
    """Ctrl-C for the whole group, then SIGKILL for the command alone; the end is that of an undisturbed run."""
    bench = new(tmp_path / "bench").suite(EVERYTHING.replace("SEEDS", "2"))
    assert bench.stop(at=5, number=signal.SIGINT, whole_group=True) == 130
    first = bench.tree("results/runs")
    assert 4 <= len(bench.records()) < 2 * 2 * len(BACKBONES), "in the middle"
    assert {record["status"] for record in bench.records().values()} == {"ok"}
    assert bench.board("everything"), "what is there is reported"

    assert bench.stop(at=8, number=signal.SIGKILL, whole_group=False) == -signal.SIGKILL
    second = bench.tree("results/runs")
    assert {name: second[name] for name in first} == first, "what was done is not done again"
    kept = len(bench.records())
    assert len(first) // 2 < kept < 2 * 2 * len(BACKBONES)

    said = bench.run(0, "--workers", "1")
    assert 0 < jobs_to_do(said)[1] <= JOBS - 1 - kept
    third = bench.tree("results/runs")
    complete = {name for name in second if not Path(name).name.startswith(".")}
    assert {name: third[name] for name in complete} == {name: second[name] for name in complete}
    undisturbed = finished.tree("results/runs")
    assert complete <= set(third)
    assert {name for name in third if name.endswith(".npz")} == {name for name in undisturbed if name.endswith(".npz")}
    for name in undisturbed:
        assert not name.endswith(".npz") or third[name][0] == undisturbed[name][0]
    timed = {column for column in COLUMNS.split(", ") if column.endswith("_seconds")}
    for ours, theirs in zip(bench.board("everything"), finished.board("everything"), strict=True):
        for column in ours:
            assert column in {*timed, "peak_memory_mb", "hardware"} or ours[column] == theirs[column]


def test_predictions_of_nothing_are_an_error(finished):
    with pytest.raises(StageBenchError, match="cannot be read"):
        Store(finished.folder / "results").predictions("0" * 16)


def test_a_report_says_how_its_runs_were_made(finished):
    page = (finished.folder / "reports" / "everything" / "leaderboard.md").read_text()
    assert "hyperparameters: recipe default, but epochs=" in page
    assert "seeds (split/initialisation where they differ): 0, 1" in page
    assert "mean-probability of " in page


def test_report_names_what_is_damaged(finished, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(finished.folder / "results", results)
    lost = next(path for path in sorted(results.glob("runs/*/predictions.npz")))
    lost.unlink()
    done = finished.call("report", "suite.yaml", "--results", results, "--reports", tmp_path / "reports")
    assert done.stderr.count(f"{lost}: damaged or absent") == 1
    assert "1 not there yet" in (tmp_path / "reports" / "everything" / "leaderboard.md").read_text()
