"""The files of a report, compared as text."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import boards
import stage_bench
from boards import example, frame, made, run, several
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import board, facts_file, files, latex, report, rereading, rows, wording, writing
from stage_bench.leaderboard.files import csv_columns, csv_text
from stage_bench.leaderboard.markdown import markdown
from stage_bench.leaderboard.plots.plot import Plot
from stage_bench.leaderboard.terminal import terminal

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "STAGE_BENCH_UPDATE_GOLDEN"  # set it to write the golden files again, then read the difference
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def published_folder(tmp_path: Path) -> Path:
    return boards.write_published(tmp_path / "published")


def golden(folder: Path) -> report.Report:
    facts = {
        "description": "rows of every kind",
        "source": "stage-bench, suite golden",
        "left_out": ["pubmed has not run: no <data> yet."],
    }
    return made(example(), folder=folder, **facts)


PLOT = Plot(
    kind="time", dataset="cora", split="random-60-20-20", alt="accuracy | time", name="cora.time", svg=b"", png=b""
)


def page(folder: Path) -> tuple[report.Report, str]:
    found = golden(folder)
    return found, markdown(found, [PLOT])


def compare_with_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get(UPDATE):
        path.write_bytes(text.encode())
    assert text == path.read_bytes().decode(), f"{path} differs; if that is meant, run again with {UPDATE}=1"


def test_golden_csv(published_folder: Path) -> None:
    compare_with_golden("leaderboard.csv", board.to_csv(golden(published_folder).board))


def test_golden_markdown(published_folder: Path) -> None:
    compare_with_golden("leaderboard.md", page(published_folder)[1])


def test_golden_latex(published_folder: Path) -> None:
    compare_with_golden("leaderboard.tex", latex.latex(golden(published_folder)))


def test_golden_separation(published_folder: Path) -> None:
    compare_with_golden("separation.csv", writing.separation_csv(golden(published_folder)))


def test_text_from_data_is_escaped(published_folder: Path) -> None:
    text = page(published_folder)[1]
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\| out of &#96;memory&#96;" in text
    assert "Traceback" not in text
    # The widths of the tables, the narrowest of which shows what little of one row was measured.
    widths = {line.count("|") - 1 for line in text.splitlines() if re.fullmatch(r"\|[:|-]+\|", line)}
    assert widths == {3, 7, 10, 11}
    for line in text.splitlines():
        if line.startswith("|"):
            cells = line.replace("\\|", "").count("|") - 1
            assert cells in widths, line
    assert wording.escape("a\n b\t\x1b[31m\u202e`*_\\|") == "a b \\[31m&#96;\\*\\_&#92;\\|"


def test_markdown_says_what_each_number_is(published_folder: Path) -> None:
    text = page(published_folder)[1]
    assert "n = 1 to 4 finished runs a row; ± standard deviation over runs (ddof 1)" in text
    assert "random 60/20/20, drawn by TAPE's rule" in text
    assert "hardware: 2 CPU cores" in text
    assert text.count("Published value is suspect") == 1, "each distinct note once"
    assert "± 0.0307 (unstated)" in text
    assert "0.9290 †" in text
    assert "n × (train + infer)" in text
    assert re.search(r"\| failed [¹²³⁴] +\|", text)


def test_leaderboard_csv_reads_back(tmp_path: Path, published_folder: Path) -> None:
    result = golden(published_folder).board
    path = files.replace_text(tmp_path / "leaderboard.csv", board.to_csv(result))
    again = board.read(path)
    assert board.to_csv(again) == board.to_csv(result)
    path.write_text(board.to_csv(result).replace("0.9290", "high"))
    with pytest.raises(StageBenchError, match=r"leaderboard.csv: row \d+: test_accuracy is 'high', not a number"):
        board.read(path)
    path.write_text("dataset,split\n")
    with pytest.raises(StageBenchError, match=r"leaderboard.csv: missing columns features, llm"):
        board.read(path)


def test_write_gives_the_same_bytes_twice(tmp_path: Path, published_folder: Path) -> None:
    pytest.importorskip("matplotlib")
    first = writing.write(tmp_path / "a", golden(published_folder))
    other_way_round = made(
        example().iloc[::-1], folder=published_folder, description="rows of every kind",
        source="stage-bench, suite golden", left_out=["pubmed has not run: no <data> yet."],
    )  # fmt: skip
    second = writing.write(tmp_path / "b", other_way_round)
    assert [path.relative_to(tmp_path / "a") for path in first] == [path.relative_to(tmp_path / "b") for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    assert sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file()) == sorted(first), "nothing left over"
    names = {path.name for path in first}
    assert names >= {
        *("leaderboard.csv", "leaderboard.md", "leaderboard.tex", "runs.csv", "separation.csv", "index.html"),
        *("report.json", "cora.random-60-20-20.time.svg", "cora.random-60-20-20.time.png"),
    }
    text = (tmp_path / "a" / "leaderboard.md").read_text(encoding="utf-8")
    assert "23 runs: 21 finished, 2 failed." in text
    assert "Made with stage-bench 0.1.0, commit abc1234." in text
    for path in first:
        if path.suffix == ".svg":
            assert f"(plots/{path.name})" in text


def test_a_report_can_be_made_anew_from_its_own_folder(tmp_path: Path, published_folder: Path) -> None:
    found = golden(published_folder)
    writing.write(tmp_path / "a", found)
    read = rereading.read(tmp_path / "a")
    again = rereading.make(read, *published_numbers(published_folder))
    paths = writing.write(tmp_path / "b", again)
    for path in paths:
        assert path.read_bytes() == (tmp_path / "a" / path.relative_to(tmp_path / "b")).read_bytes(), path.name


def published_numbers(folder: Path) -> tuple[object, object]:
    from stage_bench.leaderboard import published

    return published.load(["numbers"], folder, {"Salesforce/SFR": "sfr"}), published.times(folder)


def test_plots_that_are_no_longer_there_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    writing.write(tmp_path, made(*several("gcn", [0.8, 0.9], embed_seconds=1.0, embedding_id="e")))
    assert (tmp_path / "plots" / "cora.time.svg").is_file()
    (tmp_path / "plots" / "mine.svg").write_text("mine")
    writing.write(tmp_path, made(*several("gcn", [0.8, 0.9], dataset="pubmed")))
    left = {path.name for path in (tmp_path / "plots").iterdir()}
    assert "mine.svg" in left
    assert not any(name.startswith("cora.") for name in left)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "cannot be read"),
        ("[]", "not a report's facts"),
        ('{"schema_version": 99}', "version 99 is newer"),
        ('{"schema_version": 1}', "suite: Field required|missing"),
        ('{"schema_version": 1, "suite": "x", "models": 3}', "models"),
    ],
)
def test_bad_facts(tmp_path: Path, content: str, problem: str) -> None:
    rows.write_runs(tmp_path / "runs.csv", frame(run("a")))
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(StageBenchError, match=rf"report\.json: .*{problem}"):
        rereading.read(tmp_path)


def test_a_list_of_plots_names_no_file_elsewhere(tmp_path: Path) -> None:
    content = {"schema_version": 1, "suite": "x", "plots": ["../runs.csv", "/etc/passwd", "a.svg", 3]}
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert facts_file.plots(tmp_path) == ["a.svg"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.replace_text(tmp_path / "x.csv", "old")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        files.replace_text(path, "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text() == "old"


def test_file_stem() -> None:
    assert files.file_stem("ogbn-arxiv") == "ogbn-arxiv"
    odd = ["a/b", "a?b", "../x", "", "..", "ä", "a b" * 90]
    stems = [files.file_stem(name) for name in odd]
    assert len(set(stems)) == len(odd)
    assert all(re.fullmatch("[A-Za-z0-9._-]+", stem) for stem in stems)
    assert not any(stem.startswith(".") or len(stem) > 100 for stem in stems)


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_fits(width: int, published_folder: Path) -> None:
    runs = example()
    runs["backbone"] = runs["backbone"].replace("mlp", "[red]mlp[/red]")
    found = made(runs, folder=published_folder)
    output = io.StringIO()
    Console(file=output, width=width).print(terminal(found.board, found.separations))
    text = output.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "[red]mlp[/red]" in text
    for word in ("0.8912 ± 0.0131", "partial", "failed", "† STAGE", "Total s"):
        assert word in text


def test_a_runs_csv_alone_is_enough_on_a_machine_without_torch(tmp_path: Path) -> None:
    """The whole command, with everything that is heavy made impossible to import."""
    rows.write_runs(tmp_path / "runs.csv", example())
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        heavy = ('torch', 'dgl', 'transformers', 'sentence_transformers', 'optuna', 'ogb', 'numba')\n"
        "        if name.partition('.')[0] in heavy:\n"
        "            raise ImportError(f'{name} is not on a laptop')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"sys.argv = ['stage-bench', 'report', {str(tmp_path / 'runs.csv')!r},\n"
        f"            '--reports', {str(tmp_path / 'out')!r}]\n"
        "from stage_bench.cli import main\n"
        "main()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(stage_bench.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # some of these runs failed
    assert "0.8912" in done.stdout
    for name in ("leaderboard.csv", "index.html", "leaderboard.tex"):
        assert (tmp_path / "out" / tmp_path.name / name).is_file()


def test_a_selection_does_not_take_the_place_of_the_report(tmp_path: Path, stage_bench: Command) -> None:
    rows.write_runs(tmp_path / "mine" / "runs.csv", frame(*several("gcn", [0.8, 0.9]), *several("a/b", [0.7, 0.8])))
    code, _, err = stage_bench("report", tmp_path / "mine", "--reports", tmp_path / "out", "--only", "backbone=a/b")
    assert (code, err) == (0, "")
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("mine-a-b-")
    assert "A selection" in (folder / "leaderboard.md").read_text()
    code, _, err = stage_bench("report", tmp_path / "mine", "--only", "backbone=gnc")
    assert (code, err.strip()) == (2, "error: unknown backbone 'gnc'; did you mean 'gcn'? (valid: a/b, gcn)")
    code, out, _ = stage_bench("report", tmp_path / "mine", "--json")
    assert code == 0
    assert json.loads(out).keys() == {
        *("counts", "files", "leaderboard", "separations", "costs", "mean_ranks", "reproductions")
    }


def test_ten_thousand_runs() -> None:
    generator = np.random.default_rng(0)
    runs = frame(
        *(
            run(f"{dataset}-{index}-{seed}", dataset=f"d{dataset}", backbone=f"b{index}", split_seed=seed,
                init_seed=seed, test_accuracy=generator.random())
            for dataset in range(5) for index in range(200) for seed in range(10)
        )
    )  # fmt: skip
    start = time.perf_counter()
    found = made(runs)
    text = markdown(found) + board.to_csv(found.board)
    print(f"10,000 runs: {time.perf_counter() - start:.1f} s")  # measured, not asserted: machines differ
    assert len(found.board) == 1000
    assert text.count("d4") > 200


def test_without_matplotlib_there_is_everything_but_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    paths = writing.write(tmp_path, made(*several("gcn", [0.8, 0.9])))
    assert "stage-bench[plots]" in caplog.text
    assert not (tmp_path / "plots").exists()
    assert "index.html" in {path.name for path in paths}
    assert "plots/" not in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")


def test_long_tables_are_cut_with_a_word() -> None:
    found = made(*(run(f"{place}", backbone=f"b{place}", test_accuracy=0.9 - place / 1000) for place in range(300)))
    output = io.StringIO()
    Console(file=output, width=100).print(terminal(found.board, found.separations))
    assert "240 more, in leaderboard.csv" in output.getvalue()
    assert "The first 200 of 300 rows; all of them are in leaderboard.csv and index.html." in markdown(found)
    assert "% 240 more rows are in leaderboard.csv" in latex.latex(found)
    assert board.to_csv(found.board).count("\n") == 301


@pytest.mark.parametrize("cell", ["", "x", "a,b", 'say "x"', "two\nlines", "cr\r", " blank ", "'", "\t", "é\u2028"])
def test_tables_are_written_as_the_csv_module_writes_them(cell: str) -> None:
    rows = [["a", cell], [cell, "b"], [cell, cell]]
    expected = io.StringIO()
    csv.writer(expected, lineterminator="\n").writerows([["one", cell], *rows])
    written = csv_text(["one", cell], rows)
    if "\r" not in cell:  # which the module leaves bare before Python 3.13, so that it ends a row when it is read
        assert written == expected.getvalue()
    assert csv_columns(["one", cell], list(zip(*rows, strict=True))) == written
    assert list(csv.reader(io.StringIO(written, newline=""), strict=True)) == [["one", cell], *rows]


def test_a_selection_keeps_the_hits_of_its_own_runs(tmp_path: Path) -> None:
    runs = [*several("gcn", [0.5, 0.5]), *several("sage", [0.5, 0.5])]
    found = {str(row["id"]): np.array([True, False]) for row in runs}
    writing.write(tmp_path, report.make(report.Facts(suite="x"), frame(*runs), hits=found))
    assert rereading.read(tmp_path).hits.keys() == found.keys()
    assert rereading.read(tmp_path, wanted={"backbone": ["gcn"]}).hits.keys() == {"gcn-0", "gcn-1"}


def test_a_report_of_other_runs_is_not_replaced(
    tmp_path: Path, stage_bench: Callable[..., tuple[int, str, str]]
) -> None:
    """Somebody else's report may say that it has the name of mine."""
    writing.write(tmp_path / "reports" / "golden", made(*several("gcn", [0.8, 0.9])))
    theirs = [{**row, "id": f"their {row['id']}"} for row in several("gcn", [0.99, 0.98])]
    writing.write(tmp_path / "theirs", made(*theirs))
    before = (tmp_path / "reports" / "golden" / "runs.csv").read_bytes()
    code, _, err = stage_bench("report", tmp_path / "theirs", "--reports", tmp_path / "reports")
    assert code == 2
    assert "holds a report of other runs" in err
    assert (tmp_path / "reports" / "golden" / "runs.csv").read_bytes() == before
    assert stage_bench("report", tmp_path / "theirs", "--reports", tmp_path / "new")[0] == 0
    assert stage_bench("report", tmp_path / "new" / "golden", "--reports", tmp_path / "new")[0] == 0, "its own"
