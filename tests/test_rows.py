"""runs.csv: what is read, checked and refused, and the part of it that a report can be made of."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from boards import frame, run, several
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import published, report, rereading, rows, selecting, writing
from stage_bench.leaderboard.terminal import terminal

ROOT = Path(__file__).parent.parent


def test_runs_csv_reads_back_with_every_digit(tmp_path: Path) -> None:
    runs = frame(run("a", test_accuracy=1 / 3, instruction="none", llm="NA", error="two\nlines, and a comma"))
    path = rows.write_runs(tmp_path / "runs.csv", runs)
    again = rows.read_runs(path)
    assert list(again.columns) == list(rows.RUN_COLUMNS)
    assert again["test_accuracy"][0] == 1 / 3
    assert again["instruction"].tolist() + again["llm"].tolist() == ["none", "NA"]
    assert again["error"][0] == "two\nlines, and a comma"
    assert rows.runs_csv(again) == path.read_text(encoding="utf-8")
    assert b"\r" not in path.read_bytes()


def test_unreadable_runs_csv(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    with pytest.raises(StageBenchError, match="no such file"):
        rows.read_runs(path)
    for content in (b"", b"\xff\xfe\x00", b'id\n"a\n'):
        path.write_bytes(content)
        with pytest.raises(StageBenchError, match=r"runs\.csv"):
            rows.read_runs(path)


def test_ids_alone(tmp_path: Path) -> None:
    path = rows.write_runs(tmp_path / "runs.csv", frame(run("a", error="x, y"), run("b", split_seed=1, init_seed=1)))
    assert rows.read_ids(path) == {"a", "b"}
    path.write_text("id,n\na,1\n\nb,2\n")
    assert rows.read_ids(path) == {"a", "b"}
    newer = f"id,n,schema_version\na,1,{rows.SCHEMA_VERSION + 1}\n"
    for content, problem in (
        ("n\n1\n", "missing column id"),
        ("id,n\na\n", ":2: 1 cells in a row, 2 in the header"),
        (newer, "are newer than this stage-bench reads"),
    ):
        path.write_text(content)
        with pytest.raises(StageBenchError, match=problem):
            rows.read_ids(path)


def test_a_place_for_what_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    good = rows.runs_csv(frame(run("a", error="two\nlines"), run("b", split_seed=1, init_seed=1)))
    head, *others = good.splitlines(keepends=True)
    cells = len(rows.RUN_COLUMNS)
    for content, problem in (
        ("", ":1: not a readable CSV file: there is no header"),
        (head.replace("note", "error"), ":1: column 'error' occurs twice"),
        (head + "a,b\n", f":2: 2 cells in a row, {cells} in the header"),
        (
            good + "".join(others).rstrip("\n") + ",x\n",
            f":{good.count(chr(10)) + 3}: {cells + 1} cells in a row, {cells} in the header",
        ),
        (good + '"a\n', f":{good.count(chr(10)) + 1}: not a readable CSV file: unexpected end of data"),
        (good + "\udcff\n", ":1: not UTF-8: invalid start byte"),
        (good.replace(",2.0,", ",1e999,", 1), ": run 'a': train_seconds is inf, not a number"),
        (
            good.replace(
                "a,cora,random-60-20-20,zero-shot,minilm,default,gcn,train,0,0", f"a,cora,x,,,,gcn,train,{'9' * 30},0"
            ),
            ": run 'a': split_seed is 1e+30, which is too large",
        ),
    ):
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(StageBenchError) as caught:
            rows.read_runs(path)
        assert str(caught.value) == f"{path}{problem}"


def test_no_cell_of_a_row_that_is_too_long_is_dropped_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.csv"
    path.write_text("dataset,split\ncora,public,gcn\n")
    with pytest.raises(StageBenchError, match=r"leaderboard\.csv:2: 3 cells in a row, 2 in the header"):
        rows.read_csv(path)


def test_numbers_that_no_float_can_be() -> None:
    with pytest.raises(StageBenchError, match=r"run 'a': train_seconds is 1000.*, not a number"):
        rows.check_runs(frame(run("a", train_seconds=10**400)))


def test_files_of_before_there_were_versions_stay_readable(tmp_path: Path) -> None:
    """They lack columns that came later; reports/cora of the first versions had such a file."""
    runs = frame(*several("gcn", [0.8, 0.9]))
    later = set(rows.RUN_COLUMNS) - set(rows._FIRST_COLUMNS)
    path = tmp_path / "runs.csv"
    runs.drop(columns=sorted(later)).to_csv(path, index=False)
    again = rows.read_runs(path)
    assert again["test_accuracy"].tolist() == [0.8, 0.9]
    assert again["answer_seconds"].isna().all()
    assert again["schema_version"].tolist() == [rows.SCHEMA_VERSION] * 2


def test_a_file_of_this_version_lacks_no_column() -> None:
    with pytest.raises(StageBenchError, match="missing column energy_joules"):
        rows.check_runs(frame(run("a")).drop(columns="energy_joules"))


def test_rows_of_a_newer_version_are_refused() -> None:
    with pytest.raises(StageBenchError, match=r"x\.csv: rows of schema version 99 are newer .* update stage-bench"):
        rows.check_runs(frame(run("a", schema_version=99)), "x.csv")


def test_unknown_and_doubled_columns() -> None:
    with pytest.raises(StageBenchError, match="unknown column 'test_acuracy'; did you mean test_accuracy"):
        rows.check_runs(frame(run("a")).assign(test_acuracy=1))
    doubled = frame(run("a"))
    doubled.columns = [*doubled.columns[:-2], "status", doubled.columns[-1]]  # note is gone, and status is there twice
    with pytest.raises(StageBenchError, match=r"missing column note"):
        rows.check_runs(doubled)


def test_rows_given_twice_are_refused() -> None:
    with pytest.raises(StageBenchError, match="run id 'a' occurs twice"):
        rows.check_runs(frame(run("a"), run("a")))


def test_a_selection_ranks_anew_and_has_a_name_of_its_own() -> None:
    runs = frame(*several("a", [0.9, 0.91]), *several("b", [0.8, 0.81]), *several("c", [0.7, 0.71]))
    facts, kept = selecting.select(
        report.Facts(suite="x"), rows.check_runs(runs), selecting.parse(["backbone=b", "backbone=c"])
    )
    made = report.make(facts, kept)
    ranks = {row["backbone"]: row["rank"] for row in rows.records(made.board)}
    assert ranks == {"b": 1, "c": 2}
    assert (facts.suite, facts.selection) == ("x-b-c", "backbone b or c")
    assert next(found for key, found in made.separations.items() if "b" in key).best


def test_selections_that_cannot_be() -> None:
    runs = frame(*several("gcn", [0.9]), *several("sage", [0.9]))
    with pytest.raises(StageBenchError, match="write it as column=value"):
        selecting.parse(["gcn"])
    with pytest.raises(StageBenchError, match="unknown column 'backbon'; did you mean 'backbone'"):
        selecting.parse(["backbon=gcn"])
    with pytest.raises(StageBenchError, match=r"unknown backbone 'gnc'; did you mean 'gcn'\? \(valid: gcn, sage\)"):
        selecting.select(report.Facts(suite="x"), rows.check_runs(runs), {"backbone": ["gnc"]})
    mixed = frame(*several("gcn", [0.9]), run("e", backbone="e", kind="ensemble"))
    with pytest.raises(StageBenchError, match="no run has backbone gcn; kind ensemble"):
        selecting.select(report.Facts(suite="x"), rows.check_runs(mixed), {"backbone": ["gcn"], "kind": ["ensemble"]})


def test_the_reports_of_this_repository_can_be_read() -> None:
    found = sorted((ROOT / "reports").glob("*/runs.csv"))
    assert found
    for path in found:
        assert len(rows.read_runs(path)), path


def test_rows_that_cannot_share_a_table_name_their_file(tmp_path: Path) -> None:
    rows.write_runs(tmp_path / "runs.csv", frame(run("a"), run("b")))
    with pytest.raises(StageBenchError, match=r"runs\.csv: runs 'a' and 'b' are one row .* with the same seeds"):
        rereading.make(rereading.read(tmp_path), published.none(), published.no_times())


def test_a_dataset_and_a_split_without_names_are_a_table(tmp_path: Path) -> None:
    for where in ({"dataset": ""}, {"split": ""}, {"dataset": "", "split": ""}):
        made = report.make(report.Facts(suite="x"), frame(*several("gcn", [0.8, 0.9], **where)))
        assert len(writing.write(tmp_path, made)) > 5
        assert "85.00" in (tmp_path / "leaderboard.tex").read_text()
        assert "0.8500" in (tmp_path / "leaderboard.md").read_text()
        console = Console(file=io.StringIO(), width=120)
        console.print(terminal(made.board, made.separations))
        assert "0.8500" in console.file.getvalue()
