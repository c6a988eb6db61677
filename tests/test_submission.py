"""`check report`: what may be published, and what is said of what may not."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import boards
from stage_bench.checks import Line
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import published, rows, writing
from stage_bench.leaderboard.site import protocol, submission

ANEW = "`stage-bench report` on this folder, with --reports naming the one that it is in, makes it anew"

COMMON = {
    **{"embedding_id": "e1", "hardware": "2 CPU cores", "version": "0.1.0", "commit": "abc1234"},
    **{"dataset_fingerprint": "d1", "train_nodes": 60, "val_nodes": 20, "test_nodes": 20},
}


def runs(backbone: str, accuracies: list[float], **values: object) -> list[dict[str, object]]:
    """Runs that nothing can be said against."""
    found = boards.several(backbone, accuracies, **{**COMMON, **values})
    return [{**run, "split_fingerprint": f"s{run['split_seed']}"} for run in found]


def sound() -> list[dict[str, object]]:
    return [*runs("gcn", [0.88, 0.90, 0.87, 0.89]), *runs("mlp", [0.82, 0.83, 0.81, 0.84])]


def no_numbers(names: object) -> tuple[object, object]:
    return published.none(), published.no_times()


@pytest.fixture(scope="module")
def sound_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    writing.write(folder, boards.made(*sound()))
    return folder


@pytest.fixture
def report(tmp_path: Path, sound_report: Path) -> Callable[..., Path]:
    """Writes the report of some runs; by default sound ones."""

    def make(*given: dict[str, object], **facts: object) -> Path:
        folder = tmp_path / "reports" / "golden"
        if given or facts:
            writing.write(folder, boards.made(*(given or sound()), **facts))
        else:
            shutil.copytree(sound_report, folder)
        return folder

    return make


def failures(folder: Path, load: object = no_numbers) -> list[str]:
    found = submission.examine(folder, load)  # type: ignore[arg-type]
    assert found.passed == all(line.passed for line in found.lines)
    return [line.what for line in found.lines if not line.passed]


def of(*given: dict[str, object]) -> list[Line]:
    """The lines on some runs."""
    return list(protocol.check(rows.check_runs(boards.frame(*given))))


def failed(*given: dict[str, object]) -> str:
    """The one line that failed."""
    (found,) = [line.what for line in of(*given) if not line.passed]
    return found


def test_a_sound_report_passes(report):
    found = submission.examine(report(), no_numbers)
    assert found.passed
    assert found.report is not None
    said = "\n".join(line.what for line in found.lines)
    for words in (
        "runs: 8 runs, all finished",
        "seeds: 4 a row, in 2 complete rows (at least 4 are needed)",
        "splits: cora random-60-20-20 (60 / 20 / 20 nodes)",
        "one for each of 1 dataset and 4 splits",
        "stage-bench 0.1.0 at abc1234",
        "hardware: 2 CPU cores",
        "embeddings: the runs of 1 language model name theirs",
        "leaderboard.csv is what runs.csv gives",
        "separation.csv is what runs.csv gives",
        "index.html shows the accuracies that runs.csv gives",
    ):
        assert words in said


def test_with_published_numbers(report, tmp_path: Path):
    numbers = boards.write_published(tmp_path / "published")

    def load(names: object) -> tuple[object, object]:
        assert list(names) == ["numbers"]
        return published.load(["numbers"], numbers, {"Salesforce/SFR": "sfr"}), published.times(numbers)

    folder = report(compare=["numbers"])
    writing.write(folder, boards.made(*sound(), folder=numbers, compare=["numbers"]))
    assert failures(folder, load) == []
    board = folder / "leaderboard.csv"
    board.write_text(board.read_text().replace("0.8824", "0.8024"))
    (problem,) = failures(folder, load)
    assert problem.startswith("leaderboard.csv: row ")
    assert "of STAGE (arXiv 2407.12860)" in problem
    assert "test_accuracy is 0.8024, and runs.csv gives 0.8824" in problem


def test_a_table_that_nobody_has(report):
    def load(names: object) -> None:
        raise StageBenchError("unknown table 'nope'")

    assert failures(report(compare=["nope"]), load) == ["report.json: unknown table 'nope'"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "0.8850",
            "0.9850",
            "row 1, gcn, zero-shot · minilm, default on cora (random-60-20-20): test_accuracy is 0.9850",
        ),
        (
            "0.8100",
            "0.8200",
            "row 1, gcn, zero-shot · minilm, default on cora (random-60-20-20): val_accuracy is 0.8200",
        ),
        ("dataset,", "set,", "its columns are not those of this stage-bench"),
        ("\n", "\r\n", "the cells are those of runs.csv, the bytes are not"),
        ("reproduced,4", "reproduced,10", "n_runs is 10, and runs.csv gives 4"),
    ],
)
def test_an_edited_board_is_named(report, old: str, new: str, problem: str):
    folder = report()
    board = folder / "leaderboard.csv"
    text = board.read_text()
    assert old in text
    board.write_bytes(text.replace(old, new, 1 if old != "\n" else -1).encode())
    (found,) = failures(folder)
    assert found.startswith("leaderboard.csv: ")
    assert problem in found
    assert found.endswith(ANEW)


def test_a_row_that_is_dropped_is_named(report):
    folder = report(*sound(), boards.run("bad", **COMMON, backbone="gat", status="failed", test_accuracy=None))
    board = folder / "leaderboard.csv"
    lines = board.read_text().splitlines(keepends=True)
    assert ",gat," in lines[-1]
    board.write_text("".join(lines[:-1]))
    problems = failures(folder)
    assert any("row 3, gat, zero-shot · minilm, default on cora" in problem for problem in problems)
    board.write_text("".join([lines[0], *lines[2:]]))
    assert any("row 1 should be gcn, zero-shot" in problem for problem in failures(folder))
    board.write_text("".join([*lines, lines[-1]]))
    assert any("row 4 is one that runs.csv does not give" in problem for problem in failures(folder))
    board.write_text("")
    assert any("its columns are not those" in problem for problem in failures(folder))


@pytest.mark.parametrize("name", ["leaderboard.md", "index.html"])
def test_an_edited_number_for_readers_is_named(report, name: str):
    folder = report()
    text = (folder / name).read_text(encoding="utf-8")
    (folder / name).write_text(text.replace("0.8850 ± 0.0129", "0.9850 ± 0.0129"), encoding="utf-8")
    (problem,) = failures(folder)
    assert problem.startswith(f"{name} does not show 0.8850 ± 0.0129, which runs.csv gives")


def test_edited_tests_are_named(report):
    folder = report()
    path = folder / "separation.csv"
    path.write_text(path.read_text().replace("yes", "no"))
    (problem,) = failures(folder)
    assert problem.startswith("separation.csv: row ")
    assert "best is no, and runs.csv gives yes" in problem


@pytest.mark.parametrize(
    "name", ["index.html", "leaderboard.csv", "leaderboard.md", "leaderboard.tex", "separation.csv", "report.json"]
)
def test_a_missing_file_is_named(report, name: str):
    folder = report()
    (folder / name).unlink()
    assert f"files: {name} is not there; {ANEW}" in failures(folder)


def test_without_runs_there_is_nothing_to_look_at(report, tmp_path: Path):
    folder = report()
    (folder / "runs.csv").unlink()
    found = submission.examine(folder, no_numbers)
    assert not found.passed
    assert found.report is None
    with pytest.raises(StageBenchError, match="there is no such folder"):
        submission.examine(tmp_path / "nope", no_numbers)


def test_unreadable_files(report, tmp_path: Path):
    folder = report()
    good = (folder / "runs.csv").read_text()
    for content, problem in (
        ("id\n", "runs.csv: missing columns dataset, split"),
        (good.replace(",ok,", ",fine,", 1), "status is 'fine', not one of ok, failed, missing"),
        ("", "runs.csv:1: not a readable CSV file: there is no header"),
    ):
        (folder / "runs.csv").write_text(content)
        (found,) = failures(folder)
        assert problem in found
        assert str(tmp_path) not in found, "where the folder is, is nobody else's business"
    (folder / "runs.csv").write_text(good)
    for content, problem in (("{", "report.json: cannot be read"), ('{"schema_version": 99}', "update stage-bench")):
        (folder / "report.json").write_text(content)
        (found,) = failures(folder)
        assert problem in found
        assert str(tmp_path) not in found


def test_links_are_not_followed(report, tmp_path: Path):
    folder = report()
    secret = tmp_path / "secret"
    for name in ("leaderboard.md", "runs.csv", "report.json"):
        (folder / name).rename(secret)
        (folder / name).symlink_to(secret)
        problems = failures(folder)
        assert f"files: {name} is a symbolic link, which is not followed; put the file itself there" in problems
        (folder / name).unlink()
        secret.rename(folder / name)
    assert failures(folder) == []


def test_a_selection_is_no_whole_report(report):
    (problem,) = failures(report(selection="backbone gcn"))
    assert problem.startswith("report.json: a selection of a larger report (backbone gcn); publish the whole report")


def test_statuses():
    bad = boards.run("bad", **COMMON, split_fingerprint="s0", backbone="sage", status="failed", test_accuracy=None)
    lines = of(*sound(), *({**bad, "id": f"bad-{seed}", "split_seed": seed, "init_seed": seed} for seed in range(4)))
    assert all(line.passed for line in lines), "failed runs that are shown may be there"
    assert lines[0].what.startswith(
        "runs: 4 of 12 runs failed, and are shown: sage, zero-shot · minilm, default on cora"
    )
    missing = boards.run("gone", backbone="mlp", split_seed=4, init_seed=4, status="missing", test_accuracy=None)
    (line,) = [line for line in of(*sound(), missing) if "not there yet" in line.what]
    assert not line.passed
    assert line.what.startswith("runs: 1 of 9 runs is not there yet, the first of mlp, zero-shot · minilm, default")
    assert "stage-bench run" in line.what
    assert [line.passed for line in protocol.check(rows.check_runs(boards.frame()))] == [False]


def test_seeds():
    three = failed(*runs("gcn", [0.88, 0.90, 0.87]), *runs("mlp", [0.82, 0.83, 0.81]))
    assert three.startswith("seeds: 2 of 2 complete rows have fewer than 4 (as few as 3): gcn, ")
    assert "raise `seeds:`" in three
    alone = failed(*sound(), *runs("sage", [0.88, 0.90, 0.87, 0.89, 0.9]))
    assert alone.startswith("seeds: gcn, zero-shot · minilm, default on cora (random-60-20-20) has no run of seed 4")
    fixed = [{**run, "split": "public", "split_seed": None, "split_fingerprint": "p"} for run in sound()]
    assert all(line.passed for line in of(*fixed))
    again = {**fixed[0], "id": "again"}
    twice = [line.what for line in of(*fixed, again) if not line.passed]
    assert twice == [
        "seeds: gcn, zero-shot · minilm, default on cora (public) has two runs with the same seeds; "
        "two configurations need two names"
    ]
    unknown = failed(*sound()[:-1], {**sound()[-1], "init_seed": None})
    assert unknown == "seeds: run mlp-3 has no init_seed, so that it may stand here twice"
    nothing = [line.what for line in of(*({**run, "status": "failed"} for run in sound())) if not line.passed]
    assert any("no row is complete" in what for what in nothing)
    deterministic = [line.what for line in of(*sound(), *runs("none", [0.7], features="tape")) if not line.passed]
    assert "1 of 3 complete rows has fewer than 4 (as few as 1): none, tape" in deterministic[0]


def test_splits():
    odd = [{**run, "split": "mine"} for run in sound()]
    assert all(line.passed for line in of(*odd)), "sizes are enough"
    unsized = failed(*({**run, "test_nodes": None} for run in odd))
    assert unsized.startswith("splits: cora: split 'mine' has neither sizes nor a description; report the suite again")
    known = [{**run, "test_nodes": None} for run in sound()]
    assert all(line.passed for line in of(*known)), "words are enough"
    assert failed(*({**run, "split": ""} for run in sound())).startswith("splits: cora: the split has no name")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"dataset_fingerprint": "d2"}, "fingerprints: run mlp-3 is on another cora than the others (d2, not d1)"),
        ({"split_fingerprint": "other"}, "fingerprints: run mlp-3 has another split than the others of cora ("),
        ({"split_fingerprint": ""}, "fingerprints: run mlp-3 names no dataset_fingerprint and split_fingerprint"),
        ({"commit": "abc1234-dirty"}, "provenance: 1 run was made with code that no commit has (abc1234-dirty), the f"),
        ({"commit": ""}, "provenance: 1 run names no commit, the first is mlp-3; run them again from a checkout"),
        ({"version": ""}, "provenance: 1 run names no version, the first is mlp-3"),
        ({"hardware": ""}, "hardware: 1 run does not say on what, the first is mlp-3"),
        ({"embedding_id": ""}, "embeddings: run mlp-3 names minilm and no embedding_id"),
    ],
)
def test_one_run_that_is_wrong(changed: dict[str, object], problem: str):
    found = failed(*sound()[:-1], {**sound()[-1], **changed})
    assert found.startswith(problem)
    assert re.search(r"run .*again|run all of them on one", found), "it says what to do"


def test_other_splits_cannot_be_a_board(report):
    folder = report()
    wrong = [*sound()[:-1], {**sound()[-1], "split_fingerprint": "other"}]
    (folder / "runs.csv").write_text(rows.runs_csv(boards.frame(*wrong)))
    found = submission.examine(folder, no_numbers)
    assert found.report is None, "not even as a draft"
    assert not found.passed
    assert any("were scored on different splits" in line.what for line in found.lines)


def test_what_is_said_is_one_printable_line(report):
    hostile = [
        {**run, "backbone": "\x1b[31m<script>\n", "commit": "x-dirty"} for run in runs("a", [0.5, 0.6, 0.7, 0.8])
    ]
    lines = submission.examine(report(*hostile), no_numbers).lines
    assert all(line.what.isprintable() for line in lines)


def test_the_command(stage_bench, report):
    folder = report()
    code, out, err = stage_bench("check", "report", folder)
    assert (code, err) == (0, "")
    assert {line[:6] for line in out.splitlines()} == {"ok    "}
    facts = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**facts, "selection": "backbone gcn"}))
    code, out, err = stage_bench("check", "report", folder)
    assert (code, err) == (1, "")
    assert [line[:6] for line in out.splitlines()].count("FAIL  ") == 1
    code, out, err = stage_bench("check", "report", folder / "nope")
    assert (code, out) == (2, "")
    assert "there is no such folder" in err
