"""The leaderboard: statistics against scipy, rows of every kind, and the files compared as text."""

import io
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

import stage_bench
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import (
    board,
    comparison,
    feature_costs,
    files,
    published,
    rows,
    statistics,
    tables,
    writing,
)

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "STAGE_BENCH_UPDATE_GOLDEN"  # set it to write the golden files again, then read the difference

PUBLISHED = """\
paper,version,dataset,features,lm,backbone,n_runs,accuracy,std,std_kind,split,evidence,source,note
TAPE (arXiv 2305.19523),ICLR 2024,cora,tape,microsoft/deberta-base,SAGE,4,0.9290,0.0307,unstated,random-60-20-20,secondary,"main table, transcribed",Published value is suspect: scored on another split.
TAPE (arXiv 2305.19523),ICLR 2024,cora,tape,microsoft/deberta-base,RevGAT,4,0.9280,0.0275,unstated,random-60-20-20,secondary,"main table, transcribed",Published value is suspect: scored on another split.
STAGE (arXiv 2407.12860),KaLLM 2024,cora,zero-shot,Salesforce/SFR,ensemble,4,0.8824,0.0155,unstated,random-60-20-20,secondary,a README,
RevGNN (arXiv 2106.07476),README,cora,ogb-features,,RevGAT + label reuse,10,0.8402,0.0018,std ddof=1,random-60-20-20,primary,its README,
TAPE (arXiv 2305.19523),ICLR 2024,cora,llm-zero-shot,gpt-3.5-turbo,none,,0.6769,,,random-60-20-20,secondary,"main table, transcribed",
TAPE (arXiv 2305.19523),ICLR 2024,cora,shallow,,GCN,4,0.8000,,,public,secondary,"main table, transcribed",
TAPE (arXiv 2305.19523),ICLR 2024,pubmed,shallow,,GCN,4,0.8031,0.0425,unstated,random-60-20-20,secondary,"main table, transcribed",
"""  # noqa: E501
TIMES = """\
paper,dataset,what,lm,seconds,hardware,evidence,source,note
STAGE (arXiv 2407.12860),cora,train one ensemble,Salesforce/SFR,26.8,one GPU,primary,a log,embedding time not included
STAGE (arXiv 2407.12860),pubmed,train one ensemble,Salesforce/SFR,50.8,one GPU,primary,a log,
"""


def run(name: str, **values: object) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(rows.RUN_COLUMNS)
    row |= {"id": name, "dataset": "cora", "split": "random-60-20-20", "features": "zero-shot", "llm": "minilm"}
    row |= {"instruction": "default", "backbone": "gcn", "kind": "train", "split_seed": 0, "init_seed": 0}
    row |= {"status": "ok", "test_accuracy": 0.8, "val_accuracy": 0.81, "train_seconds": 2.0, "infer_seconds": 0.5}
    return row | values


def several(backbone: str, accuracies: list[float], **values: object) -> list[dict[str, object]]:
    return [
        run(f"{backbone}-{seed}", backbone=backbone, split_seed=seed, init_seed=seed, test_accuracy=accuracy, **values)
        for seed, accuracy in enumerate(accuracies)
    ]


def frame(*runs: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(runs), columns=list(rows.RUN_COLUMNS))


def built(*runs: dict[str, object]) -> list[dict[str, Any]]:
    return rows.records(board.build(frame(*runs), published.none(), "test"))


def by_backbone(*runs: dict[str, object]) -> dict[str, dict[str, Any]]:
    return {row["backbone"]: row for row in built(*runs)}


@pytest.fixture
def published_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "numbers.csv").write_text(PUBLISHED, encoding="utf-8")
    (folder / "time.csv").write_text(TIMES, encoding="utf-8")
    return folder


