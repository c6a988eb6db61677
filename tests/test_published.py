"""Published numbers: the files that are shipped, and what a bad file says."""

import math
from pathlib import Path

import pytest

from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import published
from stage_bench.leaderboard.rows import COLUMNS, records

SHIPPED = Path(__file__).parents[1] / "baselines" / "published"
HEADER = ",".join(published.PUBLISHED_COLUMNS)
GOOD = "P,v1,cora,shallow,,GCN,4,0.8,0.01,unstated,official,primary,a place,"


def load(tmp_path: Path, *lines: str) -> list[dict[str, object]]:
    (tmp_path / "x.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return records(published.load(["x"], tmp_path))


def test_every_shipped_file_loads() -> None:
    names = published.names(SHIPPED)
    assert {"tape", "stage", "simteg"} <= set(names)
    assert "time" not in names
    for name in names:
        table = published.load([name], SHIPPED)
        assert list(table.columns) == list(COLUMNS)
        assert len(table) > 0
        assert set(table["origin"]) == set(table["status"]) == {"published"}
        assert table["test_accuracy"].between(0, 1).all()
        assert table["rank"].isna().all()
        for row in records(table):
            assert published.remark_of(row["note"]).evidence in ("primary", "secondary")
            assert all(published.source_of(row["source"])), row["source"]


def test_shipped_numbers_as_rows() -> None:
    table = records(published.load(["stage", "tape", "revgnn"], SHIPPED, {"Salesforce/SFR-Embedding-Mistral": "sfr"}))
    (paper,) = [
        row
        for row in table
        if (row["dataset"], row["backbone"], row["llm"]) == ("cora", "ensemble", "sfr") and row["n_runs"] == 4
    ]
    assert (paper["test_accuracy"], paper["test_std"]) == (0.8824, None), "the kind of its ± is unknown"
    assert paper["note"] == "secondary; ± 0.0155 (unstated)"
    assert paper["source"] == "STAGE (arXiv 2407.12860); KaLLM 2024; README of an independent re-implementation"
    backbones = {row["backbone"] for row in table}
    assert {"sign(s=3,p=3,t=0)", "sign(s=4,p=2,t=1)", "simplegcn(k=2)", "ensemble", "none", "mlp"} <= backbones
    assert all(name == name.lower() for name in backbones)
    deviations = {row["test_std"] for row in table if row["source"].startswith("RevGNN")}
    assert deviations == {0.0018, 0.0017}
    suspects = [row for row in table if published.remark_of(row["note"]).suspect]
    assert len(suspects) == 12
    assert any("half range of best 4 by test" in row["note"] for row in table)


def test_shipped_times() -> None:
    times = published.times(SHIPPED)
    assert list(times.columns) == list(published.TIME_COLUMNS)
    assert times["seconds"].dtype == "float64"
    assert times["seconds"].isna().sum() == 1
    assert (times["seconds"].dropna() > 0).all()


def test_no_times_where_there_is_no_file(tmp_path: Path) -> None:
    assert len(published.times(tmp_path)) == 0


def test_select_counts_rows_on_another_split() -> None:
    table = published.load(["stage", "tape"], SHIPPED)
    shown, mismatched = published.select(table, [("cora", "public"), ("pubmed", "random-60-20-20")])
    assert set(shown["dataset"]) == {"pubmed"}
    assert mismatched == (table["dataset"] == "cora").sum()
    full_graph, unrelated = published.select(table, [("ogbn-products", "official")])
    assert (len(full_graph), unrelated) == (0, 0), "TAPE's subset is another dataset"


def test_best_of_each_paper() -> None:
    table = records(published.select(published.load(["stage", "tape"], SHIPPED), [("cora", "random-60-20-20")])[0])
    assert [(published.source_of(row["source"]).paper[:5], row["test_accuracy"]) for row in published.best(table)] == [
        ("TAPE ", 0.929),
        ("STAGE", 0.8856),
    ]


def test_notes_are_taken_apart_again(tmp_path: Path) -> None:
    (row,) = load(tmp_path, GOOD + '"one; two; suspect"')
    assert published.remark_of(str(row["note"])) == ("primary", "± 0.01 (unstated)", "one; two; suspect")
    assert published.remark_of(None) == ("", "", "")


def test_unknown_name(tmp_path: Path) -> None:
    load(tmp_path, GOOD)
    with pytest.raises(StageBenchError, match=r"named 'xx' in .*; did you mean x\? \(valid: x\)"):
        published.load(["xx"], tmp_path)
    with pytest.raises(StageBenchError, match="named 'time'"):
        published.load(["time"], tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.8", "88.4", "accuracy is 88.4, not a fraction between 0 and 1"),
        ("0.8", "-0.1", "accuracy is -0.1, not a fraction between 0 and 1"),
        ("0.8", "high", "accuracy is 'high', not a number"),
        ("0.8", "nan", "accuracy is 'nan', not a number"),
        ("0.8", "", "accuracy is empty"),
        ("cora", "", "dataset is empty"),
        ("0.01", "1.6", "std is 1.6, not a fraction between 0 and 1"),
        ("unstated", "", "std without std_kind: say what the ± is, or `unstated`"),
        ("unstated", "a; b", "std_kind holds '; ', which separates the parts of a cell"),
        ("4", "2.5", "n_runs is 2.5, not a whole number of runs"),
        ("4", "1e300", "n_runs is 1e300, not a whole number of runs"),
        ("4", "9" * 99, f"n_runs is {'9' * 40}…, not a whole number of runs"),
        ("primary", "x" * 99, f"evidence is '{'x' * 60}…', not one of primary, secondary"),
        ("primary", "hearsay", "evidence is 'hearsay', not one of primary, secondary"),
        ("GCN,", "GCN,x,", "15 cells in a row, 14 in the header"),
    ],
)
def test_bad_rows_say_where(tmp_path: Path, old: str, new: str, message: str) -> None:
    spanning = GOOD + '"a note\nover two lines"'
    with pytest.raises(StageBenchError) as caught:
        load(tmp_path, spanning, "", GOOD.replace(old, new, 1))
    assert str(caught.value) == f"{tmp_path / 'x.csv'}:5: {message}"


