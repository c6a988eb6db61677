"""What disks, copies and editors do to files: each damage is found and named, redone or refused, and never reported."""

import io
import json
import pickle
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import tiny
from stage_bench import printing, seals
from stage_bench.answers import store as answers
from stage_bench.diffusion import documents
from stage_bench.errors import StageBenchError
from stage_bench.execution import reporting, running
from stage_bench.execution.fitting import Fitter
from stage_bench.leaderboard import facts_file, rereading, resulting
from stage_bench.leaderboard.rows import read_ids
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import examination
from stage_bench.runs.store import Store
from stage_bench.training import studies
from studying import without_time

Damage = Callable[[Path], object]

SUITE: dict[str, Any] = {
    "features": [{"name": "shallow", "dimension": 4}],
    "training": {"epochs": 5},
    "backbones": [
        "mlp",
        {"name": "gcn", "hidden": 8, "tuning": {"trials": 3, "space": {"lr": {"low": 0.001, "high": 0.1}}}},
        {"name": "sign", "hidden": 8},
    ],
    "ensembles": [{"name": "both", "members": ["mlp", "gcn(hidden=8,tuning=3)"]}],
    "seeds": [0, 1],
    "memory": "100GB",  # what is diffused goes to files
}


@pytest.fixture(scope="module", autouse=True)
def in_files():
    """The tiny graph is taken for one whose diffusion has no room."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fitter, "_is_too_large", lambda self, graph, matrix, recipe: self.memory is not None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, in_files) -> Path:
    """`data`, `suite.yaml`, `results` and `reports/tiny` of a suite that is done."""
    place = tmp_path_factory.mktemp("finished")
    tiny.write_folder(place / "data", 60)
    assert tiny.carry_out(place, SUITE) == []
    lines: list[str] = []
    made = reporting_of(place, lines)
    assert lines == []
    printing.show(made, {"done": 8, "failed": 0, "missing": 0}, place / "reports", True)
    assert {path.name for path in (place / "results").iterdir()} >= {"runs", "embeddings", "diffusion", "studies"}
    return place


@pytest.fixture(scope="module")
def before(finished) -> dict[str, Any]:
    """What a report says that nothing is wrong with."""
    said: list[str] = []
    found = board(finished, said)
    assert said == []
    assert len(found["runs"]) == 8
    assert len(found["studies"]) == 1
    return found


@pytest.fixture
def place(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "place"))


def planned(place: Path) -> tuple[Any, running.Folders]:
    folders = running.Folders(place, place / "results", place / "reports")
    return running.make_plan(place / "suite.yaml", folders), folders


def reporting_of(place: Path, said: list[str]) -> Any:
    """The report of what is there; `said` takes the lines that a person sees."""
    plan, folders = planned(place)
    store = Store(folders.results, said.append)
    records = reporting.records(plan, store)
    return reporting.make(plan, reporting.rows(plan, store, records), records, store)


def board(place: Path, said: list[str] | None = None) -> dict[str, Any]:
    """What a report says of accuracies and studies: every run by its id, every row, every study."""
    made = reporting_of(place, [] if said is None else said)
    runs = made.runs[["id", "status", "test_accuracy", "val_accuracy", "train_accuracy", "epochs", "parameters"]]
    rows = made.board[["backbone", "n_runs", "test_accuracy", "test_std", "rank", "status"]]
    told = [{**study, "history": without_time(study["history"])} for study in made.facts.studies]
    return {
        "runs": {row["id"]: row for row in json.loads(runs.to_json(orient="records", double_precision=15))},
        "rows": json.loads(rows.to_json(orient="records", double_precision=15)),
        "studies": told,
    }


def run(place: Path) -> tuple[list[str], list[str]]:
    """`stage-bench run`: all lines that a person sees, and the kinds of the jobs that were done."""
    plan, folders = planned(place)
    said: list[str] = []
    jobs = running.todo(plan, folders, said.append)
    console = Console(file=io.StringIO(), width=100_000)
    assert running.carry_out(plan, jobs, folders, "cpu", console, 1) == []
    return said + console.file.getvalue().splitlines(), [f"{job.kind} {job.id}" for job in jobs]  # type: ignore[attr-defined]


def problems(results: Path) -> list[str]:
    """What `doctor --results` says is wrong."""
    return [problem.line for problem in examination.examine(results).problems]


def one(place: Path, backbone: str = "mlp") -> Path:
    """The folder of a run."""
    found = [record for record in tiny.records(place) if record.backbone.startswith(backbone)]
    return place / "results" / "runs" / min(record.id for record in found)


def only(folder: Path) -> Path:
    (path,) = [path for path in folder.iterdir() if path.is_dir()]
    return path


# --- kinds of damage ---


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    """As some file systems leave what was not synced."""
    path.write_bytes(b"\0" * path.stat().st_size)


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(500))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-len(data) // 3] ^= 16
    path.write_bytes(data)


def nested(path: Path) -> None:
    path.write_text("[" * 100_000)


def absent(path: Path) -> None:
    path.unlink()


def another_digit(key: str) -> Damage:
    """The JSON stays JSON, and says another number."""

    def damage(path: Path) -> None:
        text = path.read_text()
        pattern = re.compile(rf'("{key}": \d*\.?\d*?)([1-8])')
        assert pattern.search(text), key
        path.write_text(pattern.sub(lambda found: found[1] + str(int(found[2]) + 1), text, count=1))

    return damage


def with_values(**values: Any) -> Damage:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def resealed(**values: Any) -> Damage:
    """Another program wrote it, and was careful."""
    return lambda path: path.write_text(json.dumps(seals.sealed({**json.loads(path.read_text()), **values})))


def without(key: str) -> Damage:
    def damage(path: Path) -> None:
        value = json.loads(path.read_text())
        del value[key]
        path.write_text(json.dumps(value))

    return damage


# --- runs ---


def of_another_run(path: Path) -> None:
    other = next(folder for folder in sorted(path.parents[1].iterdir()) if folder != path.parent)
    path.write_bytes((other / path.name).read_bytes())


def whole_folders_swapped(path: Path) -> None:
    one, other = path.parent, next(each for each in sorted(path.parents[1].iterdir()) if each != path.parent)
    one.rename(one.with_name("between"))
    other.rename(one)
    one.with_name("between").rename(other)


def pickled(path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    np.savez(path, probabilities=np.array([Evil()], dtype=object), allow_pickle=True)
    with path.open("ab") as file:
        pickle.dump(Evil(), file)


RECORD: dict[str, Damage] = {
    "cut": cut,
    "emptied": emptied,
    "zeroed": zeroed,
    "garbage": garbage,
    "flipped": flipped,
    "nested": nested,
    "another accuracy": another_digit("test_accuracy"),
    "another validation accuracy": another_digit("val_accuracy"),
    "other seconds": another_digit("train"),
    "not a number": lambda path: path.write_text(
        re.sub(r'"test_accuracy": [\d.]+', '"test_accuracy": NaN', path.read_text())
    ),
    "other curve": with_values(curve=[0.5]),
    "failed": with_values(status="failed"),
    "without its checksum": without(seals.KEY),
    "as of before": with_values(schema_version=2),
    "newer": resealed(schema_version=99),
    "wrong types": resealed(metrics=[1]),
    "of another run": of_another_run,
    "another id": resealed(id="0123456789abcdef"),
}
PREDICTIONS: dict[str, Damage] = {
    "cut": cut,
    "emptied": emptied,
    "zeroed": zeroed,
    "flipped": flipped,
    "garbage": garbage,
    "absent": absent,
    "of another run": of_another_run,
    "pickled": pickled,
}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *(pytest.param("run.json", damage, id=f"run.json {name}") for name, damage in RECORD.items()),
        *(
            pytest.param("predictions.npz", damage, id=f"predictions.npz {name}")
            for name, damage in PREDICTIONS.items()
        ),
    ],
)
def test_a_damaged_run(place, before, file, damage):
    folder = one(place)
    damage(folder / file)
    # a report says that it is missing, and why, and of the others what it said before
    said: list[str] = []
    after = board(place, said)["runs"]
    assert after.pop(folder.name)["status"] == "missing"
    assert after == {id_: row for id_, row in before["runs"].items() if id_ != folder.name}
    assert [line for line in said if str(folder / file) in line], said
    # doctor finds it, and a comparison refuses it
    assert [line for line in problems(place / "results") if line.startswith(f"{folder}: {file}: ")]
    with pytest.raises(StageBenchError, match=re.escape(str(folder / file))):
        resulting.read(place / "results")
    # and run does it again: it, and nothing else
    said, done = run(place)
    assert [line for line in said if str(folder / file) in line and "will be run again" in line]
    assert done == [f"train {folder.name}"]
    assert board(place) == before
    assert problems(place / "results") == []


def test_swapped_folders(place, before):
    folder = one(place)
    whole_folders_swapped(folder / "run.json")
    said: list[str] = []
    after = board(place, said)["runs"]
    assert [row["status"] for row in after.values()].count("missing") == 2
    assert len([line for line in said if "holds the record of" in line]) == 2
    _, done = run(place)
    assert len(done) == 2
    assert board(place) == before


def test_a_damaged_ensemble(place, before):
    folder = one(place, "both")
    another_digit("test_accuracy")(folder / "run.json")
    _, done = run(place)
    assert done == [f"ensemble {folder.name}"]
    assert board(place) == before


def test_no_flipped_bit_of_a_record_makes_another_record(place):
    path = one(place) / "run.json"
    store = Store(place / "results")
    data, record = path.read_bytes(), store.read(path.parent.name)
    source = random.Random(0)
    found = 0
    for _ in range(400):
        flip = bytearray(data)
        flip[source.randrange(len(data))] ^= 1 << source.randrange(8)
        path.write_bytes(flip)
        try:
            # a space that became another one, at most
            assert store.read(path.parent.name) == record
        except StageBenchError:
            found += 1
    assert found > 300


# --- embeddings and diffusions ---


def no_matrix(path: Path) -> None:
    np.save(path, np.array([{}]), allow_pickle=True)


def fewer_rows(path: Path) -> None:
    np.save(path, np.load(path)[:-1])


def other_numbers(path: Path) -> None:
    np.save(path, np.load(path) + 1)


MATRIX: dict[str, Damage] = {
    "cut": cut,
    "emptied": emptied,
    "zeroed": zeroed,
    "flipped": flipped,
    "absent": absent,
    "no matrix": no_matrix,
    "fewer rows": fewer_rows,
    "other numbers": other_numbers,
}
DOCUMENT: dict[str, Damage] = {
    "cut": cut,
    "emptied": emptied,
    "garbage": garbage,
    "other seconds": another_digit("seconds"),
}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *(pytest.param("vectors.npy", damage, id=f"vectors.npy {name}") for name, damage in MATRIX.items()),
        *(pytest.param("manifest.json", damage, id=f"manifest.json {name}") for name, damage in DOCUMENT.items()),
        pytest.param("manifest.json", resealed(id="0123456789abcdef"), id="manifest.json of another"),
        pytest.param("manifest.json", resealed(schema_version=99), id="manifest.json newer"),
        *(
            pytest.param("shards/00000.json", damage, id=f"a note {name}")
            for name, damage in (("cut", cut), ("another sha256", with_values(sha256="0" * 64)))
        ),
        pytest.param("shards/00000.json", another_digit("seconds"), id="a note with other seconds"),
    ],
)
def test_a_damaged_embedding(place, before, file, damage):
    folder = only(place / "results" / "embeddings")
    data, cost = (folder / "vectors.npy").read_bytes(), json.loads((folder / "manifest.json").read_text())["seconds"]
    damage(folder / file)
    assert [line for line in problems(place / "results") if line.startswith(str(folder))]
    # it is no part of a report, and run leaves alone what it does not need
    assert board(place) == before
    assert run(place)[1] == []
    # nothing is trained on it
    gone = one(place)
    shutil.rmtree(gone)
    said, done = run(place)
    assert [line for line in said if str(folder) in line and "made again" in line], said
    assert done[-1:] == [f"train {gone.name}"]
    assert {job.split()[0] for job in done} <= {"embed", "train"}
    assert board(place) == before
    assert (folder / "vectors.npy").read_bytes() == data
    assert problems(place / "results") == []
    if file == "manifest.json":
        assert json.loads((folder / file).read_text())["seconds"] == cost, "what it took is in its parts' notes"


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *(pytest.param("matrix.npy", damage, id=f"matrix.npy {name}") for name, damage in MATRIX.items()),
        *(pytest.param("manifest.json", damage, id=f"manifest.json {name}") for name, damage in DOCUMENT.items()),
        pytest.param("rows/00000.json", cut, id="a note cut"),
        pytest.param("plan.json", another_digit("num_edges"), id="plan.json other edges"),
    ],
)
def test_a_damaged_diffusion(place, before, file, damage):
    gone = one(place, "sign")
    folder = place / "results" / "diffusion" / json.loads((gone / "run.json").read_text())["diffusion_id"]
    data = (folder / "matrix.npy").read_bytes()
    damage(folder / file)
    assert [line for line in problems(place / "results") if line.startswith(str(folder))]
    assert board(place) == before
    shutil.rmtree(gone)
    said, done = run(place)
    assert [line for line in said if str(folder) in line], said
    assert done == [f"train {gone.name}"]
    assert board(place) == before
    assert (folder / "matrix.npy").read_bytes() == data


def test_the_manifest_of_another_diffusion_is_none(tmp_path):
    """It names no id; its folder does."""
    for name, seconds in (("one", 1.0), ("two", 2.0)):
        documents.write(tmp_path / name / "manifest.json", {"seconds": seconds})
    shutil.copy(tmp_path / "one" / "manifest.json", tmp_path / "two" / "manifest.json")
    assert documents.manifest(tmp_path / "one") == ({"seconds": 1.0}, "")
    assert documents.manifest(tmp_path / "two") == (None, "not what was written: its checksum is another")


# --- studies ---


def study_of(place: Path) -> tuple[Path, Path]:
    """The summary and the journal."""
    (summary,) = (place / "results" / "studies").glob("*.json")
    return summary, summary.with_suffix(".trials.jsonl")


SUMMARY: dict[str, Damage] = {
    **{"cut": cut, "emptied": emptied, "zeroed": zeroed, "garbage": garbage, "nested": nested},
    "another accuracy": another_digit("val_accuracy"),
    "another value": another_digit("lr"),
    "another winner": resealed(winner=99),
    "of another study": resealed(id="0123456789abcdef"),
    "without its checksum": without(seals.KEY),
}


@pytest.mark.parametrize(
    ("damage", "trials"),
    [
        *(pytest.param(damage, True, id=name) for name, damage in SUMMARY.items()),
        pytest.param(cut, False, id="cut, and no trials"),
        pytest.param(another_digit("val_accuracy"), False, id="another accuracy, and no trials"),
    ],
)
def test_a_damaged_summary_of_a_study(place, before, damage, trials):
    summary, journal = study_of(place)
    damage(summary)
    if not trials:
        journal.unlink()
    said: list[str] = []
    after = board(place, said)
    assert after["studies"] == []
    assert after["runs"] == before["runs"]
    assert [line for line in said if line.startswith(str(summary)) and "the report does not show this study" in line]
    assert [line for line in problems(place / "results") if line.startswith(str(summary))]
    said, done = run(place)
    assert [line for line in said if line.startswith(str(summary)) and "made again" in line]
    assert done == [f"tune {summary.stem}"], "the runs that were tuned by it stay"
    assert board(place) == before
    assert problems(place / "results") == []


def lines_of(*change: tuple[int, Callable[[bytes], bytes]]) -> Damage:
    """Damage to some lines of a journal."""

    def damage(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        for number, changed in change:
            lines[number] = changed(lines[number])
        path.write_bytes(b"".join(lines))

    return damage


def higher(line: bytes) -> bytes:
    """Another accuracy, which may be another winner."""
    found = re.sub(rb'"val_accuracy": 0\.\d', b'"val_accuracy": 0.9', line)
    assert found != line
    return found


JOURNAL: dict[str, Damage] = {
    "last line half-written": lines_of((-1, lambda line: line[: len(line) // 2])),
    "a line half-written": lines_of((1, lambda line: line[:20] + b"\n")),
    "another accuracy": lines_of((-1, higher)),
    "another accuracy of the first": lines_of((1, higher)),
    "other values": lines_of((-1, lambda line: re.sub(rb'"lr": 0\.0', b'"lr": 0.1', line))),
    "a trial is gone": lines_of((2, lambda line: b""), (3, lambda line: b"")),
    "both lines of a trial": lines_of((2, lambda line: b"\xff\n"), (3, lambda line: b"{}\n")),
    "garbage": garbage,
    "emptied": emptied,
    "zeroed": zeroed,
    "nested": lines_of((1, lambda line: b"[" * 100_000 + b"\n")),
}


@pytest.mark.parametrize(("name", "damage"), [pytest.param(name, damage, id=name) for name, damage in JOURNAL.items()])
def test_damaged_trials(place, before, name, damage):
    summary, journal = study_of(place)
    damage(journal)
    harmless = ("last line half-written", "a trial is gone", "emptied", "garbage", "zeroed")  # as of a killed writer
    damaged = [line for line in problems(place / "results") if line.startswith(str(journal))]
    assert bool(damaged) == (name not in harmless) or name == "garbage"
    # the summary is what counts
    assert board(place) == before
    assert run(place)[1] == []
    # without it, what is damaged of the trials is run again
    summary.unlink()
    said, done = run(place)
    assert [line for line in said if str(journal) in line] or name in ("a trial is gone", "emptied")
    assert done == [f"tune {summary.stem}"]
    assert board(place) == before
    assert problems(place / "results") == []


def test_trials_of_another_study_are_none(place):
    summary, journal = study_of(place)
    other = journal.with_name("0123456789abcdef.trials.jsonl")
    other.write_bytes(journal.read_bytes())
    said: list[str] = []
    assert studies.Study(journal.parent, "0123456789abcdef", said.append).trials() == []
    assert len(said) == 6
    assert len(studies.Study(journal.parent, summary.stem, pytest.fail).trials()) == 3


# --- answers ---


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        emptied,
        garbage,
        lambda path: path.write_text(path.read_text().replace("birds", "birbs")),
        lambda path: path.write_text(path.read_text().replace('"dollars": 0.25', '"dollars": 0.35')),
        lambda path: path.write_bytes(path.with_name("1.json").read_bytes()),
    ],
    ids=["cut", "emptied", "garbage", "another word", "other dollars", "of another node"],
)
def test_a_damaged_answer_is_none(tmp_path, damage):
    folder = tmp_path / "results" / "answers" / "0123456789abcdef"
    for node, text in enumerate(("birds", "cars")):
        answers.write(folder, node, {"choices": [{"message": {"content": text}}]}, {"dollars": 0.25})
    known = answers.read(folder, 0)
    assert known is not None
    assert (known.content, known.spent) == ("birds", {"dollars": 0.25})
    damage(folder / "0.json")
    with pytest.raises(answers.Damaged):
        answers.read(folder, 0)
    (line,) = problems(tmp_path / "results")
    assert line.startswith(f"{folder / '0.json'}: no response of a chat model: ")
    assert answers.read(folder, 1) is not None


# --- reports and suites ---


def fewer_lines(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def another_accuracy(path: Path) -> None:
    text = path.read_text()
    found = re.search(r",ok,0\.\d(\d)", text)
    assert found is not None
    place = found.start(1)
    path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])


def no_hit(path: Path) -> None:
    np.savez_compressed(path, **{id_: np.array([True]) for id_ in ("a", "b")})


TABLES: dict[str, tuple[str, Damage]] = {
    **{f"runs.csv {name}": ("runs.csv", damage) for name, damage in (("cut", cut), ("emptied", emptied))},
    "runs.csv another accuracy": ("runs.csv", another_accuracy),
    "runs.csv fewer lines": ("runs.csv", fewer_lines),
    "runs.csv garbage": ("runs.csv", garbage),
    "runs.csv zeroed": ("runs.csv", zeroed),
    "details.json cut": ("details.json", cut),
    "details.json another number": ("details.json", another_digit("epochs")),
    "report.json cut": ("report.json", cut),
    "report.json emptied": ("report.json", emptied),
    "report.json another accuracy": ("report.json", another_digit("val_accuracy")),
    "report.json newer": ("report.json", resealed(schema_version=99)),
    "report.json garbage": ("report.json", garbage),
}


@pytest.mark.parametrize(("file", "damage"), [pytest.param(*each, id=name) for name, each in TABLES.items()])
def test_a_damaged_report_is_refused(place, file, damage):
    folder = only(place / "reports")
    assert rereading.read(folder).runs["test_accuracy"].notna().all()
    damage(folder / file)
    for path in (folder, folder / "runs.csv"):
        with pytest.raises(StageBenchError) as error:
            rereading.read(path)
        assert str(folder / file) in str(error.value)
        assert "\n" not in str(error.value)
    if file != "details.json":  # which a comparison does not read
        with pytest.raises(StageBenchError, match=re.escape(str(folder / file))):
            resulting.read(folder)


@pytest.mark.parametrize("damage", [cut, emptied, flipped, no_hit, garbage])
def test_damaged_hits_are_refused(place, damage):
    folder = only(place / "reports")
    path = folder / "hits.npz"
    ids = sorted(read_ids(folder / "runs.csv"))[:2]
    np.savez_compressed(path, **{id_: np.array([True, False]) for id_ in ids})
    facts = facts_file.read(folder)
    assert facts is not None
    facts_file.write(folder, facts, [], [path])
    assert len(rereading.read(folder).hits) == 2
    damage(path)
    for read in (rereading.read, resulting.read):
        with pytest.raises(StageBenchError, match=re.escape(str(path))):
            read(folder)


@pytest.mark.parametrize("damage", [cut, emptied, garbage, fewer_lines, lambda path: path.write_text("a,b\n1,2\n")])
def test_a_damaged_leaderboard_is_not_compared(place, damage):
    folder = only(place / "reports")
    (folder / "runs.csv").unlink()
    assert len(resulting.read(folder).board) == 4
    damage(folder / "leaderboard.csv")
    with pytest.raises(StageBenchError, match=re.escape(str(folder / "leaderboard.csv"))):
        resulting.read(folder)


def test_a_report_of_before_is_read(place):
    """Its report.json knows no checksums."""
    folder = only(place / "reports")
    content = json.loads((folder / "report.json").read_text())
    del content["sha256"], content[seals.KEY]
    (folder / "report.json").write_text(json.dumps(content))
    assert len(rereading.read(folder).runs) == 8


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "not YAML"),
        (emptied, "the file is empty"),
        (garbage, "not UTF-8|not YAML"),
        (zeroed, "not YAML"),
        (lambda path: path.write_text(path.read_text()[:-1] + ', "seeds": 1}'), "'seeds' stands here twice"),
        (lambda path: path.write_text("- just\n- a list\n"), "expected `key: value` lines"),
        (lambda path: path.write_text(path.read_text().replace('"seeds"', '"sedes"')), "sedes"),
        (lambda path: path.write_text(path.read_text().replace('"epochs": 5', '"epochs": 5e5000')), "does not fit"),
    ],
    ids=["cut", "emptied", "garbage", "zeroed", "a key twice", "a list", "a letter", "too large a number"],
)
def test_a_damaged_suite_is_refused(place, damage, message):
    path = place / "suite.yaml"
    damage(path)
    with pytest.raises(StageBenchError, match=message) as error:
        planned(place)
    assert str(error.value).startswith(f"{path}")
    assert "\n" not in str(error.value)


# --- as commands ---


def test_run_says_it_and_does_it_again(place, before, stage_bench):
    """All of it at once, in processes of their own."""
    run_json, (summary, _) = one(place) / "run.json", study_of(place)
    manifest = only(place / "results" / "embeddings") / "manifest.json"
    another_digit("test_accuracy")(run_json)
    another_digit("val_accuracy")(summary)
    another_digit("seconds")(manifest)
    arguments = (place / "suite.yaml", "--results", place / "results", "--reports", place / "reports")
    code, out, err = stage_bench("report", *arguments, "--json")
    assert code == 0
    assert json.loads(out)["counts"] == {"done": 7, "failed": 0, "missing": 1}
    for path in (run_json, summary, manifest):
        assert [line for line in err.splitlines() if line.startswith(str(path))], err
    code, out, err = stage_bench("run", *arguments, "--json", "--workers", "1")
    assert code == 0
    assert json.loads(out)["counts"] == {"done": 8, "failed": 0, "missing": 0}
    for path in (run_json, summary, manifest):
        assert [line for line in err.splitlines() if line.startswith(str(path))], err
    assert board(place) == before
    another_accuracy(only(place / "reports") / "runs.csv")
    code, out, err = stage_bench("report", only(place / "reports"))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {only(place / 'reports')}/runs.csv: not what was written")
    assert err.count("\n") == 1


def test_parts_of_another_embedding_are_none(tmp_path):
    """Of as many rows and columns, sound in themselves, and not finished: no manifest tells them apart."""
    said: list[str] = []
    cache = EmbeddingCache(tmp_path, said.append)

    def compute(shards):
        yield from ((shard, np.full((20, 3), 2.0, np.float32), {"seconds": 1.0}) for shard in shards)

    for id_, value in (("one", 1.0), ("two", 2.0)):
        made = np.full((20, 3), value, np.float32)
        cache.write(id_, 20, 20, lambda shards, made=made: ((shard, made, {"seconds": 1.0}) for shard in shards), {})
        (tmp_path / id_ / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "two")
    (tmp_path / "one").rename(tmp_path / "two")
    cache.write("two", 20, 20, compute, {})
    assert len(said) == 1
    assert np.array_equal(cache.read("two"), np.full((20, 3), 2.0))


def test_a_part_of_many_is_made_again_and_no_other(tmp_path):
    said: list[str] = []
    cache = EmbeddingCache(tmp_path, said.append)
    made = np.random.RandomState(0).randn(50, 3).astype(np.float32)
    asked: list[int] = []

    def compute(shards):
        for shard in shards:
            asked.append(shard.number)
            yield shard, made[shard.start : shard.stop], {"seconds": 1.0}

    cache.write("id", 50, 16, compute, {})
    data = bytearray((tmp_path / "id" / "vectors.npy").read_bytes())
    data[-3 * 4 * 10] ^= 1
    (tmp_path / "id" / "vectors.npy").write_bytes(data)
    assert cache.read("id") is None
    cache.write("id", 50, 16, compute, {})
    assert asked == [0, 1, 2, 3, 2]
    assert said == [
        f"{tmp_path}/id/vectors.npy: rows 32 to 47 are not what was written, or their note is not; they are made again"
    ]
    assert np.array_equal(cache.read("id"), made)