def example() -> pd.DataFrame:
    """Rows of every kind: complete, tied, partial, failed, of one run, an ensemble, two splits, hostile text."""
    embedding = {"embedding_id": "e1", "embed_seconds": 60.0, "peak_memory_mb": 512.4, "parameters": 49_927}
    common = {**embedding, "hardware": "2 CPU cores", "version": "0.1.0", "commit": "abc1234"}
    studies = {"study_id": "s1", "tune_seconds": 30.0}
    runs = [
        *several("gcn", [0.88, 0.90, 0.87, 0.89], **common, **studies),
        *several("sage", [0.88, 0.90, 0.87, 0.89], **common),
        *several("mlp", [0.82, 0.83, 0.81, 0.84], **common),
        *several("stage", [0.89, 0.91, 0.88, 0.885], kind="ensemble", study_id="s1+s2", tune_seconds=70.0, **common),
        *several("revgat", [0.86, 0.87], **common),
        run("revgat-2", backbone="revgat", split_seed=2, init_seed=2, status="failed", test_accuracy=None,
            error="<script>alert(1)</script> | out of `memory`\nTraceback ..."),
        run("gat-0", backbone="gat", status="failed", test_accuracy=None, val_accuracy=None, error="no | such *gat*"),
        run("one", backbone="sign(s=3,p=3,t=0)", features="tf-idf", llm="", instruction="", note="by hand & slow"),
        run("official", split="public", backbone="gcn", test_accuracy=0.8141, hardware="1 GPU"),
        run("odd", dataset="a|b/<i>", split="x", backbone="my_gcn", train_seconds=None, test_accuracy=0.5),
    ]  # fmt: skip
    return frame(*runs)


# --- statistics ---------------------------------------------------------------------------------------------------


def test_mean_and_std_by_hand() -> None:
    values = [0.8, 0.9, 0.85]
    assert statistics.mean(values) == pytest.approx(0.85)
    assert statistics.std(values) == pytest.approx(math.sqrt((0.05**2 + 0.05**2) / 2))
    assert statistics.std(values) == pytest.approx(stats.sem(values) * math.sqrt(3))
    assert statistics.mean([0.1] * 7) == statistics.mean([0.1] * 3) == 0.1


def test_one_value_has_neither_deviation_nor_interval() -> None:
    assert (statistics.std([0.5]), statistics.interval([0.5]), statistics.mean([])) == (None, None, None)


@pytest.mark.parametrize("size", [4, 10, 30])
def test_interval_agrees_with_scipy(size: int) -> None:
    values = np.random.default_rng(size).normal(0.85, 0.02, size)
    expected = stats.bootstrap((values,), np.mean, n_resamples=50_000, method="percentile", rng=1).confidence_interval
    width = expected.high - expected.low
    low, high = statistics.interval(values.tolist()) or (0.0, 0.0)
    assert low == pytest.approx(expected.low, abs=0.05 * width)
    assert high == pytest.approx(expected.high, abs=0.05 * width)


def test_interval_depends_only_on_the_values() -> None:
    several_at_once = statistics.intervals([[0.1, 0.2, 0.3], [0.5], [0.4, 0.6], [0.3, 0.2, 0.9]])
    assert several_at_once[0] == statistics.interval([0.1, 0.2, 0.3])
    assert several_at_once[1] is None
    assert several_at_once[3] == statistics.interval([0.3, 0.2, 0.9])


def test_ties_share_the_better_rank() -> None:
    assert statistics.ranks([0.8, 0.9, 0.8, 0.7]) == [2, 1, 2, 4]


def test_seeds_are_drawn_together_where_rows_share_them() -> None:
    hard_and_easy_splits = [0.70, 0.80, 0.90, 0.60, 0.75]
    samples = [hard_and_easy_splits, [value - 0.001 for value in hard_and_easy_splits]]
    seeds = [(float(seed), 0.0) for seed in range(5)]
    together = statistics.rank_intervals(samples, [seeds, seeds], ["a", "b"])
    assert together == [(1, 1), (2, 2)], "on every split the first is better"
    others = [(float(seed), 1.0) for seed in range(5)]
    apart = statistics.rank_intervals(samples, [seeds, others], ["a", "b"])
    assert apart == [(1, 2), (1, 2)]
    shuffled = statistics.rank_intervals([samples[0], samples[1][::-1]], [seeds, seeds[::-1]], ["a", "b"])
    assert shuffled == together, "runs are paired by seed, not by place"


def test_unrecorded_or_repeated_seeds_are_not_shared() -> None:
    assert statistics.share_seeds([[(0.0, 0.0), (1.0, 0.0)], [(1.0, 0.0), (0.0, 0.0)]])
    assert not statistics.share_seeds([[(math.inf, 0.0)], [(math.inf, 0.0)]])
    assert not statistics.share_seeds([[(0.0, 0.0), (0.0, 0.0)]] * 2)
    assert not statistics.share_seeds([[(0.0, 0.0)], [(0.0, 0.0), (1.0, 0.0)]])


