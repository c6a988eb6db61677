"""The same bytes whichever process does a run, and beside whatever else: every backbone, on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from stage_bench import registry

FEATURES = [{"name": "shallow", "dimension": 8}]
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": 8},
    "gcn": {"hidden": 8},
    "sage": {"hidden": 8},
    "gat": {"hidden": 4, "heads": 2},
    "revgat": {"hidden": 4, "epochs": 3},
    "appnp": {"hidden": 8},
    "sign": {"hidden": 8, "s": 1, "p": 1, "t": 1},
    "sagn": {"hidden": 8},
    "simplegcn": {},
}
MORE: list[dict[str, Any]] = [
    {"name": "sage", "hidden": 4, "batching": "neighbor", "batch_size": 16, "fanout": 3},
    {"name": "gat", "hidden": 4, "heads": 2, "batching": "neighbor", "batch_size": 16, "fanout": 3},
    {"name": "revgat", "hidden": 4, "epochs": 3, "label_inputs": True},
    {"name": "revgat", "hidden": 4, "epochs": 3, "reversible": True},
    {"name": "mlp", "hidden": 4, "distillation": 0.5},
    {"name": "gcn", "hidden": 4, "kernels": "torch"},
    {"name": "gcn", "tuning": {"trials": 2, "space": {"hidden": [4, 8], "lr": {"low": 0.001, "high": 0.1}}}},
]


def backbones() -> list[dict[str, Any]]:
    """Every backbone that a suite may name on features, and the ways to train that draw in their own manner."""
    specs = registry.specs("backbones").values()
    names = [spec.name for spec in specs if not spec.needs and spec.reads != "predictions"]
    return [*({"name": name, **SMALL.get(name, {})} for name in names), *MORE]


def suite() -> dict[str, Any]:
    return {"features": FEATURES, "training": {"epochs": 5}, "backbones": backbones(), "seeds": 2}


def predictions(place: Path) -> dict[tuple[str, int], bytes]:
    runs = {(run.backbone, run.init_seed): place / "results" / "runs" / run.id for run in tiny.records(place)}
    return {key: (folder / "predictions.npz").read_bytes() for key, folder in runs.items()}


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """All of it, one run after another in this process."""
    place = tmp_path_factory.mktemp("here")
    tiny.write_folder(place / "data", 120)
    assert tiny.carry_out(place, suite(), workers=1) == []
    return place


def test_every_family_takes_part():
    named = {backbone["name"] for backbone in backbones()}
    assert set(SMALL) <= named
    families = {registry.get("backbones", name).family for name in named}
    assert families == {spec.family for spec in registry.specs("backbones").values() if spec.reads != "predictions"}


def test_side_by_side_in_two_processes(here, tmp_path):
    tiny.write_folder(tmp_path / "data", 120)
    assert tiny.carry_out(tmp_path, suite(), workers=2) == []
    compare(predictions(tmp_path), predictions(here))
    assert any("2 jobs side by side" in run.hardware for run in tiny.records(tmp_path)), "else they were none"


def test_in_another_process(here, tmp_path, stage_bench):
    tiny.write_folder(tmp_path / "data", 120)
    whole = {"name": "tiny", "datasets": [{"name": "tiny", "path": "data"}], **suite()}
    (tmp_path / "suite.yaml").write_text(json.dumps(whole))
    where = ("--results", tmp_path / "results", "--reports", tmp_path / "reports")
    code, _, said = stage_bench("run", tmp_path / "suite.yaml", *where, "--device", "cpu", "--workers", "1")
    assert code == 0, said
    compare(predictions(tmp_path), predictions(here))


def test_in_another_order(here, tmp_path):
    """What ran before in the same process leaves nothing behind."""
    tiny.write_folder(tmp_path / "data", 120)
    turned = {**suite(), "backbones": backbones()[::-1], "seeds": [1, 0]}
    assert tiny.carry_out(tmp_path, turned, workers=1) == []
    compare(predictions(tmp_path), predictions(here))


def compare(made: dict[tuple[str, int], bytes], expected: dict[tuple[str, int], bytes]) -> None:
    assert made.keys() == expected.keys()
    assert [key for key in expected if made[key] != expected[key]] == []
