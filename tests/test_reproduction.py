"""Published numbers beside ours: which row answers to which, and what the two together say."""

from pathlib import Path

import pytest
from scipy import stats

import boards
from boards import frame, made, several
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import published, report
from stage_bench.leaderboard.markdown import markdown
from stage_bench.leaderboard.reproduction import Reproduction

HEAD = boards.PUBLISHED.splitlines()[0]
OURS = [0.88, 0.89, 0.87, 0.88]


def reproductions(tmp_path: Path, line: str, *runs: dict[str, object]) -> list[Reproduction]:
    """line: a published row."""
    folder = tmp_path / "published"
    folder.mkdir(parents=True)
    (folder / "numbers.csv").write_text(f"{HEAD}\n{line}\n", encoding="utf-8")
    numbers = published.load(["numbers"], folder, {"Hub/model": "model"})
    return list(report.make(report.Facts(suite="x"), frame(*runs), numbers).reproductions)


def line(
    accuracy: str, std: str = "0.0100", kind: str = "std ddof=1", n: str = "4", features: str = "zero-shot",
    lm: str = "Hub/model", backbone: str = "GCN", note: str = "",
) -> str:  # fmt: skip
    return (
        f"P (arXiv 1),v1,cora,{features},{lm},{backbone},{n},{accuracy},{std},{kind},random-60-20-20,primary,src,{note}"
    )


@pytest.mark.parametrize(("accuracy", "verdict"), [("0.8850", "agrees"), ("0.8000", "higher"), ("0.9700", "lower")])
def test_verdicts(tmp_path: Path, accuracy: str, verdict: str) -> None:
    (pair,) = reproductions(tmp_path, line(accuracy), *several("gcn", OURS, llm="model"))
    assert pair.verdict == verdict
    assert pair.difference == pytest.approx(0.88 - float(accuracy))


def test_the_test_is_welchs(tmp_path: Path) -> None:
    (pair,) = reproductions(tmp_path, line("0.8950"), *several("gcn", OURS, llm="model"))
    std = 0.00816496580927726
    expected = stats.ttest_ind_from_stats(0.88, std, 4, 0.895, 0.01, 4, equal_var=False).pvalue
    assert pair.reason == f"p {expected:.3f}"


def test_what_was_assumed_is_said(tmp_path: Path) -> None:
    (pair,) = reproductions(tmp_path, line("0.88", kind="unstated"), *several("gcn", OURS, llm="model"))
    assert pair.reason == "p 1.000; its ± taken for a standard deviation (ddof 1)"