def test_a_row_of_one_run_has_a_rank_without_interval() -> None:
    result = by_backbone(run("a", backbone="a", test_accuracy=0.85), *several("b", [0.8, 0.9, 0.88]))
    alone = result["a"]
    assert (alone["rank"], alone["rank_low"], alone["ci_low"], alone["test_std"]) == (2, None, None, None)
    assert (result["b"]["rank"], result["b"]["rank_low"], result["b"]["rank_high"]) == (1, 1, 2)


# --- the board ----------------------------------------------------------------------------------------------------


def test_a_complete_row() -> None:
    (row,) = built(*several("gcn", [0.8, 0.9], hardware="cpu", parameters=7, peak_memory_mb=3.0))
    assert (row["origin"], row["status"], row["source"], row["n_runs"]) == ("reproduced", "ok", "test", 2)
    assert (row["test_accuracy"], row["val_accuracy"]) == (0.85, 0.81)
    assert (row["train_seconds"], row["infer_seconds"], row["total_seconds"]) == (2.0, 0.5, 5.0)
    assert (row["parameters"], row["peak_memory_mb"], row["hardware"], row["note"]) == (7, 3.0, "cpu", None)
    assert row["embed_seconds"] is None
    assert row["diffuse_seconds"] is None


def test_partial_and_failed_rows() -> None:
    gone = {"status": "failed", "test_accuracy": None, "val_accuracy": None}
    result = by_backbone(
        *several("gcn", [0.8, 0.9]),
        run("gcn-3", split_seed=3, init_seed=3, error="second\nline", **gone),
        run("gcn-2", split_seed=2, init_seed=2, error="first\nline", **gone),
        run("gat-0", backbone="gat", **gone),
        *several("mlp", [0.7, 0.6]),
    )
    assert result["gcn"]["status"] == "partial"
    assert result["gcn"]["note"] == "2 of 4 runs failed: first"
    assert (result["gcn"]["n_runs"], result["gcn"]["test_accuracy"], result["gcn"]["rank"]) == (2, 0.85, None)
    assert result["gat"]["note"] == "1 of 1 runs failed: no reason recorded"
    empty = ("test_accuracy", "test_std", "ci_low", "val_accuracy", "rank", "train_seconds", "total_seconds")
    assert [result["gat"][column] for column in empty] == [None] * len(empty)
    assert (result["gat"]["status"], result["gat"]["n_runs"]) == ("failed", 0)
    assert result["mlp"]["rank"] == 1, "an incomplete row takes no rank from others"


def test_what_a_row_needs_once_is_counted_once() -> None:
    shared = built(*several("gcn", [0.8, 0.9], embedding_id="e", embed_seconds=60.0))[0]
    assert (shared["embed_seconds"], shared["total_seconds"]) == (60.0, 65.0)
    distinct = built(
        run("a", embedding_id="e1", embed_seconds=10.0, split_seed=0),
        run("b", embedding_id="e2", embed_seconds=20.0, split_seed=1),
        run("c", embedding_id="e2", embed_seconds=0.0, split_seed=2),  # from the cache
        run("d", embedding_id=None, embed_seconds=500.0, split_seed=3),
    )[0]
    assert distinct["embed_seconds"] == 30.0


def test_features_that_were_made_elsewhere_have_no_known_cost_and_no_total() -> None:
    known = {"embedding_id": "e1", "embed_seconds": 10.0, "answers_id": "a1", "answer_seconds": 90.0}
    tuned = {**known, "finetune_seconds": 200.0}
    (row,) = built(run("a", split_seed=0, **tuned), run("b", split_seed=1, **{**tuned, "embedding_id": "e2"}))
    # Answers once, fine-tuning and embedding for each split.
    assert (row["embed_seconds"], row["total_seconds"]) == (90 + 2 * 210.0, 90 + 2 * 210.0 + 2 * 2.5)
    for lost in ("answer_seconds", "embed_seconds"):
        (row,) = built(run("a", split_seed=0, **tuned), run("b", split_seed=1, **{**tuned, lost: None}))
        assert (row["embed_seconds"], row["total_seconds"]) == (None, None)
        assert row["train_seconds"] == 2.0


