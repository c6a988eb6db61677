"""Which rows cannot be told from the best, mean ranks over datasets, and what rows cost."""

import math

import numpy as np
import pytest
from scipy import stats

import boards
from boards import by_backbone, frame, made, run, several
from stage_bench.leaderboard import mean_ranks, report, samples, separation, significance
from stage_bench.leaderboard.rows import KEY

BEST = [0.90, 0.89, 0.92, 0.91, 0.90]
NEAR = [0.89, 0.90, 0.91, 0.91, 0.89]
FAR = [0.80, 0.78, 0.82, 0.81, 0.80]


def separations(*runs: dict[str, object], hits: samples.Hits | None = None) -> dict[str, separation.Separation]:
    """By backbone."""
    found = report.make(report.Facts(suite="x"), frame(*runs), hits=hits)
    return {key[KEY.index("backbone")]: value for key, value in found.separations.items()}


def fixed(backbone: str, accuracies: list[float], **values: object) -> list[dict[str, object]]:
    """Runs on a split that no seed draws."""
    return [row | {"split": "official", "split_seed": None} for row in several(backbone, accuracies, **values)]


def test_where_seeds_draw_the_split_pairs_are_corrected_and_holm_counts_the_rows() -> None:
    found = separations(*several("best", BEST), *several("near", NEAR), *several("far", FAR))
    best, near, far = found["best"], found["near"], found["far"]
    assert (best.best, best.difference, best.p, best.separable) == (True, 0.0, None, None)
    differences = np.array(NEAR) - np.array(BEST)
    t = differences.mean() / math.sqrt(differences.var(ddof=1) * (1 / 5 + 1 / 3))
    assert near.p == pytest.approx(2 * stats.t.sf(abs(t), 4))
    assert near.effect == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert (near.separable, far.separable, near.n) == (False, True, 5)
    assert far.p is not None
    assert far.p_holm == pytest.approx(2 * far.p)
    assert near.p_holm == pytest.approx(near.p)
    assert near.difference == pytest.approx(-0.004)
    assert near.method == "corrected resampled t-test"


def test_the_sizes_of_the_split_count_where_they_are_known() -> None:
    sizes = {"train_nodes": 100, "val_nodes": 100, "test_nodes": 800}
    known = separations(*several("best", BEST, **sizes), *several("near", NEAR, **sizes))["near"]
    differences = np.array(NEAR) - np.array(BEST)
    assert known.p == pytest.approx(significance.corrected_t(differences[None], 8.0)[0])
    other = {"split": "drawn-somehow"}
    unknown = separations(*several("best", BEST, **other), *several("near", NEAR, **other))["near"]
    assert (unknown.p, unknown.separable) == (None, None)
    assert unknown.reason == "the sizes of the split's parts are not known"


def test_initialisations_of_one_split_are_no_more_splits() -> None:
    def rows(backbone: str, accuracies: list[float]) -> list[dict[str, object]]:
        return [
            run(f"{backbone}-{split}-{init}", backbone=backbone, split_seed=split, init_seed=init,
                test_accuracy=accuracies[split] + 0.001 * init)
            for split in range(3) for init in range(4)
        ]  # fmt: skip

    found = separations(*rows("best", [0.90, 0.88, 0.91]), *rows("other", [0.89, 0.85, 0.90]))["other"]
    assert found.n == 3
    expected = significance.corrected_t(np.array([[-0.01, -0.03, -0.01]]), 1 / 3)[0]
    assert found.p == pytest.approx(expected)


def test_rows_without_common_seeds_are_not_tested() -> None:
    others = [row | {"id": f"o{i}", "split_seed": 10 + i} for i, row in enumerate(several("other", NEAR))]
    found = separations(*several("best", BEST), *others)["other"]
    assert (found.p, found.reason) == (None, "fewer than two split seeds in common")