def test_a_deviation_with_ddof_0_is_made_comparable(tmp_path: Path) -> None:
    runs = several("gcn", OURS, llm="model")
    (plain,) = reproductions(tmp_path / "a", line("0.90", std="0.0100", kind="std ddof=0"), *runs)
    (larger,) = reproductions(tmp_path / "b", line("0.90", std=f"{0.01 * (4 / 3) ** 0.5:.6f}"), *runs)
    assert plain.reason == larger.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lm": "Hub/other"}, "another model: model here"),
        ({"kind": "half range of best 4 by test"}, "its ± is half range of best 4 by test"),
        ({"std": "", "kind": ""}, "published without a ±"),
        ({"n": "1", "std": "", "kind": ""}, "one published run: no deviation"),
        ({"n": ""}, "published without the number of runs"),
    ],
)
def test_cannot_tell(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    (pair,) = reproductions(tmp_path, line("0.9", **changes), *several("gcn", OURS, llm="model"))
    assert (pair.verdict, pair.reason) == ("cannot tell", reason)


def test_cannot_tell_from_one_run_of_ours_or_an_incomplete_row(tmp_path: Path) -> None:
    (pair,) = reproductions(tmp_path, line("0.9"), *several("gcn", [0.88], llm="model"))
    assert (pair.verdict, pair.reason) == ("cannot tell", "one run here: no deviation")
    failed = boards.run("f", llm="model", split_seed=9, status="failed", test_accuracy=None)
    (pair,) = reproductions(tmp_path / "again", line("0.9"), *several("gcn", OURS, llm="model"), failed)
    assert (pair.verdict, pair.reason) == ("cannot tell", "our row is partial")


def test_counterparts_are_not_chosen_by_accuracy(tmp_path: Path) -> None:
    runs = [
        *several("gcn", [0.99, 0.99, 0.99, 0.98], llm="other"),
        *(row | {"id": f"n{row['id']}"} for row in several("gcn", OURS, llm="model", instruction="none")),
        *(row | {"id": f"g{row['id']}"} for row in several("gcn", [0.95] * 4, llm="model", instruction="graph-aware")),
    ]
    (pair,) = reproductions(tmp_path, line("0.9"), *runs)
    assert (pair.ours["llm"], pair.ours["instruction"]) == ("model", "none")


def test_names_that_papers_have(tmp_path: Path) -> None:
    ensemble = several("stage", OURS, llm="model", kind="ensemble")
    (pair,) = reproductions(tmp_path, line("0.8824", backbone="ensemble"), *ensemble)
    assert (pair.ours["backbone"], pair.verdict) == ("stage", "agrees")


def test_tapes_features_are_compared_with_those_that_were_released(tmp_path: Path) -> None:
    ours = several("gcn", OURS, features="tape-released", llm="", instruction="")
    (pair,) = reproductions(
        tmp_path,
        line(
            "0.9119", std="0.0158", kind="unstated", features="tape", lm="deberta + gpt", note="Value is suspect: split"
        ),
        *ours,
    )
    assert pair.suspect
    assert pair.verdict in ("agrees", "lower")
    assert "ours has TA and P; E was not released" in pair.reason


def test_features_of_one_name_that_are_not_the_same(tmp_path: Path) -> None:
    ours = several("gcn", OURS, features="shallow", llm="", instruction="")
    (pair,) = reproductions(tmp_path, line("0.8911", features="shallow", lm=""), *ours)
    assert pair.verdict == "cannot tell"


def test_nothing_answers_to_another_backbone_or_split(tmp_path: Path) -> None:
    assert reproductions(tmp_path, line("0.9", backbone="SAGE"), *several("gcn", OURS, llm="model")) == []


def test_the_table_marks_and_explains_suspect_numbers(tmp_path: Path) -> None:
    folder = boards.write_published(tmp_path / "published")
    runs = several("sage", OURS, features="tape", llm="", instruction="")
    text = markdown(made(*runs, folder=folder))
    row = next(line for line in text.splitlines() if line.startswith("| 0.9290 † suspect"))
    assert "−0.0490" in row
    assert "Published value is suspect: scored on another split." in text


def test_the_products_subset_never_stands_beside_the_full_graph(tmp_path: Path) -> None:
    """The real numbers: none of the subset's is on a board of the full graph, nor the other way round."""
    folder = Path(__file__).parent.parent / "baselines" / "published"
    numbers = published.load(published.names(folder), folder)
    products = numbers[numbers["dataset"].str.startswith("ogbn-products")]
    assert set(zip(products["dataset"], products["split"], strict=True)) == {("ogbn-products-subset", "subset-masks")}
    full = several("gcn", OURS, dataset="ogbn-products", split="official")
    result = report.make(report.Facts(suite="x"), frame(*full), numbers)
    assert set(result.board["origin"]) == {"reproduced"}
    (tmp_path / "wrong.csv").write_text(f"{HEAD}\nP,v,ogbn-products,shallow,,GCN,4,0.7,,,subset-masks,primary,s,\n")
    with pytest.raises(StageBenchError, match=r"wrong\.csv:2: TAPE's subset of 54,025 nodes is the dataset"):
        published.load(["wrong"], tmp_path)


def test_other_data_of_a_published_name_has_no_published_numbers(tmp_path: Path) -> None:
    folder = boards.write_published(tmp_path / "published")
    runs = several("sage", OURS, features="tape")
    assert "published" in set(made(*runs, folder=folder).board["origin"])
    assert set(made(*runs, folder=folder, other_data=["cora"]).board["origin"]) == {"reproduced"}
