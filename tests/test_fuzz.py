"""Files with mistakes in them: whatever is in one, a reader returns, or says in a line where and why, and soon.

The profile `ci` is a few hundred examples, always the same; `slow` has more than 10,000, others each time.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import boards
import fuzzed
import reported
import tiny
from fuzzed import Files
from stage_bench import cli, registry, seals, stopping
from stage_bench.answers.choice import AnswersEntry
from stage_bench.datasets import checking, folder
from stage_bench.datasets.card import card
from stage_bench.errors import StageBenchError
from stage_bench.execution import describing, running
from stage_bench.leaderboard import board, comparison, published, report, rereading, resulting, rows, writing
from stage_bench.leaderboard.latex import latex
from stage_bench.leaderboard.markdown import markdown
from stage_bench.leaderboard.page.page import html
from stage_bench.leaderboard.site import submission
from stage_bench.runs import showing
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store
from stage_bench.suite import schema
from stage_bench.suite.folders import published_names, recipe_names
from stage_bench.training.options import TrainingOptions, TuningOptions

DEADLINE = 20.0  # seconds for one file, on a machine that does other things too
MEMORY = 3 << 30  # bytes beyond what the process has: what wants more is an error, not the end of the machine
NODES = 8

COUNTED: Counter[str] = Counter()

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,  # `limited` has its own, which also ends what would never end
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile("slow", settings.get_profile("ci"), derandomize=False)
_MANY = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ci", "slow"])


def examples(many: bool, ci: int, slow: int) -> settings:
    """How many files are tried."""
    return settings(settings.get_profile("slow" if many else "ci"), max_examples=slow if many else ci)


# --- what has to hold


class TooSlowError(BaseException):
    """No Exception, so that nothing takes it for a mistake in a file."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise TooSlowError(f"more than {DEADLINE:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def answer(call: Callable[[], Any], place: Path) -> Any:
    """What a reader gives; None where it says what is wrong with a file below `place`."""
    with limited():
        try:
            return call()
        except StageBenchError as error:
            check_lines(str(error), place)
            return None


def check_lines(said: str, place: Path) -> None:
    """Each line is printable, of a length that can be read, begins with a place and goes on with a reason."""
    lines = said.splitlines()
    assert lines
    assert "\n".join(lines) == said
    for line in lines:
        assert line.isprintable(), ascii(line)
        assert len(line) < 3000, f"{len(line)} characters: {line[:200]}"
        assert line.startswith((f"{place}{os.sep}", f"{place}: ")), f"no place: {line[:200]}"
        where, _, why = line.removeprefix(str(place)).partition(" ")
        assert why.strip(), f"no reason: {line}"
        if ".yaml" in where and not why.startswith(("no such file", "cannot be read")):
            assert re.search(r"\.yaml:\d+:\d+:$", where), f"no line and column: {line[:200]}"


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """The console script in this process: exit code, standard output and standard error."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    code = 0
    with (
        limited(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["stage-bench", *map(str, arguments)]),
        mock.patch.object(stopping, "install"),  # a thread a process
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    assert "Traceback" not in texts[1]
    return code, texts[0], texts[1]


def check_command(place: Path, *arguments: str | Path, codes: Sequence[int] = (0,)) -> str:
    """The command ends with one of the codes, or with 2 and lines that say why; what it printed."""
    code, out, err = command(*arguments)
    assert code in (*codes, 2), (code, err)
    if code == 2:
        said = [line for line in err.splitlines() if line.startswith("error: ")]
        check_lines("\n".join(line.removeprefix("error: ") for line in said), place)
    return out


@pytest.fixture(scope="module", autouse=True)
def bounded(request: pytest.FixtureRequest) -> Iterator[None]:
    """A limit of memory; and at the end how many files were tried."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    shown = ", ".join(f"{count:,} {what}" for what, count in sorted(COUNTED.items()))
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{sum(COUNTED.values()):,} examples: {shown}")


def put(place: Path, files: Files) -> Path:
    """An empty folder with these files in it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
    return place


# --- suites

_MODELS = (schema.Suite, schema.DatasetEntry, schema.LLMEntry, schema.EnsembleEntry, schema.SeedAxes, AnswersEntry)
SUITE_WORDS = tuple(
    dict.fromkeys(
        (
            *(key for model in (*_MODELS, TrainingOptions, TuningOptions) for key in model.model_fields),
            *(
                "include",
                "name",
                "low",
                "high",
                "log",
                "step",
                "when",
                "choices",
                "hidden",
                "num_layers",
                "dropout",
                "k",
            ),
            *(
                "s",
                "p",
                "t",
                "llm",
                "answers",
                "r",
                "target_modules",
                "<<",
                "tiny",
                "base.yaml",
                "suite.yaml",
                "mine.npy",
            ),
            *(name for kind in ("llms", "features", "backbones") for name in registry.specs(kind)),
            *("cora", "pubmed", "minilm (none)", "tape", "simteg", *recipe_names(), *published_names()),
        )
    )
)
_TINY = {"name": "tiny", "path": "tiny"}
SUITES: tuple[dict[str, Any], ...] = (
    {
        **{"name": "one", "description": "a small one", "datasets": [_TINY], "backbones": ["mlp", "gcn"], "seeds": 2},
        "features": [{"name": "shallow", "dimension": 4, "weighting": "counts"}],
    },
    {
        **{"name": "two", "datasets": [_TINY], "splits": "random-50-25-25", "recipe": "default", "memory": "8GB"},
        "llms": [
            {"name": "minilm", "max_length": 99, "normalize": False, "dtype": "bfloat16", "pooling": "mean"},
            {"name": "sfr-embedding-mistral", "instruction": "graph-aware", "endpoint": "http://localhost:1/v1"},
            {"name": "nomic-embed", "dimensions": 64, "trust_remote_code": True},
        ],
        "backbones": ["mlp", {"name": "sign", "s": 4, "p": 2, "t": 1}, {"name": "revgat", "recipe": "stage"}, "revgat"],
        "ensembles": [
            {"name": "e", "members": ["mlp", "revgat"], "combine": "weighted", "weights": [1, 2.5]},
            {"name": "all", "members": ["mlp"], "inputs": "all", "combine": "greedy"},
            {"name": "some", "members": ["mlp"], "inputs": ["minilm", "sfr-embedding-mistral(endpoint=true)"]},
        ],
        "seeds": {"split": 2, "initialisation": [7, 8]},
        "training": {"epochs": 20, "patience": 5, "lr": 0.01, "batching": "neighbor", "batch_size": 64, "fanout": 5},
        "compare": ["tape", "stage"],
    },
    {
        **{"name": "three", "datasets": [{**_TINY, "split": "public", "undirected": False}], "seeds": [3, 4]},
        "features": [
            {"name": "matrix", "file": "mine.npy", "standardize": True},
            {"name": "gpt-predictions", "k": 2, "answers": {"upstream": "tiny/answers"}},
            {"name": "lora", "llm": {"name": "minilm"}, "epochs": 2, "r": 4, "target_modules": ["query"]},
            "simteg",
        ],
        "backbones": ["none", "label-propagation", {"name": "correct-and-smooth"}, {"name": "gcn", "hidden": 16}],
    },
    {
        **{"name": "four", "include": ["base.yaml"], "backbones": [{"name": "gcn", "tuning": {"trials": 3}}, "mlp"]},
        "tuning": {
            **{"trials": 2, "sampler": "random", "pruner": "none", "seeds": [1000], "scope": "per-dataset"},
            "space": {
                "lr": {"low": 0.001, "high": 0.1, "log": True},
                "hidden": [16, 32],
                "epochs": {"low": 10, "high": 30, "step": 10, "when": {"hidden": [16]}},
            },
        },
    },
)


@st.composite
def suites(draw: fuzzed.Draw) -> bytes:
    return fuzzed.yaml_bytes(draw, draw(st.sampled_from(SUITES)), SUITE_WORDS)


def make_place(place: Path) -> Path:
    """Where suites lie: beside a dataset, and a suite to include."""
    tiny.write_folder(place / "tiny", 60)
    (place / "tiny" / "split_public.json").write_text(
        json.dumps({"train": list(range(30)), "val": list(range(30, 45)), "test": list(range(45, 60))})
    )
    np.save(place / "tiny" / "mine.npy", np.ones((60, 3), dtype=np.float32))
    (place / "tiny" / "answers").mkdir()
    for node in range(60):
        said = {"choices": [{"message": {"content": "nn, ga"}}]}
        (place / "tiny" / "answers" / f"{node}.json").write_text(json.dumps(said))
    base = {"datasets": [_TINY], "features": [{"name": "shallow", "dimension": 4}], "seeds": 2}
    (place / "base.yaml").write_text(json.dumps(base))
    return place


def check_suite(place: Path, content: bytes) -> None:
    path = place / "suite.yaml"
    path.write_bytes(content)
    folders = running.Folders(place / "data", place / "results", place / "reports")
    plan = answer(lambda: running.make_plan(path, folders), place)
    if plan is not None:
        with limited():  # what a run does with a plan before it begins
            running.plan_json(plan, plan.jobs).encode()
            running.plan_table(plan, plan.jobs)
            running._write_provenance(place / "provenance.json", plan, "none")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_place(tmp_path_factory.mktemp("suites"))


@_MANY
def test_suites(place: Path, many: bool) -> None:
    @examples(many, ci=120, slow=4000)
    @given(suites())
    def one(content: bytes) -> None:
        COUNTED["suites"] += 1
        check_suite(place, content)

    one()


@_MANY
def test_suites_by_the_command(place: Path, many: bool) -> None:
    @examples(many, ci=30, slow=800)
    @given(suites())
    def one(content: bytes) -> None:
        COUNTED["suites by the command"] += 1
        (place / "suite.yaml").write_bytes(content)
        check_command(place, "validate", place / "suite.yaml", "--data", place / "data")

    one()


# --- datasets

NODE_ROWS = [
    {
        "title": f"Node {node}",
        "text": "some words",
        "label": "ab"[node % 2],
        "split": ("train", "val", "test")[node % 3],
    }
    for node in range(NODES)
]
CARD = {
    **{"name": "mine", "text": "{title}: {text}", "label_names": ["a", "b"], "directed": False, "num_nodes": NODES},
    **{"splits": {"protocol": "random-60-20-20"}, "instructions": {"default": "Say."}, "origin": "here", "year": 2024},
    **{"notes": ["one"], "sources": {"texts": "there"}, "licence": "none"},
}
SPLIT = {"train": [0, 1, 2, 3], "val": [4, 5], "test": [6, 7]}
DATA_WORDS = (
    *("name", "text", "label_names", "directed", "splits", "protocol", "instructions", "num_nodes", "notes", "sources"),
    *("title", "label", "split", "src", "dst", "train", "val", "valid", "test", "default", "graph-aware", "column"),
    *("file", "a", "b", "x", "0", "1", "7", "8", "labels", "Label", "lable", "{title}", "{x}", "{", "a\nb", "\x1b[31m"),
)
EDGES = [["src", "dst"], *([str(node), str((node + 1) % NODES)] for node in range(NODES))]
NAMES = [["label", "name"], ["0", "a"], ["1", "b"]]
ODD_NAMES = (
    *("edge.csv", "Edges.csv", "nodes.csv", "nodes.parquet", "edges.parquet", "label_names.json", "gpt_pred.csv"),
    *("split_file.json", "split_column.json", "split_random-60-20-20.json", "split_.json", "split_a\nb.json"),
    *("answers/0.json", "x.f16", "x.f32", "empty.npy", "\x1b[31m.npy", "\udcff.npy", "split_\udcff.json"),
)


@st.composite
def datasets(draw: fuzzed.Draw) -> Files:
    """A folder in the folder format with one or two files that are not as they should be."""
    kinds: dict[str, Callable[[], bytes]] = {
        "dataset.yaml": lambda: fuzzed.yaml_bytes(draw, CARD, DATA_WORDS),
        "nodes.jsonl": lambda: fuzzed.json_lines(draw, NODE_ROWS, DATA_WORDS),
        "nodes.csv": lambda: fuzzed.csv_bytes(draw, _table(NODE_ROWS), DATA_WORDS),
        "nodes.parquet": lambda: fuzzed.parquet_bytes(draw, _columns(NODE_ROWS), DATA_WORDS),
        "edges.csv": lambda: fuzzed.csv_bytes(draw, EDGES, DATA_WORDS),
        "edges.parquet": lambda: fuzzed.parquet_bytes(draw, {"src": [0, 1, 2], "dst": [1, 2, 3]}, DATA_WORDS),
        "split.json": lambda: fuzzed.json_bytes(draw, SPLIT, DATA_WORDS),
        "split_public.json": lambda: fuzzed.json_bytes(draw, SPLIT, DATA_WORDS),
        "gpt_preds.csv": lambda: fuzzed.csv_bytes(draw, [["0", "1"]] * NODES, DATA_WORDS),
        "label_names.csv": lambda: fuzzed.csv_bytes(draw, NAMES, DATA_WORDS),
        "mine.npy": lambda: fuzzed.matrix_bytes(draw, NODES),
        "mine.f16": lambda: draw(st.binary(max_size=6 * NODES)),
    }
    nodes = draw(st.sampled_from(("nodes.jsonl", "nodes.jsonl", "nodes.csv", "nodes.parquet", None)))
    edges = draw(st.sampled_from(("edges.csv", "edges.csv", "edges.parquet", None)))
    more = draw(st.sets(st.sampled_from(list(kinds)[6:]), max_size=3))
    wanted = [name for name in ("dataset.yaml", nodes, edges, *sorted(more)) if name]
    wrong = draw(st.sets(st.sampled_from(wanted), min_size=1, max_size=2))
    files: Files = {name: kinds[name]() if name in wrong else _right(name) for name in wanted}
    if draw(st.integers(0, 7)) == 0:
        name = draw(st.sampled_from(ODD_NAMES))
        files[name] = _right(name) if draw(st.booleans()) else draw(st.binary(max_size=20))
    if draw(st.integers(0, 15)) == 0:
        files[draw(st.sampled_from([*wanted, "answers", "split.json", "x.npy", "gpt_preds.csv"]))] = None
    return {
        name: content for name, content in files.items() if not any(other.startswith(f"{name}/") for other in files)
    }


def _table(found: list[dict[str, Any]]) -> list[list[str]]:
    return [list(found[0]), *([str(value) for value in row.values()] for row in found)]


def _columns(found: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in found] for key in found[0]}


def _right(name: str) -> bytes:
    """A file as it should be."""

    def text(table: list[list[str]]) -> bytes:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows(table)
        return file.getvalue().encode()

    file = io.BytesIO()
    if name == "dataset.yaml":
        return json.dumps(CARD).encode()
    if name.endswith(".jsonl"):
        return "".join(json.dumps(row) + "\n" for row in NODE_ROWS).encode()
    if name.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        table = _columns(NODE_ROWS) if name.startswith("nodes") else {"src": [0, 1, 2], "dst": [1, 2, 3]}
        parquet.write_table(pyarrow.table(table), file)
        return file.getvalue()
    if name.endswith(".csv"):
        tables = {"nodes.csv": _table(NODE_ROWS), "edges.csv": EDGES, "gpt_preds.csv": [["0", "1"]] * NODES}
        return text(tables.get(name, NAMES))
    if name.endswith(".npy"):
        np.save(file, np.ones((NODES, 2), dtype=np.float32))
        return file.getvalue()
    return bytes(4 * NODES) if name.endswith((".f16", ".f32")) else json.dumps(SPLIT).encode()


def check_folder(place: Path, files: Files, thorough: bool) -> None:
    put(place, files)
    graph = answer(lambda: folder.load(place), place.parent)
    if graph is None:
        return
    answer(lambda: graph.predictions, place)
    for name in graph.matrix_paths:
        answer(lambda name=name: graph.matrix(name), place)
    with limited():
        facts = card(graph)
        json.dumps(facts, default=str).encode()
        assert all(line.isprintable() for line in describing.text(facts).split("\n"))
        for line in checking.check(graph) if thorough else ():
            assert line.what


@_MANY
def test_datasets(tmp_path: Path, many: bool) -> None:
    @examples(many, ci=80, slow=2600)
    @given(datasets(), st.integers(0, 3))
    def one(files: Files, kind: int) -> None:
        COUNTED["datasets"] += 1
        check_folder(tmp_path / "place" / "data", files, thorough=kind == 0)

    one()


@_MANY
def test_datasets_by_the_command(tmp_path: Path, many: bool) -> None:
    @examples(many, ci=20, slow=400)
    @given(datasets())
    def one(files: Files) -> None:
        COUNTED["datasets by the command"] += 1
        data = put(tmp_path / "place" / "data", files)
        check_command(tmp_path / "place", "show", "dataset", data)
        lines = check_command(tmp_path / "place", "check", "dataset", data, codes=(0, 1))
        assert all(line.isprintable() for line in lines.split("\n"))
        assert not re.search(r"\w+Error: .*\(\w+\.py:\d+\)", lines), lines  # what `checks.guarded` makes of a crash

    one()


# --- tables

_PUBLISHED = [
    list(published.PUBLISHED_COLUMNS),
    *(
        [
            "P",
            "v1",
            "cora",
            "shallow",
            "",
            "GCN",
            "4",
            "0.8",
            "0.01",
            "unstated",
            "random-60-20-20",
            "primary",
            "a place",
            "",
        ]
        for _ in range(2)
    ),
    [
        "P",
        "v1",
        "cora",
        "zero-shot",
        "minilm",
        "SAGE",
        "10",
        "0.9",
        "0.01",
        "std ddof=1",
        "random-60-20-20",
        "secondary",
        "a place",
        "suspect",
    ],
]
_TIMES = [list(published.TIME_COLUMNS), ["P", "cora", "all of it", "minilm", "3.5", "GPU", "primary", "a place", ""]]
TABLE_WORDS = (
    *published.PUBLISHED_COLUMNS,
    *rows.RUN_COLUMNS,
    *rows.COLUMNS,
    "ok",
    "failed",
    "missing",
    "train",
    "cora",
)


def _csv_rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def check_report(made: report.Report, thorough: bool) -> None:
    """What is written of rows that were read."""
    with limited():
        board.to_csv(made.board).encode("utf-8", "backslashreplace")
        rows.checked_csv(made.runs)
        if thorough:
            markdown(made, [])
            latex(made)
            html(made)
            writing.separation_csv(made)


def check_published(place: Path, content: bytes, times: bytes, thorough: bool) -> None:
    put(place, {"x.csv": content, "time.csv": times})
    table = answer(lambda: published.load(["x"], place), place)
    found = answer(lambda: published.times(place), place)
    if table is not None:
        made = report.make(report.Facts(suite="x"), boards.frame(*boards.several("gcn", [0.8, 0.9])), table, found)
        check_report(made, thorough)


@_MANY
def test_published_numbers(tmp_path: Path, many: bool) -> None:
    @st.composite
    def tables(draw: fuzzed.Draw) -> tuple[bytes, bytes]:
        return fuzzed.csv_bytes(draw, _PUBLISHED, TABLE_WORDS), fuzzed.csv_bytes(draw, _TIMES, TABLE_WORDS)

    @examples(many, ci=60, slow=1200)
    @given(tables(), st.integers(0, 7))
    def one(contents: tuple[bytes, bytes], kind: int) -> None:
        COUNTED["published tables"] += 1
        check_published(tmp_path / "data", *contents, thorough=kind == 0)

    one()


RUNS = _csv_rows(
    rows.runs_csv(boards.frame(*boards.several("gcn", [0.8, 0.9, 0.85]), *boards.several("mlp", [0.7] * 3)))
)


def check_runs(place: Path, content: bytes, thorough: bool) -> None:
    put(place, {"runs.csv": content})
    made = answer(lambda: rereading.make(rereading.read(place), published.none(), published.no_times()), place)
    if made is not None:
        check_report(made, thorough)


@_MANY
def test_runs(tmp_path: Path, many: bool) -> None:
    @st.composite
    def tables(draw: fuzzed.Draw) -> bytes:
        return fuzzed.csv_bytes(draw, RUNS, TABLE_WORDS)

    @examples(many, ci=60, slow=1200)
    @given(tables(), st.integers(0, 7))
    def one(content: bytes, kind: int) -> None:
        COUNTED["runs.csv"] += 1
        check_runs(tmp_path / "data", content, thorough=kind == 0)

    one()


BOARD = _csv_rows(board.to_csv(boards.made(boards.example()).board))


def check_boards(place: Path, one: bytes, other: bytes) -> None:
    put(place, {"leaderboard-a.csv": one, "leaderboard-b.csv": other})
    sides = [answer(lambda name=name: resulting.read(place / name), place) for name in sorted(os.listdir(place))]
    if None not in sides:
        changes = answer(lambda: comparison.compare(*sides), place)
        with limited():
            comparison.shown(changes)
            comparison.summary(changes)


@_MANY
def test_leaderboards(tmp_path: Path, many: bool) -> None:
    @st.composite
    def tables(draw: fuzzed.Draw) -> tuple[bytes, bytes]:
        return fuzzed.csv_bytes(draw, BOARD, TABLE_WORDS), fuzzed.csv_bytes(draw, BOARD, TABLE_WORDS)

    @examples(many, ci=40, slow=600)
    @given(tables())
    def one(contents: tuple[bytes, bytes]) -> None:
        COUNTED["leaderboard.csv"] += 1
        check_boards(tmp_path / "data", *contents)

    one()


@_MANY
def test_tables_by_the_command(tmp_path: Path, many: bool) -> None:
    writing.write(tmp_path / "right", boards.made(*boards.several("gcn", [0.8, 0.9])))

    @st.composite
    def tables(draw: fuzzed.Draw) -> bytes:
        return fuzzed.csv_bytes(draw, draw(st.sampled_from((RUNS, BOARD))), TABLE_WORDS)

    @examples(many, ci=15, slow=300)
    @given(tables())
    def one(content: bytes) -> None:
        COUNTED["tables by the command"] += 1
        for name in ("runs.csv", "leaderboard.csv"):
            put(tmp_path / "data", {name: content})
            check_command(tmp_path / "data", "compare", tmp_path / "data" / name, tmp_path / "right")

    one()


# --- what others made: reports and results


@pytest.fixture(scope="module")
def report_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A report with a bit of everything, its plots left out."""
    place = tmp_path_factory.mktemp("report")
    writing.write(place, reported.example(tmp_path_factory.mktemp("published")))
    return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


FACTS_WORDS = (
    *(
        "schema_version",
        "suite",
        "description",
        "studies",
        "models",
        "history",
        "winner",
        "plots",
        "compare",
        "versions",
    ),
    *(
        "dataset",
        "split",
        "features",
        "llm",
        "instruction",
        "backbone",
        "state",
        "ok",
        "seconds",
        "values",
        "importances",
    ),
    *("val_accuracy", "val_loss", "metric", "timeout", "asked", "seeds", "..", "../x", "/etc/passwd", "tape", "name"),
)


def resealed(content: bytes) -> bytes:
    """The same JSON with a checksum that is right, as whoever means harm would put there."""
    try:
        value = json.loads(content)
        return json.dumps(seals.sealed(value)).encode()
    except (ValueError, RecursionError, AttributeError, TypeError):
        return content


def check_report_folder(place: Path, files: Files, thorough: bool) -> None:
    put(place, files)
    found = answer(lambda: submission.examine(place, lambda names: (published.none(), published.no_times())), place)
    for line in found.lines:
        assert line.what.isprintable()
    made = answer(lambda: rereading.make(rereading.read(place), published.none(), published.no_times()), place)
    if made is not None:
        check_report(made, thorough)


@_MANY
def test_reports(tmp_path: Path, many: bool, report_files: Files) -> None:
    facts = {**json.loads(report_files["report.json"] or b""), "sha256": {}}
    details = json.loads(report_files["details.json"] or b"")

    @st.composite
    def folders(draw: fuzzed.Draw) -> Files:
        files = {**report_files, "report.json": resealed(fuzzed.json_bytes(draw, facts, FACTS_WORDS))}
        files["details.json"] = fuzzed.json_bytes(draw, details, FACTS_WORDS)
        if draw(st.integers(0, 3)) == 0:
            name = draw(st.sampled_from(sorted(files)))
            files[name] = fuzzed.damaged(draw, files[name] or b"") if draw(st.integers(0, 5)) else None
        return files

    @examples(many, ci=30, slow=700)
    @given(folders(), st.integers(0, 5))
    def one(files: Files, kind: int) -> None:
        COUNTED["reports"] += 1
        check_report_folder(tmp_path / "data", files, thorough=kind == 0)

    one()


RECORD_WORDS = (
    *RunRecord.__dataclass_fields__,
    "test_accuracy",
    "val_accuracy",
    "parameters",
    "train",
    "members",
    "ok",
)


def make_results(place: Path) -> dict[str, Any]:
    """A results folder with one run; its record."""
    record = RunRecord(
        **{"id": "abcd", "status": "ok", "kind": "ensemble", "dataset": "tiny", "split": "random-60-20-20"},
        **{"features": "shallow", "llm": "", "instruction": "", "backbone": "mlp", "split_seed": 0, "init_seed": 0},
        content={"kind": "ensemble", "members": ["a", "b"], "options": {"lr": 0.1}},
        metrics={"test_accuracy": 0.8, "val_accuracy": 0.9, "parameters": 12, "epochs": 3, "best_epoch": 2},
        seconds={"train": 1.5, "infer": 0.1, "embed": 3.0},
        curve=[0.1, 0.5, 0.9],
        weights={"a": 0.5, "b": 0.5},
        versions={"torch": "2"},
        commit={"commit": "a" * 40, "dirty": True},
    )
    said = {"probabilities": np.ones((4, 2), np.float16), "split_fingerprint": np.array("s")}
    return Store(place).put(record, said).to_json()


def check_results(place: Path, content: bytes) -> None:
    (place / "runs" / "abcd" / "run.json").write_bytes(content)
    side = answer(lambda: resulting.read(place), place)
    if side is not None:
        check_report(report.make(report.Facts(suite="x"), side.runs), thorough=False)
    facts = answer(lambda: showing.describe(place, "abcd"), place)
    if facts is not None:
        with limited():
            assert all(line.isprintable() for line in showing.text(facts).split("\n"))
            json.dumps(facts, ensure_ascii=False).encode("utf-8", "backslashreplace")


@_MANY
def test_results(tmp_path: Path, many: bool) -> None:
    record = make_results(tmp_path)

    @st.composite
    def records(draw: fuzzed.Draw) -> bytes:
        return resealed(fuzzed.json_bytes(draw, record, RECORD_WORDS))

    @examples(many, ci=40, slow=600)
    @given(records())
    def one(content: bytes) -> None:
        COUNTED["run.json"] += 1
        check_results(tmp_path, content)

    one()
