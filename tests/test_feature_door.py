"""The door through which features come in: which labels they may see, what they cost, what they say themselves."""

import shutil
from typing import Any

import numpy as np
import pytest

import tiny
from stage_bench import register_features
from stage_bench.datasets.splits import random_split
from stage_bench.errors import JobError
from stage_bench.features import source
from stage_bench.features.spec import Built, FeatureChoice, Setting
from stage_bench.llms.cache import EmbeddingCache

seen: list[Any] = []


@pytest.fixture
def sources(own_registry: None) -> None:
    """`learnt` keeps what it was given; `fixed` too."""
    seen.clear()

    def learnt(setting: Setting, options: Any) -> Built:
        seen.append(setting)
        setting.folder.mkdir(parents=True)
        (setting.folder / "checkpoint").write_text("half of it")
        setting.step(1, 2, "steps")
        scores = np.eye(setting.graph.num_classes, dtype=np.float32)[np.zeros(setting.graph.num_nodes, dtype=int)]
        return Built(scores[:, :2], scores, {"seconds": 2.0, "finetune_seconds": 30.0, "answer_tokens": 5})

    register_features(name="learnt", pipeline=learnt, per_split=True, predicts=True)(None)

    @register_features(name="fixed")
    def fixed(graph: Any, options: Any) -> np.ndarray:
        seen.append(graph)
        return np.ones((graph.num_nodes, 1), dtype=np.float32)


def test_test_labels_do_not_pass_the_door(tmp_path, sources):
    graph = tiny.text_graph()
    split = random_split(graph.labels, "random-60-20-20", 3)
    source.load(graph, FeatureChoice("learnt", "learnt", {}), EmbeddingCache(tmp_path / "e"), "cpu", split=split)
    (setting,) = seen
    known = np.concatenate([split.train, split.val])
    assert (setting.graph.labels[split.test] == -1).all()
    assert (setting.graph.labels[known] == graph.labels[known]).all()
    assert (setting.train == split.train).all()
    assert (setting.val == split.val).all()
    assert setting.split_seed == 3
    # Nor by another way: nothing in it that says which nodes are tested, or what they are.
    held = [value for value in vars(setting).values() if isinstance(value, np.ndarray)]
    assert not any(np.isin(split.test, array).any() for array in held)
    assert (graph.labels >= 0).all()  # the graph itself is as it was


def test_features_that_are_not_learnt_see_no_label_at_all(tmp_path, sources):
    source.load(tiny.text_graph(), FeatureChoice("fixed", "fixed", {}), EmbeddingCache(tmp_path / "e"), "cpu")
    assert (seen[0].labels == -1).all()


def test_costs_and_predictions_are_kept_and_the_folder_for_work_is_not(tmp_path, sources):
    graph, cache = tiny.text_graph(), EmbeddingCache(tmp_path / "results" / "embeddings")
    split, choice = random_split(graph.labels, "random-60-20-20", 0), FeatureChoice("learnt", "learnt", {})
    steps: list[Any] = []
    matrix, manifest = source.load(graph, choice, cache, "cpu", lambda *step: steps.append(step), split)
    assert matrix.shape == (120, 2)
    assert steps == [(1, 2, "steps")]
    assert (manifest["seconds"], manifest["finetune_seconds"], manifest["answer_tokens"]) == (2.0, 30.0, 5)
    assert seen[0].results == tmp_path / "results"
    assert not seen[0].folder.exists()
    assert source.load_predictions(graph, choice, cache, split).argmax(axis=1).tolist() == [0] * 120
    source.load(graph, choice, cache, "cpu", split=split)
    assert len(seen) == 1  # from the cache
    other = random_split(graph.labels, "random-60-20-20", 1)
    source.load(graph, choice, cache, "cpu", split=other)
    assert len(seen) == 2  # another split is another training
    assert seen[1].folder != seen[0].folder
    shutil.rmtree(cache.root / source.predictions_id(manifest["id"]))
    with pytest.raises(JobError, match="the predictions of 'learnt' are damaged or absent; remove") as refused:
        source.load_predictions(graph, choice, cache, split)
    # What it says to remove is what brings them back.
    shutil.rmtree(str(refused.value).partition("; remove ")[2])
    source.load(graph, choice, cache, "cpu", split=split)
    assert source.load_predictions(graph, choice, cache, split).shape == (120, 3)


