"""The console script: commands, exit codes, one line for what is wrong, and nothing written by mistake."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stage_bench.cli import app
from stage_bench.leaderboard.rows import COLUMNS

COMMANDS = (
    *("run", "plan", "validate", "prepare", "report", "compare", "merge", "publish"),
    *("ls", "show", "check", "schema", "doctor"),
)
TAKES_SUITE = ("run", "plan", "validate", "prepare", "report")
SUITE = """
    name: small
    description: a tiny one
    recipe: stage
    datasets: [{name: tiny, path: tiny}]
    features: [{name: shallow, dimension: 4}]
    backbones: [mlp, {name: gcn, tuning: {trials: 2, space: {lr: [0.01, 0.02]}}}]
    ensembles: [{name: both, members: [mlp, gcn(tuning=2)]}]
    seeds: 2
"""


@pytest.fixture
def suite(tiny_folder, suite_file) -> Path:
    tiny_folder()
    return suite_file(SUITE)


def heavy(*args: str | Path) -> list[str]:
    """Which heavy modules that call has imported when it is over."""
    script = (
        "import contextlib, sys\n"
        "from stage_bench import cli\n"
        "with contextlib.suppress(SystemExit): cli.main()\n"
        "heavy = ('torch', 'dgl', 'pandas', 'transformers', 'sentence_transformers', 'sklearn', 'scipy', 'optuna')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, check=True)
    assert done.stdout
    return json.loads(done.stderr.splitlines()[-1].replace("'", '"'))


def test_help_names_every_command(stage_bench):
    code, out, err = stage_bench("--help")
    assert (code, err) == (0, "")
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)
    for command in COMMANDS:
        assert f" {command} " in out
    assert stage_bench()[0] == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(stage_bench, command: str):
    code, out, err = stage_bench(command, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: stage-bench {command}" in out
    if command in TAKES_SUITE:
        assert "--data" in out
        assert "--plugin" in out


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["ls"], ["ls", "llms", "--json"], ["schema"]])
def test_quick_answers_import_nothing_heavy(args: list[str]):
    assert heavy(*args) == []


def test_validating_imports_no_torch(suite: Path):
    assert not {"torch", "dgl", "transformers", "sklearn"} & set(heavy("validate", suite))


def test_ls(stage_bench):
    code, out, err = stage_bench("ls")
    assert (code, err) == (0, "")
    code, everything, err = stage_bench("ls", "--json")
    assert (code, err) == (0, "")
    kinds = json.loads(everything)
    assert list(kinds) == ["datasets", "llms", "features", "backbones", "executors", "suites"]
    lines = iter(out.splitlines())
    for kind, rows in kinds.items():
        assert next(lines) == f"{kind}:"
        assert rows
        for row in rows:
            line = next(lines)
            assert line.split()[0] == row["name"]
            assert row["summary"]
            assert row["summary"] in line
            assert ("[needs: " in line) == bool(row["needs"])
    assert list(lines) == []
    code, out, _ = stage_bench("ls", "llms", "--json")
    assert json.loads(out) == {"llms": kinds["llms"]}


def test_ls_shows_what_suites_say_of_themselves(stage_bench):
    code, out, _ = stage_bench("ls", "suites", "--json")
    rows = {row["name"]: row["summary"] for row in json.loads(out)["suites"]}
    assert code == 0
    assert "quick.yaml" in rows
    assert all(rows.values())


@pytest.mark.parametrize(
    ("kind", "name", "facts"),
    [
        ("llm", "minilm", {"dimension": 384, "pooling": "mean", "licence": "apache-2.0"}),
        ("llms", "sfr-embedding-mistral", {"dimension": 4096, "pooling": "last-token", "dtype": "float16"}),
        ("backbone", "sign", {"family": "diffusion", "paper": "arXiv 2004.11198"}),
        ("feature", "shallow", {"needs_text": True}),
        ("features", "shallow", {"name": "shallow"}),
    ],
)
def test_show(stage_bench, kind: str, name: str, facts: dict[str, object]):
    code, out, err = stage_bench("show", kind, name, "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert {key: shown[key] for key in facts} == facts
    code, out, err = stage_bench("show", kind, name)
    assert (code, err) == (0, "")
    assert [line.split("  ")[0] for line in out.splitlines() if not line.startswith(" ")] == list(shown)


def test_show_names_the_options(stage_bench):
    assert {"num_layers", "heads", "lr", "patience"} <= set(
        json.loads(stage_bench("show", "backbone", "revgat", "--json")[1])["options"]
    )
    shown = stage_bench("show", "backbone", "revgat")[1]
    assert "heads = 3: Attention heads" in shown
    assert "lr = 0.002: learning rate" in shown, "the recipe's value, not the model's"
    options = json.loads(stage_bench("show", "feature", "shallow", "--json")[1])["options"]
    assert options == {"weighting": "tfidf", "vocabulary": 20_000, "dimension": 256, "normalize": True}
    assert "vocabulary = 20000: most frequent words kept" in stage_bench("show", "feature", "shallow")[1]


def test_show_a_dataset_by_folder_and_by_name(stage_bench, tiny_folder, tmp_path: Path):
    folder = tiny_folder("cora", licence="MIT")
    for args in (["show", "dataset", folder], ["show", "dataset", "cora", "--data", tmp_path]):
        code, out, err = stage_bench(*args, "--json")
        assert (code, err) == (0, "")
        facts = json.loads(out)
        assert (facts["name"], facts["nodes"], facts["licence"]) == ("cora", 40, "MIT")
        assert facts["classes"] == {"birds": 14, "cars": 13, "dogs": 13}
        assert facts["split random-60-20-20"] == {"train": 24, "val": 8, "test": 8}
    assert json.loads(stage_bench("show", "dataset", "cora", "--json", data=tmp_path)[1])["nodes"] == 40


def test_the_option_wins_over_the_environment(stage_bench, tiny_folder, tmp_path: Path):
    tiny_folder("one/cora")
    code, _, err = stage_bench("show", "dataset", "cora", "--data", tmp_path / "two", data=tmp_path / "one")
    assert code == 2
    assert f"is not in the data folder {tmp_path / 'two'} " in err


def test_validate(stage_bench, suite: Path):
    assert stage_bench("validate", suite) == (0, f"{suite} is valid: 8 jobs\n", "")


def test_validate_says_what_is_left_out(stage_bench, tiny_folder, suite_file):
    tiny_folder()
    path = suite_file(SUITE.replace("path: tiny}", "path: tiny}, {name: cora, optional: true}"))
    code, out, err = stage_bench("validate", path)
    assert (code, out) == (0, f"{path} is valid: 8 jobs\n")
    assert err.startswith("cora is left out: it is not in the data folder (--data or $STAGE_BENCH_DATA); fetch it ")
    assert err.count("\n") == 1


def test_plan(stage_bench, suite: Path):
    code, out, err = stage_bench("plan", suite)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["job", "dataset", "split", "features", "instruction", "backbone", "count", "to", "do"]
    assert [(row[0], *row[-2:]) for row in rows[2:-1]] == [
        ("embed", "1", "1"),
        ("train", "2", "2"),
        ("tune", "1", "1"),
        ("train", "2", "2"),
        ("ensemble", "2", "2"),
    ]
    assert out.splitlines()[-1] == "8 jobs, 8 to do"


def test_plan_for_machines(stage_bench, suite: Path):
    code, out, err = stage_bench("plan", suite, "--json")
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert (plan["suite"], plan["left_out"]) == ("small", [])
    assert [job["kind"] for job in plan["jobs"]] == [
        "embed",
        "train",
        "train",
        "tune",
        "train",
        "train",
        "ensemble",
        "ensemble",
    ]
    assert {job["done"] for job in plan["jobs"]} == {False}
    assert len({job["id"] for job in plan["jobs"]}) == 8
    assert plan["jobs"][1]["title"] == "train tiny shallow(dimension=4) mlp seed 0"
    assert plan["jobs"][1]["content"]["features"] == plan["jobs"][0]["id"]


def test_looking_writes_nothing(stage_bench, suite: Path, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    for args in (["plan", suite], ["validate", suite], ["show", "dataset", tmp_path / "tiny"]):
        assert stage_bench(*args)[0] == 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", TAKES_SUITE)
def test_a_wrong_suite_is_one_line_and_nothing_is_written(
    stage_bench, tiny_folder, suite_file, tmp_path: Path, command: str
):
    tiny_folder()
    path = suite_file(SUITE.replace("seeds: 2", "seeds: -2"))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = stage_bench(command, path)
    assert (code, out) == (2, "")
    assert err == f"error: {path}:8:8: seeds: input should be greater than or equal to 1 (here: -2)\n"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("seeds: 2", "sedes: 2", "8:1: unknown key 'sedes'; did you mean 'seeds'?"),
        ("seeds: 2", "seeds: 2\nseeds: 3", "9:1: key 'seeds' stands here twice"),
        ("seeds: 2", "seeds: [1, 2", "9:1: not YAML: "),
        ("[mlp, {", "[mpl, {", "6:13: unknown backbone 'mpl'; did you mean 'mlp'?"),
        ("dimension: 4", "dimension: four", "5:39: dimension: "),
        ("recipe: stage", "recipe: stag", "3:9: unknown recipe 'stag'; did you mean 'stage'?"),
        ("path: tiny", "path: tinny", "4:12: "),
        ("path: tiny", "path: tiny, split: column", "4:44: tiny has no split 'column'"),
        ("low", "", ""),
    ],
)
def test_wrong_suites_from_the_outside(
    stage_bench, tiny_folder, suite_file, tmp_path: Path, old: str, new: str, place: str
):
    tiny_folder()
    path = suite_file("".join(line.strip() + "\n" for line in SUITE.strip().splitlines()).replace(old, new))
    if not place:
        path.unlink()
        place = "no such file"
    code, out, err = stage_bench("run", path, "--results", tmp_path / "r", "--reports", tmp_path / "b")
    assert (code, out) == (2, "")
    line = next(line for line in err.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: {path}:{'' if place[0].isdigit() else ' '}{place}")
    assert not [other for other in err.splitlines() if other != line and not other.startswith("reading dataset ")]
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "b").exists()


def test_a_wrong_dataset_has_its_own_place(stage_bench, suite: Path, tmp_path: Path):
    edges = tmp_path / "tiny" / "edges.csv"
    edges.write_text("src,dst\n0,40\n")
    code, out, err = stage_bench("validate", suite)
    assert (code, out) == (2, "")
    assert err == (
        f"error: {edges}:2: the edge names node 40, which does not exist: the nodes are 0 to 39 (dataset 'tiny')\n"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["ls", "lms"], "unknown kind 'lms'; did you mean 'llms'? (valid: backbones, datasets, "),
        (["ls", "llms", "--plugin", "absent.py"], "plug-in "),
        (["show", "model", "minilm"], "unknown kind 'model' (valid: "),
        (["show", "llm", "minlm"], "unknown llm 'minlm'; did you mean 'minilm'?"),
        (["show", "backbone", "gnc"], "unknown backbone 'gnc'; did you mean 'gcn'?"),
        (["show", "dataset", "coar"], "unknown dataset 'coar'; did you mean 'cora'?"),
        (
            ["show", "dataset", "cora", "--data", "absent"],
            "dataset 'cora' is not in the data folder absent (--data or ",
        ),
        (["check", "feature", "shallow"], "there is no check for features"),
        (["compare", "a.csv", "b.csv"], "a.csv: there is no such file or folder"),
        (["run", "absent.yaml"], "absent.yaml: no such file"),
        (["run", "absent.yaml", "--device", "tpu"], "--device tpu: valid are auto, cpu and cuda"),
    ],
)
def test_wrong_calls_are_one_line(stage_bench, tmp_path: Path, args: list[str], message: str):
    code, out, err = stage_bench(*args)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("args", [["rnu"], ["run"], ["ls", "--jsn"], ["show", "llm"], ["compare", "a.csv"]])
def test_calls_that_do_not_fit_the_usage(stage_bench, args: list[str]):
    code, out, err = stage_bench(*args)
    assert (code, out) == (2, "")
    assert "Usage: stage-bench" in err
    assert "Traceback" not in err


def board(path: Path, *rows: dict[str, str]) -> Path:
    path.mkdir()
    with (path / "leaderboard.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            key = {"dataset": "cora", "split": "public", "features": "shallow", "origin": "reproduced", "status": "ok"}
            writer.writerow({**key, "n_runs": "3", **row})
    return path


def test_compare(stage_bench, tmp_path: Path):
    gcn = {"backbone": "gcn", "test_accuracy": "0.8000", "ci_low": "0.7900", "ci_high": "0.8100"}
    better = {"backbone": "gcn", "test_accuracy": "0.8300", "ci_low": "0.8200", "ci_high": "0.8400"}
    a = board(tmp_path / "a", gcn)
    b = board(tmp_path / "b", better, {**gcn, "backbone": "mlp"})
    code, out, err = stage_bench("compare", a, b / "leaderboard.csv", "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert [(row["backbone"], row["verdict"], row["difference"]) for row in rows] == [
        ("gcn", "better", 0.03),
        ("mlp", "new", None),
    ]
    code, out, err = stage_bench("compare", a, b)
    assert (code, err) == (0, "")
    assert "better" in out.splitlines()[2]


def test_doctor(stage_bench, tiny_folder, tmp_path: Path):
    tiny_folder("cora")
    code, out, err = stage_bench("doctor", data=tmp_path)
    assert code in (0, 1)
    assert err == ""
    lines = out.splitlines()
    assert {line[:6] for line in lines} <= {"ok    ", "FAIL  "}
    assert (code == 1) == any(line.startswith("FAIL") for line in lines)
    assert any(line.endswith(f"data folder {tmp_path}: api-docs (built in), cora") for line in lines)
    assert any("stage-bench" in line and "torch" in line for line in lines)


def test_a_closed_pipe_is_no_traceback():
    script = "import sys; sys.argv = ['stage-bench', 'ls']; from stage_bench.cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