def test_what_features_cost_is_told_apart_by_instruction() -> None:
    answered = run("c", features="tape:E", embedding_id="e3", embed_seconds=1.0, answers_id="a", answer_seconds=9.0)
    first, second = (run(name, embedding_id=name, embed_seconds=10.0, instruction=name) for name in ("default", "none"))
    text = feature_costs.markdown(frame(first, second, answered))[1]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    assert [(row[1], row[2], row[3], row[-1]) for row in cells] == [
        ("tape:E", "minilm", "1", "1.00"),
        ("zero-shot", "minilm, default", "1", "10.0"),
        ("zero-shot", "minilm, none", "1", "10.0"),
    ]


def test_an_ensemble_counts_each_study_once() -> None:
    ensemble = {"kind": "ensemble", "backbone": "stage"}
    plain = built(
        run("a", study_id="s1+s2", tune_seconds=30.0, split_seed=0, **ensemble),
        run("b", study_id="s2+s1", tune_seconds=30.0, split_seed=1, **ensemble),
    )[0]
    assert plain["tune_seconds"] == 30.0, "the cell already holds the sum"
    apart = built(
        run("a", study_id="s1+s2", tune_seconds=30.0, split_seed=0, **ensemble),
        run("b", study_id="s3+s4", tune_seconds=40.0, split_seed=1, **ensemble),
    )[0]
    assert apart["tune_seconds"] == 70.0
    overlapping = by_backbone(
        run("a", study_id="s1+s2", tune_seconds=30.0, split_seed=0, **ensemble),
        run("b", study_id="s1+s3", tune_seconds=50.0, split_seed=1, **ensemble),
        *(run(f"m{i}", backbone=f"m{i}", study_id=f"s{i}", tune_seconds=10.0 * i) for i in (1, 2, 3)),
    )
    assert overlapping["stage"]["tune_seconds"] == 60.0, "s1 is in both sums"


def test_total_is_empty_without_training_time() -> None:
    (row,) = built(run("a", train_seconds=None, embedding_id="e", embed_seconds=5.0))
    assert (row["total_seconds"], row["embed_seconds"], row["infer_seconds"]) == (None, 5.0, 0.5)


def test_hardware_and_parameters_that_differ() -> None:
    (row,) = built(
        run("a", hardware="b", parameters=5, split_seed=0), run("b", hardware="a", parameters=9, split_seed=1)
    )
    assert (row["hardware"], row["parameters"]) == ("a; b", 9)


def test_order_dataset_accuracy_failed_last_then_backbone() -> None:
    result = built(
        run("1", backbone="b", test_accuracy=0.5),
        run("2", backbone="a", test_accuracy=0.5),
        run("3", backbone="c", test_accuracy=0.9),
        run("4", backbone="0", status="failed", test_accuracy=None),
        run("5", backbone="z", dataset="arxiv", test_accuracy=0.1),
    )
    assert [row["backbone"] for row in result] == ["z", "c", "a", "b", "0"]


def test_ranks_stay_within_a_dataset_and_split() -> None:
    result = built(run("1", test_accuracy=0.5), run("2", split="public", test_accuracy=0.9))
    assert [row["rank"] for row in result] == [1, 1]


def test_the_order_of_the_runs_does_not_show(published_folder: Path) -> None:
    numbers = published.load(["numbers"], published_folder)
    runs = example()
    first = board.to_csv(board.build(runs, numbers, "x"))
    shuffled = runs.sample(frac=1, random_state=3).reset_index(drop=True)
    assert board.to_csv(board.build(shuffled, numbers.iloc[::-1], "x")) == first
    assert rows.runs_csv(shuffled) == rows.runs_csv(runs)


def test_published_rows_stand_beside_ours_without_rank(published_folder: Path) -> None:
    result = board.build(example(), published.load(["numbers"], published_folder), "x")
    theirs = result[result["origin"] == "published"]
    assert set(zip(theirs["dataset"], theirs["split"], strict=True)) == {
        ("cora", "public"),
        ("cora", "random-60-20-20"),
    }
    assert theirs["rank"].isna().all()
    assert theirs["total_seconds"].isna().all()
    assert result["test_accuracy"].dropna().max() == 0.9290


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_accuracy": float("nan")}, "run 'a': status is ok but test_accuracy is empty or NaN"),
        ({"val_accuracy": None}, "run 'a': status is ok but val_accuracy is empty or NaN"),
        ({"test_accuracy": 88.4}, "test_accuracy is 88.4, not a fraction between 0 and 1"),
        ({"train_accuracy": -0.1}, "train_accuracy is -0.1, not a fraction between 0 and 1"),
        ({"test_accuracy": "high"}, "test_accuracy is 'high', not a number"),
        ({"train_seconds": float("inf")}, "train_seconds is inf, not a number"),
        ({"train_seconds": -1.0}, "train_seconds is -1.0, below zero"),
        ({"epochs": 1.5}, "epochs is 1.5, not an integer"),
        ({"status": "done"}, "status is 'done', not one of ok, failed"),
        ({"kind": "tune"}, "kind is 'tune', not one of train, ensemble"),
        ({"id": None}, "a run without an id"),
    ],
)
def test_bad_runs(change: dict[str, object], message: str) -> None:
    with pytest.raises(StageBenchError, match=r"^runs: ") as caught:
        built(run("a") | change)
    assert message in str(caught.value)