def test_the_folder_for_work_is_there_until_the_features_are(tmp_path, sources, monkeypatch):
    graph, cache = tiny.text_graph(), EmbeddingCache(tmp_path / "results" / "embeddings")
    split, choice = random_split(graph.labels, "random-60-20-20", 0), FeatureChoice("learnt", "learnt", {})
    write = EmbeddingCache._write_shard

    def killed(self: Any, id_: str, *more: Any) -> None:
        if (self.root / id_ / "work").exists():
            raise KeyboardInterrupt
        write(self, id_, *more)

    monkeypatch.setattr(EmbeddingCache, "_write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        source.load(graph, choice, cache, "cpu", split=split)
    assert (seen[0].folder / "checkpoint").exists()


@pytest.mark.parametrize(
    ("built", "problem"),
    [
        (Built(np.ones((120, 2))), "'odd' gave no class scores"),
        (Built(np.ones((119, 2)), np.ones((120, 3))), r"features 'odd' of shape \(119, 2\) are not one finite row"),
        (Built(np.ones((120, 2)), np.ones((120, 2))), r"class scores 'odd' of shape \(120, 2\) are not"),
        (Built(np.full((120, 2), np.nan), np.ones((120, 3))), "features 'odd' .* are not one finite row a node"),
    ],
)
def test_what_a_source_may_not_give(tmp_path, own_registry, built, problem):
    register_features(name="odd", pipeline=lambda setting, options: built, predicts=True)(None)
    with pytest.raises(JobError, match=problem):
        source.load(tiny.text_graph(), FeatureChoice("odd", "odd", {}), EmbeddingCache(tmp_path / "e"), "cpu")


def test_the_record_says_what_the_features_cost(tmp_path, sources):
    tiny.write_folder(tmp_path / "data")
    suite = {"features": ["learnt"], "backbones": ["mlp", "none"], "seeds": 1, "training": {"epochs": 2}}
    ensemble = {"name": "both", "members": ["mlp", "none"]}
    assert tiny.carry_out(tmp_path, {**suite, "ensembles": [ensemble]}) == []
    rows = {record.backbone: record for record in tiny.records(tmp_path)}
    for name in ("mlp", "none", "both"):
        assert (rows[name].seconds["finetune"], rows[name].seconds["embed"]) == (30.0, 2.0)
    assert rows["none"].metrics["parameters"] == 0
    assert rows["both"].weights.keys() == {rows["mlp"].id, rows["none"].id}
    page = (tmp_path / "reports" / "tiny").exists()
    assert not page  # carry_out does not report


def test_what_was_made_elsewhere_has_no_known_cost(tmp_path, own_registry):
    def given(setting: Setting, options: Any) -> Built:
        return Built(np.eye(3, dtype=np.float32)[np.arange(setting.graph.num_nodes) % 3], elsewhere=True)

    register_features(name="given", pipeline=given)(None)
    tiny.write_folder(tmp_path / "data")
    ensemble = {"name": "both", "members": ["mlp"], "inputs": "all"}
    suite = {"features": ["given", "shallow"], "backbones": ["mlp"], "seeds": 1, "training": {"epochs": 2}}
    assert tiny.carry_out(tmp_path, {**suite, "ensembles": [ensemble]}) == []
    costs = {record.features: "embed" in record.seconds for record in tiny.records(tmp_path)}
    assert costs == {"given": False, "shallow": True, "given+shallow": False}
