"""The runner: what runs share, and what never reaches a model."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from stage_bench import registry
from stage_bench.backbones.base import Backbone
from stage_bench.backbones.options import BackboneOptions
from stage_bench.datasets.splits import random_split
from stage_bench.diffusion.recipe import IDENTITY, Recipe
from stage_bench.execution.fitting import Fitter
from stage_bench.runs.store import Store

FEATURES = [{"name": "shallow", "dimension": 8}]
TRAINING = {"epochs": 4}


class ScaledOptions(BackboneOptions):
    k: int = 1
    width: int = 4


def scaled(factor: float) -> type[Backbone]:
    """A linear model on features times `factor` and k; every class is called the same. `calls` lists prepared k."""

    class Scaled(Backbone[ScaledOptions]):
        prepare_options = ("k",)
        calls: list[int] = []  # noqa: RUF012

        def __init__(self, in_dim: int, num_classes: int, options: ScaledOptions) -> None:
            super().__init__(in_dim, num_classes, options)
            self.linear = torch.nn.Linear(in_dim, num_classes)

        @classmethod
        def prepare(cls, graph, features: Tensor, options: ScaledOptions):
            cls.calls.append(options.k)
            return graph, features * factor * options.k

        def forward(self, graph, x: Tensor) -> Tensor:
            return self.linear(x)

    return Scaled


@pytest.fixture
def place(tmp_path) -> Path:
    tiny.write_folder(tmp_path / "data", 60)
    return tmp_path


def logits(place: Path) -> dict[tuple[str, int], np.ndarray]:
    store = Store(place / "results")
    return {(run.backbone, run.init_seed): store.predictions(run.id)["logits"] for run in tiny.records(place)}


def test_backbones_whose_classes_are_called_the_same(own_registry, place):
    """Fixed work is shared by runs of one backbone, never by two that look alike."""
    one, ten = scaled(1.0), scaled(10.0)
    assert one.__qualname__ == ten.__qualname__
    for name, backbone in (("one", one), ("ten", ten)):
        registry.register_backbone(name=name, summary="", options=ScaledOptions, family="diffusion")(backbone)
    suite = {"features": FEATURES, "training": TRAINING, "seeds": 1}
    assert not tiny.carry_out(place, {**suite, "backbones": ["one", "ten"]})
    assert (one.calls, ten.calls) == ([1], [1])
    made = logits(place)
    assert not np.array_equal(made["one", 0], made["ten", 0])
    assert len({run.diffusion_id for run in tiny.records(place)}) == 2


def test_fixed_work_is_done_once_for_seeds_and_trials(own_registry, place):
    backbone = scaled(1.0)
    registry.register_backbone(name="scaled", summary="", options=ScaledOptions)(backbone)
    entries = [
        "scaled",
        {"name": "scaled", "width": 5},  # prepare does not read it
        {"name": "scaled", "k": 2},
        {"name": "scaled", "k": 2, "width": 6, "tuning": {"trials": 3, "space": {"lr": {"low": 0.01, "high": 0.1}}}},
    ]
    suite = {"features": FEATURES, "training": TRAINING, "backbones": entries, "seeds": 3}
    assert not tiny.carry_out(place, suite)
    assert backbone.calls == [1, 2]
    assert len(tiny.records(place)) == 12


def test_features_are_made_once_for_all_backbones(own_registry, place):
    built = []

    @registry.register_features(name="noise")
    def noise(graph, options):
        built.append(graph.name)
        return np.random.RandomState(0).randn(graph.num_nodes, 5)

    suite = {"features": ["noise"], "training": TRAINING, "seeds": 2}
    assert not tiny.carry_out(place, {**suite, "backbones": ["mlp"]})
    assert not tiny.carry_out(place, {**suite, "backbones": ["mlp", "gcn"]})
    assert built == ["tiny"]
    assert len(tiny.records(place)) == 4


def test_an_ensemble_refuses_members_of_another_split_that_agree_with_each_other(place):
    suite = {"features": FEATURES, "training": TRAINING, "backbones": ["mlp", "gcn"], "seeds": [0]}
    suite["ensembles"] = [{"name": "both", "members": ["mlp", "gcn"], "combine": "mean-logit"}]
    assert not tiny.carry_out(place, suite)
    store = Store(place / "results")
    for run in tiny.records(place):
        if run.kind == "ensemble":
            (store.folder(run.id) / "run.json").unlink()
        else:
            store.put(run, {**store.predictions(run.id), "split_fingerprint": np.array("another")})
    (failed,) = tiny.carry_out(place, suite)
    assert "its members were trained on another split than this one" in failed
    assert [run.status for run in tiny.records(place) if run.kind == "ensemble"] == ["failed"]


def test_test_labels_change_no_bit_of_what_a_model_says(place, tmp_path):
    """From the file to the saved predictions, whatever the backbone and the features do."""
    split = random_split(np.zeros(60, dtype=np.int64), "random-60-20-20", 0)
    backbones = ["mlp", "gcn", "simplegcn", {"name": "sign", "t": 1}]
    suite = {"features": FEATURES, "training": TRAINING, "backbones": backbones, "seeds": [0]}
    made, accuracies = {}, {}
    for name, nodes in {"as they are": [], "test": split.test, "train": split.train}.items():
        here = tmp_path / name
        here.mkdir()
        tiny.relabel(tiny.write_folder(here / "data", 60), nodes)
        assert not tiny.carry_out(here, suite)
        made[name] = logits(here)
        accuracies[name] = {run.backbone: run.metrics["test_accuracy"] for run in tiny.records(here)}
    for key in made["as they are"]:
        assert np.array_equal(made["test"][key], made["as they are"][key])
        assert not np.array_equal(made["train"][key], made["as they are"][key]), "else the above would show nothing"
    assert accuracies["test"] != accuracies["as they are"], "they count where they should"


DIFFUSING = [
    "simplegcn",
    {"name": "sign", "hidden": 8},
    "sagn",
    {"name": "gcn", "hidden": 8},
    {"name": "sage", "hidden": 8},
]


def test_what_does_not_fit_in_memory_is_diffused_in_files_with_the_same_result(place, monkeypatch):
    suite = {"features": FEATURES, "training": TRAINING, "seeds": 1, "backbones": DIFFUSING}
    assert not tiny.carry_out(place, suite)
    expected = logits(place)
    assert not (place / "results" / "diffusion").exists()
    shutil.rmtree(place / "results" / "runs")
    # the tiny graph fits whatever the budget is: the least that a diffusion needs is hundreds of MB
    monkeypatch.setattr(Fitter, "_is_too_large", lambda self, graph, matrix, recipe: self.memory is not None)
    assert not tiny.carry_out(place, {**suite, "memory": "100GB"})
    made = logits(place)
    assert set(made) == set(expected)
    for key, array in made.items():
        np.testing.assert_allclose(array.astype(float), expected[key].astype(float), atol=0.02)
    folders = {path.name for path in (place / "results" / "diffusion").iterdir()}
    assert len(folders) == len(DIFFUSING)
    first = {run.backbone: run.seconds.get("diffuse") for run in tiny.records(place)}
    shutil.rmtree(place / "results" / "runs")
    assert not tiny.carry_out(place, {**suite, "memory": "100GB"})
    assert {run.backbone: run.seconds.get("diffuse") for run in tiny.records(place)} == first, "what it took once"
    assert first["sign(hidden=8)"] is not None


def test_a_memory_that_is_too_small_is_an_error_that_says_what_is_needed(place):
    suite = {"features": FEATURES, "training": TRAINING, "seeds": 1, "memory": "10MB"}
    (failed,) = tiny.carry_out(place, {**suite, "backbones": ["simplegcn"]})
    assert "a memory budget of 10MB is too small to diffuse 60 nodes" in failed
    assert not tiny.carry_out(place, {**suite, "backbones": [{"name": "mlp", "hidden": 8}]}), "it diffuses nothing"


def test_a_prepare_of_ones_own_is_not_passed_over(own_registry, place, monkeypatch):
    """What a recipe says of a backbone that overrides `prepare` is not what it wants."""
    backbone = scaled(1.0)
    backbone.recipe = classmethod(lambda cls, options: Recipe((IDENTITY,)))
    registry.register_backbone(name="scaled", summary="", options=ScaledOptions)(backbone)
    monkeypatch.setattr(Fitter, "_is_too_large", lambda self, graph, matrix, recipe: True)
    suite = {"features": FEATURES, "training": TRAINING, "seeds": 1, "memory": "100GB"}
    assert not tiny.carry_out(place, {**suite, "backbones": ["scaled"]})
    assert backbone.calls == [1]


def test_two_sets_of_features_share_no_diffusion(place):
    features = [{"name": "shallow", "dimension": 8}, {"name": "shallow", "dimension": 6}]
    suite = {
        "features": features,
        "training": TRAINING,
        "seeds": 1,
        "backbones": ["simplegcn", {"name": "gcn", "hidden": 8}],
    }
    assert not tiny.carry_out(place, suite)
    assert len({run.diffusion_id for run in tiny.records(place)} - {""}) == 4
    assert all("diffuse" in run.seconds for run in tiny.records(place)), "S X of a GCN costs time, too"


def test_label_inputs_go_with_features_as_they_are(place):
    suite = {"features": FEATURES, "training": {**TRAINING, "label_inputs": True}, "seeds": 1}
    small = {"hidden": 8, "heads": 2}
    backbones = [{"name": "gat", **small}, {"name": "revgat", **small}, {"name": "gcn", "hidden": 8}]
    failed = tiny.carry_out(place, {**suite, "backbones": backbones})
    assert len(failed) == 1
    assert "label_inputs: gcn(hidden=8) diffuses its features before training" in failed[0]