def test_partial_and_failed_rows_are_not_tested_and_do_not_count() -> None:
    gone = {"status": "failed", "test_accuracy": None}
    found = separations(
        *several("best", BEST), *several("near", NEAR), *several("half", NEAR[:2]),
        run("h", backbone="half", split_seed=9, **gone), run("g", backbone="none", **gone),
    )  # fmt: skip
    assert (found["half"].reason, found["none"].reason) == ("the row is partial", "the row is failed")
    assert found["near"].p == found["near"].p_holm


def test_a_table_without_a_complete_row() -> None:
    (found,) = separations(run("g", status="failed", test_accuracy=None)).values()
    assert (found.best, found.reason) == (False, "no row is complete")


def test_on_a_fixed_split_seeds_are_bootstrapped_each_for_itself() -> None:
    found = separations(*fixed("best", BEST), *fixed("near", NEAR), *fixed("far", FAR))
    expected = significance.seed_bootstrap([np.array(NEAR), np.array(FAR)], np.array(BEST))
    assert [found[name].p for name in ("near", "far")] == pytest.approx(expected.tolist())
    assert (found["near"].separable, found["far"].separable) == (False, True)
    assert found["near"].reason == "test nodes were not resampled: what was predicted is not at hand"
    assert found["near"].method == "bootstrap of seeds"


def test_on_a_fixed_split_a_difference_must_stand_out_against_test_nodes_too() -> None:
    random = np.random.default_rng(0)
    few = {
        f"{name}-{seed}": random.random(40) < share
        for name, share in (("best", 0.9), ("far", 0.8))
        for seed in range(5)
    }
    many = {id_: np.tile(hit, 100) for id_, hit in few.items()}
    runs = [*fixed("best", BEST), *fixed("far", FAR)]
    uncertain, certain = separations(*runs, hits=few)["far"], separations(*runs, hits=many)["far"]
    assert uncertain.method == "bootstrap of seeds and paired bootstrap of test nodes"
    assert uncertain.p is not None
    assert certain.p is not None
    assert certain.p < 0.01 < uncertain.p
    shares = [np.mean([few[f"{name}-{seed}"] for seed in range(5)], axis=0) for name in ("far", "best")]
    assert uncertain.p == pytest.approx(significance.node_bootstrap(*shares))


def test_one_run_each_is_mcnemars_test_or_none() -> None:
    runs = [*fixed("best", [0.9]), *fixed("other", [0.8])]
    assert separations(*runs)["other"].reason.startswith("a single run, and test nodes were not resampled")
    random = np.random.default_rng(1)
    hits = {"best-0": random.random(300) < 0.9, "other-0": random.random(300) < 0.8}
    found = separations(*runs, hits=hits)["other"]
    assert found.method == "McNemar's test"
    assert found.p == significance.mcnemar(hits["other-0"], hits["best-0"])
    assert found.reason == "a single run: nothing is said of other seeds"


def test_of_equal_rows_one_is_the_best_and_the_other_cannot_be_separated() -> None:
    found = separations(*several("a", BEST), *several("b", BEST))
    assert sum(row.best for row in found.values()) == 1
    (other,) = (row for row in found.values() if not row.best)
    assert (other.p, other.separable) == (1.0, False)


# --- mean ranks ---


def methods(dataset: str, **accuracies: float) -> list[dict[str, object]]:
    return [
        row | {"id": f"{dataset}-{row['id']}"}
        for name, accuracy in accuracies.items()
        for row in several(name, [accuracy, accuracy + 0.01, accuracy - 0.01], dataset=dataset)
    ]


def test_mean_ranks_by_hand() -> None:
    found = made(*methods("x", a=0.9, b=0.8, c=0.7), *methods("y", a=0.9, b=0.8, c=0.85)).mean_ranks
    assert [(row.backbone, row.rank, row.tables) for row in found] == [("a", 1.0, 2), ("b", 2.5, 2), ("c", 2.5, 2)]
    assert found[0].accuracy == pytest.approx(0.9)
    # The splits are shared and the order never changes within a dataset: only the draw of datasets varies.
    assert [(row.low, row.high) for row in found] == [(1.0, 1.0), (2.0, 3.0), (2.0, 3.0)]