def test_bad_headers(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(HEADER.replace("accuracy,", "").replace("note", "notes") + "\n")
    with pytest.raises(StageBenchError, match=r"x\.csv:1: missing columns accuracy, note"):
        published.load(["x"], tmp_path)
    path.write_text(HEADER + ",notes\n")
    with pytest.raises(StageBenchError, match=r"x\.csv:1: unknown column 'notes'; did you mean note\?"):
        published.load(["x"], tmp_path)
    path.write_text("")
    with pytest.raises(StageBenchError, match=r"x\.csv:1: missing columns paper"):
        published.load(["x"], tmp_path)


def test_files_that_are_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(f"{HEADER}\n".encode() + b"caf\xe9\n")
    with pytest.raises(StageBenchError, match=r"x\.csv:\d: not UTF-8"):
        published.load(["x"], tmp_path)
    path.write_text(f'{HEADER}\n{GOOD}\n"open\n')
    with pytest.raises(StageBenchError, match=r"x\.csv:3: not CSV"):
        published.load(["x"], tmp_path)


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    """It may come from a report.json that somebody else made."""
    (tmp_path / "inside").mkdir()
    load(tmp_path, GOOD)
    for name in ("../x", str(tmp_path / "x"), "inside/../../x", "x" * 300, "x\0"):
        with pytest.raises(StageBenchError, match="no published numbers named "):
            published.load([name], tmp_path / "inside")


def test_a_folder_in_the_place_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(StageBenchError, match=r"x\.csv: cannot be read: Is a directory"):
        published.load(["x"], tmp_path)


@pytest.mark.parametrize(("seconds", "message"), [("soon", "not a number"), ("-3", "below zero")])
def test_bad_times(tmp_path: Path, seconds: str, message: str) -> None:
    (tmp_path / "time.csv").write_text(f"{','.join(published.TIME_COLUMNS)}\nP,cora,all,,{seconds},GPU,primary,x,\n")
    with pytest.raises(StageBenchError, match=rf"time\.csv:2: seconds is .*{message}"):
        published.times(tmp_path)
    (tmp_path / "time.csv").write_text(f"{','.join(published.TIME_COLUMNS)}\nP,cora,all,,,GPU,primary,x,\n")
    assert math.isnan(published.times(tmp_path)["seconds"][0])
