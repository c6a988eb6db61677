"""From a suite that was run to its report, and from the report's folder to the same report."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import details, hits, rereading, rows

Command = Callable[..., tuple[int, str, str]]
SUITE = {"features": ["shallow"], "backbones": ["mlp", "label-propagation"], "training": {"epochs": 3}}


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """A dataset whose split no seed draws, and a suite on it that was run."""
    folder = tiny.write_folder(tmp_path / "data")
    parts = {"train": list(range(60)), "val": list(range(60, 90)), "test": list(range(90, 120))}
    (folder / "split.json").write_text(json.dumps(parts))
    with (folder / "dataset.yaml").open("a") as file:
        file.write("splits: {protocol: file}\n")
    assert tiny.carry_out(tmp_path, {**SUITE, "seeds": 2}) == []
    return tmp_path


def report(place: Path, command: Command, *more: str | Path) -> Path:
    code, _, err = command(
        "report", place / "suite.yaml", "--data", place, "--results", place / "results", "--reports", place / "reports",
        *more,
    )  # fmt: skip
    assert (code, err) == (0, "")
    return place / "reports" / "tiny"


def test_on_a_fixed_split_the_report_tests_node_by_node(fixed: Path, stage_bench: Command) -> None:
    folder = report(fixed, stage_bench)
    runs = rows.read_runs(folder / "runs.csv")
    assert set(runs["test_nodes"]) == {30}
    found = hits.read(folder)
    assert found.keys() == set(runs["id"])
    for id_, accuracy in zip(runs["id"], runs["test_accuracy"], strict=True):
        assert found[id_].mean() == pytest.approx(accuracy), "the same nodes and labels as the score"
    assert "bootstrap of seeds and paired bootstrap of test nodes" in (folder / "separation.csv").read_text()


def test_the_folder_makes_the_same_report_anew(fixed: Path, stage_bench: Command) -> None:
    folder = report(fixed, stage_bench)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, err = stage_bench("report", folder, "--reports", fixed / "reports")
    assert (code, err) == (0, "")
    for path, content in before.items():
        assert path.read_bytes() == content, path.name


def test_the_page_has_each_runs_configuration_environment_and_curve(fixed: Path, stage_bench: Command) -> None:
    folder = report(fixed, stage_bench)
    runs = rows.read_runs(folder / "runs.csv")
    known = details.read(folder)
    assert known.keys() == set(runs["id"])
    trained = next(id_ for id_, name in zip(runs["id"], runs["backbone"], strict=True) if name == "mlp")
    assert len(known[trained]["curve"]) == 3
    assert known[trained]["environment"]["versions"]["stage-bench"]
    assert known[trained]["configuration"]["training"]["epochs"] == 3
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert all(f"run-{id_}" in page or id_ in page for id_ in runs["id"])
    assert not re.search(r"""(src|href)=["']https?:""", page), "no network"


def test_a_selection_of_a_suite(fixed: Path, stage_bench: Command) -> None:
    report(fixed, stage_bench, "--only", "backbone=mlp")
    folder = fixed / "reports" / "tiny-mlp"
    assert set(rows.read_runs(folder / "runs.csv")["backbone"]) == {"mlp"}
    assert hits.read(folder).keys() >= set(rows.read_runs(folder / "runs.csv")["id"])


def test_compare_is_for_rows(fixed: Path, stage_bench: Command) -> None:
    code, _, err = stage_bench("report", fixed / "suite.yaml", "--compare", "tape")
    assert (code, err.strip()) == (
        2,
        "error: --compare is for a runs.csv; a suite says what to compare with under `compare:`",
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 1, "runs": {"a": 3}}', '{"runs": {}}'])
def test_bad_details(tmp_path: Path, content: str) -> None:
    (tmp_path / "details.json").write_text(content)
    with pytest.raises(StageBenchError, match=r"details\.json: "):
        details.read(tmp_path)
    (tmp_path / "details.json").write_text('{"schema_version": 99, "runs": {}}')
    with pytest.raises(StageBenchError, match="version 99 is newer"):
        details.read(tmp_path)


def test_a_folder_that_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(StageBenchError, match=r"no runs\.csv in this folder"):
        rereading.read(tmp_path)