def test_duplicated_ids_and_missing_columns() -> None:
    with pytest.raises(StageBenchError, match="run id 'a' occurs twice"):
        built(run("a"), run("a", backbone="mlp"))
    with pytest.raises(StageBenchError, match="missing columns kind, note"):
        board.build(frame(run("a")).drop(columns=["kind", "note"]), published.none(), "x")


def test_runs_that_cannot_share_a_table() -> None:
    with pytest.raises(StageBenchError, match=r"'a' and 'b' are one row .* with the same seeds"):
        built(run("a"), run("b"))
    with pytest.raises(StageBenchError, match="different splits"):
        built(run("a", split_fingerprint="x"), run("b", backbone="mlp", split_fingerprint="y"))
    built(run("a", split_fingerprint="x"), run("b", split_seed=1, split_fingerprint="y"))


def test_no_runs() -> None:
    empty = board.build(frame(), published.none(), "x")
    assert list(empty.columns) == list(rows.COLUMNS)
    assert "No runs yet." in tables.markdown(empty, suite="x")
    tables.terminal(empty)


# --- files --------------------------------------------------------------------------------------------------------


def page(folder: Path) -> tuple[pd.DataFrame, str]:
    numbers = published.load(["numbers"], folder, {"Salesforce/SFR": "sfr"})
    runs = example()
    shown, mismatched = published.select(numbers, board.table_keys(runs))
    result = board.build(runs, shown, "stage-bench, suite golden")
    text = tables.markdown(
        result,
        suite="golden",
        runs_note="23 runs.",
        left_out=["pubmed has not run: no <data> yet."],
        published_left_out=mismatched,
        published_times=published.times(folder),
        versions={"stage-bench": "0.1.0", "commit": "abc1234"},
        plots={("cora", "random-60-20-20"): "plots/cora.svg"},
    )
    return result, text


def compare_with_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get(UPDATE):
        path.write_bytes(text.encode())
    assert text == path.read_bytes().decode(), f"{path} differs; if that is meant, run again with {UPDATE}=1"


def test_golden_csv(published_folder: Path) -> None:
    compare_with_golden("leaderboard.csv", board.to_csv(page(published_folder)[0]))


def test_golden_markdown(published_folder: Path) -> None:
    compare_with_golden("leaderboard.md", page(published_folder)[1])


def test_text_from_data_is_escaped(published_folder: Path) -> None:
    text = page(published_folder)[1]
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\| out of &#96;memory&#96;" in text
    assert "Traceback" not in text
    for line in text.splitlines():
        if line.startswith("|"):
            cells = line.replace("\\|", "").count("|") - 1
            assert cells in (7, 12), line
    assert tables.escape("a\n b\t\x1b[31m\u202e`*_\\|") == "a b \\[31m&#96;\\*\\_&#92;\\|"


def test_markdown_says_what_each_number_is(published_folder: Path) -> None:
    text = page(published_folder)[1]
    assert "n = 1 to 4 finished runs a row; ± standard deviation over runs (ddof 1)" in text
    assert "random 60/20/20, drawn by TAPE's rule" in text
    assert "hardware: 2 CPU cores" in text
    assert text.count("Published value is suspect") == 1, "each distinct note once"
    assert "± 0.0307 (unstated)" in text
    assert "0.9290 †" in text
    assert "n × (train + infer)" in text
    assert re.search(r"\| failed [¹²³] +\|", text)


