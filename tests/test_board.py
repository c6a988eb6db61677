"""The board: rows of every kind, costs counted once, ranks within a table."""

from pathlib import Path

import pytest

import boards
from boards import built, by_backbone, example, frame, run, several
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import board, feature_costs, published, rows
from stage_bench.leaderboard.markdown import markdown
from stage_bench.leaderboard.terminal import terminal


@pytest.fixture
def published_folder(tmp_path: Path) -> Path:
    return boards.write_published(tmp_path / "published")


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


def test_what_features_cost_is_told_where_it_is_more_than_their_embedding() -> None:
    embedded = {"embedding_id": "e", "embed_seconds": 2.0}

    def said(**more: object) -> list[str]:
        runs = frame(run("a", **embedded), run("b", init_seed=1, **embedded | more))
        return feature_costs.markdown(rows.check_runs(runs))

    assert said() == []
    assert said(embedding_id=None, embed_seconds=None) == [], "it has no embedding"
    assert said(answers_id="x")
    assert said(finetune_seconds=1.0)
    assert said(embed_seconds=None)


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
    empty_report = boards.made(frame())
    assert "No runs yet." in markdown(empty_report)
    terminal(empty_report.board, empty_report.separations)
