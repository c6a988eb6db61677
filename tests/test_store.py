"""The store: what was written comes back; what is damaged, foreign or newer is told and not used."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from stage_bench import files, seals
from stage_bench.errors import StageBenchError
from stage_bench.runs.record import SCHEMA_VERSION, RunRecord
from stage_bench.runs.store import Store
from stage_bench.training import ensembles

HISTORIC = Path(__file__).parent / "historic"
ID = "0123456789abcdef"


def record(**changes) -> RunRecord:
    value = json.loads((HISTORIC / "run-v1.json").read_text())
    return RunRecord.from_json({**value, "id": ID, **changes})


def predictions() -> dict[str, np.ndarray]:
    logits = np.random.RandomState(0).randn(20, 3)
    return ensembles.stored(logits, "c0ffee0123456789")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path, warnings) -> Store:
    made = Store(tmp_path, warnings.append)
    made.put(record(), predictions())
    return made


def run_json(store: Store) -> Path:
    return store.folder(ID) / "run.json"


def change(store: Store, **values) -> None:
    """With a checksum that is right: see test_damage.py for one that is not."""
    path = run_json(store)
    path.write_text(json.dumps(seals.sealed({**json.loads(path.read_text()), **values})))


def test_a_run_comes_back_as_it_was_written(store, warnings):
    written = store.put(record(note="ü × –", curve=[0.1, 1 / 3]), predictions())
    assert store.get(ID) == store.done(ID) == written
    assert store.get(ID).curve == [0.1, 1 / 3], "every digit is kept"
    assert written.predictions_sha256 == files.sha256(store.folder(ID) / "predictions.npz")
    back = store.predictions(ID)
    assert set(back) == {"probabilities", "logits", "split_fingerprint"}
    for key, array in predictions().items():
        assert back[key].dtype == array.dtype
        assert np.array_equal(back[key], array)
    assert back["probabilities"].dtype == np.float16
    assert not warnings


def test_predictions_of_some_nodes_come_back(store, monkeypatch):
    monkeypatch.setattr(ensembles, "LARGE", 10)
    some = ensembles.stored(np.random.RandomState(0).randn(20, 3), "c0ffee", np.arange(20) % 3 - 1)
    store.put(record(), some)
    back = store.predictions(ID)
    assert set(back) == {"probabilities", "logits", "split_fingerprint", "nodes"}
    for key, array in some.items():
        assert back[key].dtype == array.dtype
        assert np.array_equal(back[key], array)


def test_the_same_run_gives_the_same_bytes(store):
    before = {path.name: path.read_bytes() for path in store.folder(ID).iterdir()}
    store.put(record(), predictions())
    assert {path.name: path.read_bytes() for path in store.folder(ID).iterdir()} == before
    assert set(before) == {"run.json", "predictions.npz"}


def test_every_field_is_written(store):
    fields = {field.name for field in dataclasses.fields(RunRecord)}
    assert set(json.loads(run_json(store).read_text())) == {*fields, seals.KEY}
    assert json.loads(run_json(store).read_text())["schema_version"] == SCHEMA_VERSION


def test_a_failed_run_is_kept_and_not_done(store, warnings):
    store.put(record(status="failed", metrics={}, error="the loss is nan at epoch 3"))
    assert store.done(ID) is None
    assert store.get(ID).error == "the loss is nan at epoch 3"
    assert not warnings


def test_what_was_never_run_is_no_cause_for_a_warning(store, warnings):
    assert store.get("fedcba9876543210") is None
    with pytest.raises(StageBenchError, match=r"fedcba9876543210.*cannot be read"):
        store.predictions("fedcba9876543210")
    assert not warnings


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [_flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-30]), lambda path: path.write_bytes(b"")],
    ids=["flipped", "absent", "cut off", "empty"],
)
def test_damaged_predictions_are_run_again(store, warnings, damage):
    path = store.folder(ID) / "predictions.npz"
    damage(path)
    assert store.get(ID) is None
    assert warnings == [f"{path}: damaged or absent; it will be run again"]
    with pytest.raises(StageBenchError, match=r"predictions\.npz: cannot be read"):
        store.predictions(ID)


def test_swapped_predictions_are_noticed(store, warnings):
    """Sound in themselves, but of another run."""
    store.put(record(id="other"), ensembles.stored(np.zeros((20, 3)), "x"))
    foreign = (store.folder("other") / "predictions.npz").read_bytes()
    (store.folder(ID) / "predictions.npz").write_bytes(foreign)
    assert store.done(ID) is None
    assert len(warnings) == 1


def test_pickles_are_not_read(store):
    np.savez(store.folder(ID) / "predictions.npz", probabilities=np.array([{"a": 1}], dtype=object))
    with pytest.raises(StageBenchError, match="cannot be read"):
        store.predictions(ID)


@pytest.mark.parametrize(
    "text",
    [
        '{"id": "0123',
        "",
        "null",
        "[]",
        "{}",
        '{"schema_version": 1}',
        '{"schema_version": "1"}',
        '{"schema_version": null}',
        "\x00\x00",
    ],
)
def test_a_record_that_is_none_is_run_again(store, warnings, text):
    run_json(store).write_text(text)
    assert store.get(ID) is None
    assert len(warnings) == 1
    assert warnings[0].startswith(str(run_json(store)))
    assert warnings[0].endswith("; it will be run again")
    assert "\n" not in warnings[0]


def test_a_record_with_bytes_that_are_no_text(store, warnings):
    run_json(store).write_bytes(b"\xff\xfe\x00{")
    assert store.get(ID) is None
    assert len(warnings) == 1


def test_an_unknown_field_is_not_dropped_in_silence(store, warnings):
    change(store, surprise=1)
    assert store.get(ID) is None
    assert "surprise" in warnings[0]


def test_a_foreign_record_is_run_again(store, warnings):
    change(store, id="fedcba9876543210")
    assert store.get(ID) is None
    assert warnings == [f"{run_json(store)}: holds the record of fedcba9876543210; it will be run again"]


def test_a_newer_record_is_run_again_and_says_why(store, warnings):
    change(store, schema_version=SCHEMA_VERSION + 1)
    assert store.get(ID) is None
    assert f"version {SCHEMA_VERSION + 1} is newer" in warnings[0]
    assert "update stage-bench" in warnings[0]


@pytest.mark.parametrize("path", sorted(HISTORIC.glob("run-v*.json")), ids=lambda path: path.stem)
def test_records_of_every_version_stay_readable(path):
    read = RunRecord.from_json(json.loads(path.read_text()))
    assert read.status == "ok"
    assert read.metrics["test_accuracy"] == 0.8837638376383764
    assert (read.dataset, read.llm, read.backbone) == ("cora", "minilm", "gcn")
    assert read.seconds["train"] == 2.1
    assert read.split_fingerprint == "c0ffee0123456789"


def test_there_is_a_sample_of_every_version():
    versions = {json.loads(path.read_text())["schema_version"] for path in HISTORIC.glob("run-v*.json")}
    assert versions == set(range(1, SCHEMA_VERSION + 1))


# --- whole or not there ---


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    files.write_bytes(path, b"one")
    files.write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [child.name for child in path.parent.iterdir()] == ["file"]


def test_an_exception_leaves_the_old_file_and_no_temporary_one(tmp_path):
    folder = tmp_path / "taken"
    (folder / "child").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        files.write_bytes(folder, b"a file cannot replace a folder")
    assert [child.name for child in tmp_path.iterdir()] == ["taken"]
    files.write_json(tmp_path / "value.json", {"a": 1})
    with pytest.raises(ValueError, match="nan"):
        files.write_json(tmp_path / "value.json", {"a": float("nan")})
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "value.json", {"a": object()})
    with pytest.raises(TypeError):
        files.write_bytes(tmp_path / "value.json", "text")
    assert json.loads((tmp_path / "value.json").read_text()) == {"a": 1}
    assert sorted(child.name for child in tmp_path.iterdir()) == ["taken", "value.json"]


def test_a_record_is_there_only_when_its_predictions_are(tmp_path):
    """The predictions cannot be written: a folder stands in their place."""
    store = Store(tmp_path)
    (store.folder(ID) / "predictions.npz").mkdir(parents=True)
    with pytest.raises(OSError, match=r"predictions\.npz"):
        store.put(record(), predictions())
    assert [child.name for child in store.folder(ID).iterdir()] == ["predictions.npz"]
