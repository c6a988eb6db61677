"""Fine-tuning that is interrupted: it goes on from the last whole checkpoint, to the same result."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import finetuned
import tiny
from stage_bench.finetuning import trainer
from stage_bench.finetuning.options import FinetuningOptions, LoraOptions
from stage_bench.finetuning.source import build

FULL = {"lr": 3e-3, "epochs": 3, "batch_size": 3, "accumulate": 2}  # 9 steps an epoch
LORA = {"lr": 2e-2, "epochs": 3, "batch_size": 6, "preset": "stage"}
_KILLED = """
import dataclasses, json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import finetuned
from stage_bench.finetuning import trainer
from stage_bench.finetuning.options import FinetuningOptions, LoraOptions
from stage_bench.finetuning.source import build

place, model, kind, options = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5])
at, trainer.SAVE_SECONDS = int(sys.argv[6]), float(sys.argv[7])

def step(done, total, what):
    if done == at and "loss" in what:
        os.kill(os.getpid(), signal.SIGKILL)

build(dataclasses.replace(finetuned.setting(place, model), step=step), globals()[kind](**options))
"""


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    with finetuned.one_core():
        yield


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With dropout, so that a lost random state would show."""
    return tiny.save_bert(tmp_path_factory.mktemp("model"), finetuned.WORDS)


