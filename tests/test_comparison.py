"""What changed from one board, or results folder, to another: by test, not by digits."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import boards
import tiny
from boards import frame, made, run, several
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import board, comparison, hits, published, resulting, rows, significance
from stage_bench.leaderboard.resulting import Side

BEFORE = [0.80, 0.82, 0.81, 0.79, 0.80]
Command = Callable[..., tuple[int, str, str]]


def side(*runs: dict[str, object], prefix: str = "") -> Side:
    """prefix: makes the ids others than those of the other side."""
    data = frame(*(row | {"id": f"{prefix}{row['id']}"} for row in runs))
    return Side(board.build(data, published.none(), "x"), rows.check_runs(data))


def compared(a: Side, b: Side) -> dict[str, dict[str, object]]:
    """By backbone."""
    return {row["backbone"]: row for row in rows.records(comparison.compare(a, b))}


def test_verdicts_by_test() -> None:
    gone = {"status": "failed", "test_accuracy": None}
    before = side(
        *several("up", BEFORE), *several("down", BEFORE), *several("same", BEFORE), *several("noise", BEFORE),
        run("old", backbone="old"), run("broken", backbone="broken"), run("never", backbone="never", **gone),
    )  # fmt: skip
    after = side(
        *several("up", [value + 0.05 for value in [0.80, 0.82, 0.815, 0.79, 0.80]]),
        *several("down", [value - 0.05 for value in [0.80, 0.82, 0.815, 0.79, 0.80]]),
        *several("same", BEFORE), *several("noise", [0.81, 0.81, 0.82, 0.78, 0.81]),
        run("fresh", backbone="fresh"), run("broken", backbone="broken", **gone),
        run("never", backbone="never", **gone), prefix="b-",
    )  # fmt: skip
    table = compared(before, after)
    assert {name: row["verdict"] for name, row in table.items()} == {
        **{"up": "better", "down": "worse", "same": "unchanged", "noise": "unchanged"},
        **{"old": "missing", "broken": "failed", "never": "unchanged", "fresh": "new"},
    }
    assert table["up"]["difference"] == 0.051
    assert (table["old"]["difference"], table["fresh"]["difference"]) == (None, None)
    assert table["never"]["note"] == "failed in a; failed in b"
    assert table["noise"]["difference"] == 0.002, "another number, but no difference"
    changes = comparison.compare(before, after)
    assert comparison.regressions(changes) == 2
    assert comparison.summary(changes).startswith("1 better, 1 worse, 3 unchanged, 1 failed, 1 new, 1 missing")


def test_p_is_the_paired_test_corrected_for_the_rows_that_both_have() -> None:
    after = [0.81, 0.83, 0.81, 0.81, 0.80]
    table = compared(
        side(*several("a", BEFORE), *several("b", BEFORE)),
        side(*several("a", after), *several("b", BEFORE), prefix="b-"),
    )
    expected = significance.corrected_t(np.array([after]) - np.array([BEFORE]), 1 / 3)[0]
    assert table["a"]["p"] == pytest.approx(expected)
    assert table["a"]["p_holm"] == pytest.approx(2 * expected)


def test_the_same_runs_are_unchanged_without_a_test() -> None:
    both = side(*several("a", BEFORE))
    row = compared(both, both)["a"]
    assert (row["verdict"], row["method"], row["p"]) == ("unchanged", "the same runs", 1.0)


def test_one_run_each_cannot_be_tested() -> None:
    table = compared(side(run("a")), side(run("a", test_accuracy=0.7), prefix="b-"))
    assert table["gcn"]["verdict"] == "untested"
    assert "a single run" in str(table["gcn"]["note"])


def test_without_runs_welchs_test_on_what_the_board_says() -> None:
    runs = several("a", BEFORE), several("a", [value + 0.1 for value in BEFORE])
    sides = [Side(board.build(frame(*each), published.none(), "x")) for each in runs]
    row = compared(*sides)["a"]
    std = float(np.std(BEFORE, ddof=1))
    assert row["p"] == pytest.approx(significance.summary_t(0.1, std, 5, std, 5, 1 / 3))
    assert row["verdict"] == "better"
    row = compared(*(Side(board.build(frame(run("a")), published.none(), "x")) for _ in "ab"))["gcn"]
    assert (row["verdict"], row["p"]) == ("unchanged", None)


def test_a_board_that_says_little_is_compared_as_far_as_that_goes(tmp_path: Path) -> None:
    """Deviations without a number of runs, of no run, or so small that their squares are none."""
    good = board.to_csv(board.build(frame(*several("a", BEFORE)), published.none(), "x"))
    (tmp_path / "leaderboard-a.csv").write_text(good)
    before = resulting.read(tmp_path / "leaderboard-a.csv")
    deviation = f"{np.std(BEFORE, ddof=1):.4f}"
    for old, new in (
        (",5,", ",,"),
        (",5,", ",0,"),
        (",5,", ",1,"),
        (f",{deviation},", ",5e-324,"),
        (f",{deviation},", ",1e-100,"),
    ):
        (tmp_path / "leaderboard-b.csv").write_text(good.replace(old, new, 1))
        row = compared(before, resulting.read(tmp_path / "leaderboard-b.csv"))["a"]
        assert row["verdict"] in ("unchanged", "untested")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (",5,", ",5.5,", "n_runs is '5.5', not a whole number"),
        (",5,", ",1e300,", "n_runs is '1e300', not a whole number"),
        (",5,", ",-1,", "n_runs is '-1', below zero"),
        (",5,", ",x,", "n_runs is 'x', not a number"),
        (",0.", ",1.", "test_accuracy is '1."),
        (",ok,", ",ok,x,", "leaderboard.csv:2: 29 cells in a row, 28 in the header"),
    ],
)
def test_cells_of_a_board_that_cannot_be(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "leaderboard.csv"
    path.write_text(board.to_csv(board.build(frame(*several("a", BEFORE)), published.none(), "x")).replace(old, new, 1))
    with pytest.raises(StageBenchError) as caught:
        board.read(path)
    assert problem in str(caught.value)


def test_runs_on_other_data_or_splits_are_not_compared() -> None:
    a = side(*several("a", BEFORE, dataset_fingerprint="x"))
    b = side(*several("a", [0.5] * 5, dataset_fingerprint="y"), prefix="b-")
    row = compared(a, b)["a"]
    assert (row["verdict"], row["note"]) == ("untested", "cora is other data in the two")
    a, b = (
        side(*several("a", [value] * 5, split_fingerprint=name), prefix=name)
        for value, name in ((0.8, "x"), (0.7, "y"))
    )
    assert compared(a, b)["a"]["note"] == "the same seed drew different splits of cora in the two"


def test_published_rows_have_no_part(tmp_path: Path) -> None:
    found = made(boards.example(), folder=boards.write_published(tmp_path / "published"))
    table = comparison.compare(Side(found.board, found.runs), Side(found.board, found.runs))
    assert len(table) == (found.board["origin"] == "reproduced").sum()
    assert set(table["verdict"]) == {"unchanged"}


def test_on_a_fixed_split_the_hits_beside_the_rows_are_used(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, share in (("a", 0.9), ("b", 0.8)):
        data = frame(run(name, split="official", split_seed=None, test_accuracy=share))
        rows.write_runs(tmp_path / name / "runs.csv", data)
        hits.write(tmp_path / name, {name: random.random(500) < share})
    row = compared(resulting.read(tmp_path / "a"), resulting.read(tmp_path / "b"))["gcn"]
    assert (row["method"], row["verdict"]) == ("McNemar's test", "worse")


def test_what_can_be_compared(tmp_path: Path, stage_bench: Command) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    rows.write_runs(good / "runs.csv", frame(*several("gcn", BEFORE)))
    worse = frame(*(row | {"id": f"w{row['id']}"} for row in several("gcn", [value - 0.2 for value in BEFORE])))
    rows.write_runs(bad / "runs.csv", worse)
    code, out, _ = stage_bench("compare", good, bad)
    assert code == 0
    assert "worse" in out
    assert "1 worse (tests at the 5% level" in out
    assert stage_bench("compare", good, bad / "runs.csv", "--fail-on-regression")[0] == 1
    assert stage_bench("compare", bad, good, "--fail-on-regression")[0] == 0
    code, out, _ = stage_bench("compare", good, bad, "--json")
    assert [row["verdict"] for row in json.loads(out)] == ["worse"]
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "nowhere"):
        code, _, err = stage_bench("compare", good, wrong)
        assert code == 2
        assert err.startswith(f"error: {wrong}")


def test_results_folders_are_compared_run_by_run(tmp_path: Path) -> None:
    suite = {
        "features": ["shallow"],
        "backbones": ["mlp"],
        "seeds": 2,
        "splits": "random-60-20-20",
        "training": {"epochs": 2},
    }
    for name in "ab":
        tiny.write_folder(tmp_path / name / "data")
        assert tiny.carry_out(tmp_path / name, suite | {"training": {"epochs": 2 if name == "a" else 30}}) == []
    sides = [resulting.read(tmp_path / name / "results") for name in "ab"]
    (row,) = rows.records(comparison.compare(*sides))
    assert (row["n_runs_a"], row["n_runs_b"], row["method"]) == (2, 2, "corrected resampled t-test")
    (path, *_) = sorted((tmp_path / "b" / "results" / "runs").glob("*/run.json"))
    path.write_text("{")
    with pytest.raises(StageBenchError, match=rf"{path}: .*makes a damaged run again"):
        resulting.read(tmp_path / "b" / "results")


def test_the_same_ids_with_other_numbers_are_tested() -> None:
    """An id is of what went in: another library, or a mistake in the code, may give other numbers under it."""
    before = side(*several("gcn", BEFORE))
    after = side(*several("gcn", [value - 0.1 for value in [0.80, 0.82, 0.815, 0.79, 0.80]]))
    assert before.runs["id"].tolist() == after.runs["id"].tolist()
    assert compared(before, after)["gcn"]["verdict"] == "worse"
    assert compared(before, after)["gcn"]["method"] != "the same runs"
    again = compared(before, before)["gcn"]
    assert (again["verdict"], again["method"]) == ("unchanged", "the same runs")


def test_no_row_in_both_is_no_success(tmp_path: Path, stage_bench: Command) -> None:
    for name, backbone in (("a", "gcn"), ("b", "mlp")):
        rows.write_runs(tmp_path / name / "runs.csv", frame(*several(backbone, BEFORE)))
    assert stage_bench("compare", tmp_path / "a", tmp_path / "b")[0] == 0
    code, _, err = stage_bench("compare", tmp_path / "a", tmp_path / "b", "--fail-on-regression")
    assert code == 2
    assert "nothing was compared" in err