def test_leaderboard_csv_reads_back(tmp_path: Path, published_folder: Path) -> None:
    result = page(published_folder)[0]
    path = files.replace_text(tmp_path / "leaderboard.csv", board.to_csv(result))
    again = board.read(path)
    assert board.to_csv(again) == board.to_csv(result)
    path.write_text(board.to_csv(result).replace("0.9290", "high"))
    with pytest.raises(StageBenchError, match=r"leaderboard.csv: row \d+: test_accuracy is 'high', not a number"):
        board.read(path)
    path.write_text("dataset,split\n")
    with pytest.raises(StageBenchError, match=r"leaderboard.csv: missing columns features, llm"):
        board.read(path)


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


def test_write_gives_the_same_bytes_twice(tmp_path: Path, published_folder: Path) -> None:
    numbers, times = published.load(["numbers"], published_folder), published.times(published_folder)
    first = writing.write(tmp_path / "a", "golden", example(), numbers, published_times=times)
    second = writing.write(tmp_path / "b", "golden", example().iloc[::-1], numbers, published_times=times)
    assert [path.relative_to(tmp_path / "a") for path in first] == [path.relative_to(tmp_path / "b") for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file()) == sorted(first), "nothing left over"
    assert [path.name for path in first][:3] == ["leaderboard.csv", "leaderboard.md", "runs.csv"]
    text = first[1].read_text(encoding="utf-8")
    assert "23 runs: 21 finished, 2 failed." in text
    assert "Made with stage-bench 0.1.0, commit abc1234." in text
    for path in first[3:]:
        assert f"(plots/{path.name})" in text


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
    result = board.build(runs, published.load(["numbers"], published_folder), "x")
    output = io.StringIO()
    Console(file=output, width=width).print(tables.terminal(result))
    text = output.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "[red]mlp[/red]" in text
    for word in ("0.8912 ± 0.0131", "partial", "failed", "† STAGE", "Total s"):
        assert word in text


# --- comparison ---------------------------------------------------------------------------------------------------


def test_compare() -> None:
    gone = {"status": "failed", "test_accuracy": None}
    before = board.build(
        frame(
            *several("up", [0.5, 0.52, 0.51]), *several("down", [0.5, 0.52, 0.51]), *several("same", [0.5, 0.6, 0.55]),
            run("old", backbone="old"), run("broken", backbone="broken"), run("never", backbone="never", **gone),
        ),
        published.none(), "x",
    )  # fmt: skip
    after = board.build(
        frame(
            *several("up", [0.7, 0.72, 0.71]), *several("down", [0.3, 0.32, 0.31]), *several("same", [0.5, 0.6, 0.57]),
            run("fresh", backbone="fresh"), run("broken", backbone="broken", **gone),
            run("never", backbone="never", **gone),
        ),
        published.none(), "x",
    )  # fmt: skip
    table = {row["backbone"]: row for row in rows.records(comparison.compare(before, after))}
    assert {name: row["verdict"] for name, row in table.items()} == {
        **{"up": "better", "down": "worse", "same": "unchanged", "old": "missing", "fresh": "new"},
        **{"broken": "missing", "never": "unchanged"},
    }
    assert table["up"]["difference"] == 0.2
    assert (table["old"]["difference"], table["fresh"]["difference"]) == (None, None)
    assert table["old"]["note"] == "one run in a: no interval"
    assert table["never"]["note"] == "failed in a; failed in b"


def test_compare_leaves_published_rows_out(published_folder: Path) -> None:
    result = page(published_folder)[0]
    table = comparison.compare(result, result)
    assert len(table) == (result["origin"] == "reproduced").sum()
    assert set(table["verdict"]) == {"unchanged"}


# --- the package --------------------------------------------------------------------------------------------------


def test_a_board_needs_neither_torch_nor_dgl(tmp_path: Path) -> None:
    runs = rows.write_runs(tmp_path / "runs.csv", example())
    code = (
        "import sys; from pathlib import Path\n"
        "from stage_bench.leaderboard import comparison, published, rows, writing\n"
        f"paths = writing.write(Path({str(tmp_path)!r}) / 'out', 'x', rows.read_runs(Path({str(runs)!r})))\n"
        "assert paths\n"
        "sys.exit(', '.join({'torch', 'dgl'} & set(sys.modules)) or None)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(stage_bench.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


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
    result = board.build(runs, published.none(), "x")
    text = tables.markdown(result, suite="x") + board.to_csv(result)
    print(f"10,000 runs: {time.perf_counter() - start:.1f} s")  # measured, not asserted: machines differ
    assert len(result) == 1000
    assert text.count("d4") > 200