@pytest.fixture(scope="module")
def whole(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What training gives that nothing disturbs."""
    with finetuned.one_core():
        place = tmp_path_factory.mktemp("whole")
        return build(finetuned.setting(place, bert), FinetuningOptions(**FULL)).matrix.tobytes()


def kill(place: Path, bert: Path, kind: str, options: dict, at: int, save_seconds: float) -> list[str]:
    """Train in another process that is killed at a step; the checkpoints it leaves."""
    arguments = [str(Path(__file__).parent), place, bert, kind, json.dumps(options), at, save_seconds]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return sorted(path.name for path in (place / "work").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("kind", "options", "at", "save_seconds", "left"),
    [
        ("FinetuningOptions", FULL, 5, 600.0, []),
        ("FinetuningOptions", FULL, 12, 600.0, ["checkpoint-9"]),
        ("FinetuningOptions", FULL, 15, 0.0, ["checkpoint-14"]),
        ("LoraOptions", LORA, 22, 0.0, ["checkpoint-21"]),
        ("LoraOptions", LORA, 27, 600.0, ["checkpoint-18"]),
    ],
)
def test_killed_and_undisturbed_are_the_same(
    kind: str, options: dict, at: int, save_seconds: float, left: list[str], bert: Path, tmp_path: Path
):
    """In the first epoch, after one, within one, of adapters, before the last evaluation."""
    there = kill(tmp_path, bert, kind, options, at, save_seconds)
    assert set(left) <= set(there)
    assert len(there) <= 3
    model = {"FinetuningOptions": FinetuningOptions, "LoraOptions": LoraOptions}[kind]
    first: list[int] = []
    setting = finetuned.setting(
        tmp_path, bert, step=lambda done, total, what: first.append(done) if "loss" in what else 0
    )
    resumed = build(setting, model(**options))
    assert first[0] == (int(left[0].split("-")[1]) if left else 0) + 1
    whole = build(finetuned.setting(tmp_path, bert, folder=tmp_path / "whole"), model(**options))
    assert resumed.matrix.tobytes() == whole.matrix.tobytes()
    assert resumed.logits.tobytes() == whole.logits.tobytes()


def interrupted(place: Path, bert: Path, at: int, **fields):
    """A setting whose training was stopped at a step, and what its steps say from then on."""

    class Stop(Exception):
        pass

    def stop(done: int, total: int, what: str) -> None:
        if done == at:
            raise Stop

    with pytest.raises(Stop):
        build(finetuned.setting(place, bert, step=stop, **fields), FinetuningOptions(**FULL))
    said: list[str] = []
    told = {"step": lambda done, total, what: said.append(f"{done} {what}"), "say": said.append}
    return finetuned.setting(place, bert, **told, **fields), said


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", "cut"),
        ("optimizer.pt", "changed"),
        ("rng_state.pth", "gone"),
        ("trainer_state.json", "changed"),
        ("whole.json", "cut"),
        ("whole.json", "gone"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_word(
    file: str, damage: str, whole: bytes, bert: Path, tmp_path: Path
):
    setting, said = interrupted(tmp_path, bert, 20)
    path = setting.folder / "checkpoint-18" / file
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(data) // 2
        path.write_bytes(data[:middle] if damage == "cut" else data[:middle] + b"#" + data[middle + 1 :])
    resumed = build(setting, FinetuningOptions(**FULL))
    assert "checkpoint-18 is damaged or not finished; going on from the one before" in said[0]
    assert said[1].startswith("10 fine-tuning")
    assert resumed.matrix.tobytes() == whole


def test_a_checkpoint_whose_best_one_is_damaged_is_not_used(bert: Path, tmp_path: Path):
    setting, said = interrupted(tmp_path, bert, 20)
    state = json.loads((setting.folder / "checkpoint-18" / "trainer_state.json").read_text())
    best = state["best_global_step"]
    (setting.folder / f"checkpoint-{best}" / "model.safetensors").write_bytes(b"")
    build(setting, FinetuningOptions(**FULL))
    assert "checkpoint-18 is damaged" in said[0]


def test_results_that_were_moved(whole: bytes, bert: Path, tmp_path: Path):
    setting, said = interrupted(tmp_path, bert, 20, folder=tmp_path / "before")
    os.rename(tmp_path / "before", tmp_path / "after")
    resumed = build(dataclasses.replace(setting, folder=tmp_path / "after"), FinetuningOptions(**FULL))
    assert said[0].startswith("19 fine-tuning")
    assert resumed.matrix.tobytes() == whole


def test_training_that_was_done_is_not_done_again(bert: Path, tmp_path: Path):
    """Interrupted while it embedded."""
    setting = finetuned.setting(tmp_path, bert)
    first = build(setting, FinetuningOptions(**FULL))
    said: list[str] = []
    again = build(
        dataclasses.replace(setting, step=lambda done, total, what: said.append(what)), FinetuningOptions(**FULL)
    )
    assert not any("loss" in what for what in said)
    assert again.matrix.tobytes() == first.matrix.tobytes()


def test_seconds_before_the_interruption_count(bert: Path, tmp_path: Path):
    setting = finetuned.setting(tmp_path, bert)
    build(setting, FinetuningOptions(**FULL))
    for note in setting.folder.glob("*/whole.json"):
        note.write_text(json.dumps({**json.loads(note.read_text()), "seconds": 1000.0}))
    assert build(setting, FinetuningOptions(**FULL)).spent["finetune_seconds"] > 1000


def test_what_lies_on_the_disk(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The last two checkpoints and the best; no pickle but the optimiser's and the random states of our own making."""
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0.0)
    most = 0

    def step(done: int, total: int, what: str) -> None:
        nonlocal most
        most = max(most, len(list(setting.folder.glob("checkpoint-*"))))

    setting = finetuned.setting(tmp_path, bert, step=step)
    build(setting, FinetuningOptions(**FULL))
    assert most <= 3
    kinds = {path.name for path in setting.folder.glob("*/*")}
    assert kinds == {
        *("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "whole.json")
    }


def test_another_features_folder_is_another_training(bert: Path, tmp_path: Path):
    """Checkpoints are found in the source's own folder alone."""
    build(finetuned.setting(tmp_path, bert), FinetuningOptions(**FULL))
    said: list[int] = []
    setting = finetuned.setting(
        tmp_path, bert, folder=tmp_path / "other", step=lambda done, total, what: said.append(done)
    )
    build(setting, FinetuningOptions(**FULL))
    assert said[0] == 1
    assert np.diff(said[:27]).tolist() == [1] * 26