def test_a_method_that_misses_a_dataset_has_no_mean_rank_and_shifts_no_one() -> None:
    gone = {"status": "failed", "test_accuracy": None}
    found = made(
        *methods("x", best=0.99, a=0.9, b=0.8), *methods("y", a=0.9, b=0.8),
        run("half-0", dataset="y", backbone="best", **gone),
    ).mean_ranks  # fmt: skip
    assert [(row.backbone, row.rank) for row in found] == [("a", 1.0), ("b", 2.0)]


def test_what_is_only_planned_is_no_row_of_the_mean_ranks() -> None:
    planned = {"status": "missing", "test_accuracy": None, "val_accuracy": None}
    found = made(
        *methods("x", a=0.9, b=0.8), *methods("y", a=0.9, b=0.8), run("p", dataset="y", backbone="c", **planned),
        run("q", dataset="z", backbone="a", **planned),
    )  # fmt: skip
    assert [(row.backbone, row.rank, row.tables) for row in found.mean_ranks] == [("a", 1.0, 2), ("b", 2.0, 2)]
    begun = made(*methods("x", a=0.9, b=0.8), *methods("y", a=0.9, b=0.8), run("r", dataset="y", backbone="b",
                 split_seed=9, init_seed=9, **planned))  # fmt: skip
    assert begun.mean_ranks == [], "b is not complete, and one method alone has no rank"


def test_intervals_of_mean_ranks_do_not_depend_on_which_split_is_easier() -> None:
    def intervals(public: float, random: float) -> list[tuple[str, float, float, float]]:
        generator = np.random.default_rng(0)
        runs = [
            row | {"id": f"{split} {row['id']}", "split": split}
            for split, level in (("public", public), ("random-60-20-20", random))
            for name in "abcdefghijklmnop"
            for row in several(name, (level + generator.normal(0, 0.01, 6).round(4)).tolist())
        ]
        return [(row.backbone, row.rank, row.low, row.high) for row in made(*runs).mean_ranks]

    assert intervals(0.7, 0.8) == intervals(0.8, 0.7)


def test_splits_are_averaged_whether_or_not_their_seeds_were_recorded() -> None:
    def by_split(*seeds: float) -> dict[float, float]:
        accuracies = np.array([0.5, 0.6, 0.7][: len(seeds)])
        ids = tuple("abc"[: len(seeds)])
        return samples.Sample(ids, np.array(seeds), np.zeros(len(seeds)), accuracies).by_split()

    assert list(by_split(2.0, 0.0, 1.0).items()) == [(0.0, 0.6), (1.0, 0.7), (2.0, 0.5)]
    assert by_split(1.0, 1.0, 0.0) == pytest.approx({0.0: 0.7, 1.0: 0.55})
    unrecorded = by_split(2.0, math.nan, 1.0)
    assert list(unrecorded.values()) == pytest.approx([0.7, 0.5, 0.6]), "sorted, what was not recorded last"


def test_no_mean_ranks_over_one_dataset_or_of_one_method() -> None:
    assert made(*methods("x", a=0.9, b=0.8)).mean_ranks == []
    assert made(*methods("x", a=0.9), *methods("y", a=0.9)).mean_ranks == []


def test_the_critical_difference_that_the_note_names() -> None:
    """Nemenyi's, for ten methods on five datasets: q x sqrt(k (k + 1) / (6 N))."""
    q = stats.studentized_range.isf(0.05, 10, np.inf) / math.sqrt(2)
    assert q * math.sqrt(10 * 11 / (6 * 5)) == pytest.approx(6.06, abs=0.01)
    assert "with five datasets, ten methods must lie six mean ranks apart" in mean_ranks.NOTE


# --- costs ---


def costs(*runs: dict[str, object]) -> dict[str, object]:
    found = made(*runs).costs
    return {key[KEY.index("backbone")]: cost for key, cost in found.items()}


def test_phases_once_and_per_run_energy_and_money() -> None:
    embedding = {"embedding_id": "e", "embed_seconds": 60.0, "embed_joules": 900.0, "embed_dollars": 0.25}
    answers = {"answers_id": "a", "answer_seconds": 30.0, "answer_dollars": 2.0}
    (cost,) = costs(*several("gcn", [0.9, 0.8], energy_joules=50.0, hardware="cpu", **embedding, **answers)).values()
    assert (cost.embed_seconds, cost.answer_seconds, cost.tune_seconds) == (60.0, 30.0, None)
    assert (cost.train_seconds, cost.infer_seconds, cost.run_seconds) == (2.0, 0.5, 2.5)
    assert cost.total_seconds == 60 + 30 + 2 * 2.5
    assert cost.joules == 900 + 2 * 50
    assert cost.dollars == 2.25


def test_what_was_not_measured_is_none_never_zero() -> None:
    (cost,) = costs(*several("gcn", [0.9, 0.8], embedding_id="e", embed_seconds=1.0, energy_joules=5.0)).values()
    assert cost.joules is None, "the embedding's energy was not measured"
    assert cost.dollars is None
    (cost,) = costs(run("a", energy_joules=5.0), run("b", split_seed=1)).values()
    assert cost.joules is None, "one run's was not"
    (cost,) = costs(run("a", energy_joules=5.0)).values()
    assert cost.joules == 5.0, "no embedding, so nothing is missing"


def test_times_are_ranked_in_one_hardware_class_only() -> None:
    mine = {"hardware": "CPU, 1 thread"}
    found = costs(
        run("a", backbone="a", train_seconds=5.0, test_accuracy=0.8, **mine),
        run("b", backbone="b", train_seconds=1.0, test_accuracy=0.7, **mine),
        run("c", backbone="c", train_seconds=9.0, test_accuracy=0.75, **mine),
        run("gpu", backbone="gpu", train_seconds=0.1, test_accuracy=0.95, hardware="GPU"),
        *several("both", [0.6], train_seconds=0.1, hardware="GPU"),
        run("both-1", backbone="both", split_seed=1, **mine),
    )  # fmt: skip
    assert {name: cost.time_rank for name, cost in found.items()} == {"a": 2, "b": 1, "c": 3, "gpu": None, "both": None}
    assert {name for name, cost in found.items() if cost.compared} == {"a", "b", "c"}
    assert {name for name, cost in found.items() if cost.on_time_front} == {"a", "b"}


def test_the_front_of_memory_is_over_all_rows() -> None:
    found = costs(
        run("a", backbone="a", peak_memory_mb=100, test_accuracy=0.8),
        run("b", backbone="b", peak_memory_mb=100, test_accuracy=0.8),
        run("c", backbone="c", peak_memory_mb=50, test_accuracy=0.7),
        run("d", backbone="d", peak_memory_mb=120, test_accuracy=0.75),
        run("e", backbone="e", test_accuracy=0.99),
    )
    assert {name for name, cost in found.items() if cost.on_memory_front} == {"a", "b", "c"}
    assert all(cost.time_rank is None for cost in found.values()), "no hardware was recorded"


def test_costs_are_those_of_the_board() -> None:
    found = made(boards.example())
    rows = {samples.key_of(row): row for row in by_board(found)}
    assert rows.keys() == found.costs.keys() == found.separations.keys()
    for key, cost in found.costs.items():
        assert (cost.total_seconds, cost.peak_memory_mb) == (rows[key]["total_seconds"], rows[key]["peak_memory_mb"])


def by_board(found: report.Report) -> list[dict[str, object]]:
    from stage_bench.leaderboard.rows import records

    return [row for row in records(found.board) if row["origin"] == "reproduced"]


def test_ranks_still_count_what_cannot_be_separated() -> None:
    """A mark is no tie: ranks stay those of the means."""
    ranks = {name: row["rank"] for name, row in by_backbone(*several("best", BEST), *several("near", NEAR)).items()}
    assert ranks == {"best": 1, "near": 2}
