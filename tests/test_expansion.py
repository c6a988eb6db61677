"""From what a suite says to its jobs: features of a split, bundles, ensembles across inputs, studies' scope."""

import json
from typing import Any

import numpy as np
import pytest

import tiny
from stage_bench import register_features
from stage_bench.errors import StageBenchError
from stage_bench.execution import running
from stage_bench.features.spec import Built, Setting
from stage_bench.suite.jobs import EmbedJob, EnsembleJob, TrainJob, TuneJob


def plan(place: Any, available: bool = False, **suite: Any) -> Any:
    if not (place / "data").is_dir():
        tiny.write_folder(place / "data")

    standard = {"name": "tiny", "datasets": [{"name": "tiny", "path": "data"}], "backbones": ["mlp"], "seeds": 2}
    (place / "suite.yaml").write_text(json.dumps({**standard, **suite}))
    folders = running.Folders(place, place / "results", place / "reports")
    return running.make_plan(place / "suite.yaml", folders, available=available)


def of(kind: type, made: Any) -> list[Any]:
    return [job for job in made.jobs if isinstance(job, kind)]


@pytest.fixture
def sources(own_registry: None) -> None:
    """`learnt` differs from split to split and predicts; `fixed` does neither."""

    def learnt(setting: Setting) -> Built:
        scores = np.zeros((setting.graph.num_nodes, setting.graph.num_classes), dtype=np.float32)
        known = np.concatenate([setting.train, setting.val])
        scores[known, setting.graph.labels[known]] = 1
        return Built(scores.copy(), scores)

    register_features(name="learnt", pipeline=lambda setting, options: learnt(setting), per_split=True, predicts=True)(
        None
    )

    @register_features(name="fixed")
    def fixed(graph: Any, options: Any) -> np.ndarray:
        return np.random.RandomState(0).rand(graph.num_nodes, 4).astype(np.float32)


def test_features_learnt_from_labels_are_made_for_each_split(tmp_path, sources):
    made = plan(tmp_path, features=["learnt", "fixed"], seeds={"split": 2, "initialisation": 2})
    embeds = of(EmbedJob, made)
    assert [(job.features, job.split_seed) for job in embeds] == [("learnt", 0), ("learnt", 1), ("fixed", None)]
    assert len({job.id for job in embeds}) == 3
    owners = {job.id: job.split_seed for job in embeds}
    for job in of(TrainJob, made):
        assert owners[job.cell.embedding_id] == (job.split_seed if job.features == "learnt" else None)


def test_a_backbone_goes_where_it_finds_what_it_reads(tmp_path, sources):
    made = plan(tmp_path, features=["learnt", "fixed"], backbones=["mlp", "none", "label-propagation"], seeds=1)
    rows = [(job.features, job.backbone) for job in of(TrainJob, made)]
    assert sorted(rows) == [("fixed", "mlp"), ("learnt", "mlp"), ("learnt", "none"), ("none", "label-propagation")]
    scored = next(job for job in of(TrainJob, made) if job.backbone == "none")
    seen = next(job for job in of(TrainJob, made) if (job.features, job.backbone) == ("learnt", "mlp"))
    assert scored.content["features"] != seen.content["features"]
    with pytest.raises(StageBenchError, match="scores a feature source's own predictions, and none here"):
        plan(tmp_path, features=["fixed"], backbones=["none"])


def test_an_ensemble_across_inputs_has_every_member_on_each(tmp_path, sources):
    entry = {"name": "both", "members": ["mlp", "gcn"], "inputs": "all", "combine": "greedy"}
    made = plan(tmp_path, features=["learnt", "fixed"], backbones=["mlp", "gcn"], ensembles=[entry], seeds=1)
    (job,) = of(EnsembleJob, made)
    assert sorted(job.members) == sorted(run.id for run in of(TrainJob, made))
    assert (job.features, job.backbone, job.combine) == ("learnt+fixed", "both", "greedy")


def test_weights_follow_their_members_whatever_the_order(tmp_path, sources):
    def job(members: list[str], weights: list[int]) -> EnsembleJob:
        entry = {"name": "w", "members": members, "combine": "weighted", "weights": weights}
        made = plan(tmp_path, features=["fixed"], backbones=["mlp", "gcn"], ensembles=[entry], seeds=1)
        (found,) = of(EnsembleJob, made)
        names = {run.id: run.backbone for run in of(TrainJob, made)}
        assert {names[id_]: weight for id_, weight in zip(found.members, found.weights, strict=True)} == {
            "mlp": 3,
            "gcn": 1,
        }
        return found

    assert job(["mlp", "gcn"], [3, 1]).id == job(["gcn", "mlp"], [1, 3]).id


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"members": ["mlp"]}, "an ensemble needs two members"),
        ({"members": ["mlp", "mlp"]}, "a member stands here twice"),
        ({"members": ["mlp", "gcn"], "combine": "weighted"}, "weighted needs weights: one a member"),
        ({"members": ["mlp", "gcn"], "combine": "weighted", "weights": [1]}, "1 weights for 2 members"),
        ({"members": ["mlp", "gcn"], "combine": "weighted", "weights": [0, 0]}, "weights must not all be 0"),
        ({"members": ["mlp", "gcn"], "weights": [1, 2]}, "weights are read only with combine: weighted"),
        ({"members": ["mlp"], "inputs": ["fixd"]}, "unknown input 'fixd'; did you mean 'fixed'"),
        ({"members": ["mlp", "gcn"], "inputs": ["fixed", "fixed"]}, "an input stands here twice"),
    ],
)
def test_what_an_ensemble_may_not_say(tmp_path, sources, entry, problem):
    with pytest.raises(StageBenchError, match=problem):
        plan(tmp_path, features=["fixed"], backbones=["mlp", "gcn"], ensembles=[{"name": "e", **entry}])


def test_a_study_is_as_wide_as_its_scope(tmp_path, sources):
    def studies(scope: str) -> list[TuneJob]:
        tuning = {"trials": 2, "seeds": [7, 8], "scope": scope}
        return of(TuneJob, plan(tmp_path, features=["learnt", "fixed"], tuning=tuning))

    narrow, wide = studies("per-dataset-llm"), studies("per-dataset")
    assert [len(job.cells) for job in narrow] == [2, 2]
    assert [len(job.cells) for job in wide] == [4]
    assert [cell.split_seed for cell in wide[0].cells] == [7, 8, 7, 8]
    # The features that trials need, of their own splits, are made before.
    made = plan(tmp_path, features=["learnt"], tuning={"trials": 2, "seeds": [7]})
    kinds = [(job.kind, getattr(job, "split_seed", None)) for job in made.jobs]
    assert kinds == [("embed", 7), ("tune", None), ("embed", 0), ("train", 0), ("embed", 1), ("train", 1)]


def test_a_bundle_is_one_model_on_each_set_together(tmp_path, sources, monkeypatch):
    folder = tmp_path / "baselines"
    folder.mkdir()
    from stage_bench.suite import bundle, folders

    real = folders.folder("baselines")
    for path in real.glob("*.yaml"):
        (folder / path.name).write_text(path.read_text())
    (folder / "pair.yaml").write_text(
        "name: pair\ndescription: two\ncombine: weighted\nfeatures:\n"
        "  - {set: L, name: learnt, weight: 2}\n  - {set: F, name: fixed}\n"
    )
    own = lambda name: folder if name == "baselines" else tmp_path  # noqa: E731
    monkeypatch.setattr(folders, "folder", own)
    monkeypatch.setattr(bundle, "folder", own)
    ensemble = {"name": "two", "members": ["mlp", "gcn"]}
    made = plan(tmp_path, features=["pair"], backbones=["mlp", "gcn"], ensembles=[ensemble], seeds=1)
    runs = {job.id: (job.features, job.backbone) for job in of(TrainJob, made)}
    assert sorted(runs.values()) == [(f"pair:{name}", model) for name in "FL" for model in ("gcn", "mlp")]
    rows = {(job.features, job.backbone): job for job in of(EnsembleJob, made)}
    assert set(rows) == {("pair", "mlp"), ("pair", "gcn"), ("pair", "two"), ("pair:L", "two"), ("pair:F", "two")}
    weights = rows["pair", "two"]
    assert {runs[id_][0]: weight for id_, weight in zip(weights.members, weights.weights, strict=True)} == {
        "pair:L": 2,
        "pair:F": 1,
    }
    with pytest.raises(StageBenchError, match="no feature set of 'pair' has an option 'epochs'"):
        plan(tmp_path, features=[{"name": "pair", "epochs": 3}])


def test_available_leaves_out_what_is_not_here_and_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    datasets = [{"name": "tiny", "path": "data"}, "pubmed", {"name": "gone", "path": "nowhere"}]
    suite = {"datasets": datasets, "llms": ["e5-large-v2"], "features": ["shallow", "gpt-predictions"]}
    with pytest.raises(StageBenchError, match=r"dataset .tiny. has no gpt_preds\.csv"):
        plan(tmp_path, **suite)
    made = plan(tmp_path, available=True, **suite)
    assert {job.features for job in of(TrainJob, made)} == {"shallow"}
    said = "\n".join(made.left_out)
    assert "pubmed is left out" in said
    assert "gone is left out: there is no dataset.yaml in nowhere" in said
    assert "e5-large-v2 on tiny is left out: its weights are not here" in said
    assert "hf download intfloat/e5-large-v2" in said
    assert "gpt-predictions on tiny is left out" in said


def test_what_a_bundle_is_given_goes_to_the_sets_that_read_it(tmp_path):
    answers = tmp_path / "said"
    answers.mkdir()
    for node in range(120):
        said = {"choices": [{"message": {"content": "nn, because of the words"}}]}
        (answers / f"{node}.json").write_text(json.dumps(said))
    given = {"name": "tape", "llm": "minilm", "epochs": 2, "answers": {"upstream": "said"}}
    made = plan(tmp_path, features=[given], seeds=1)
    ta, e, p = (
        next(job.choice for job in of(EmbedJob, made) if job.features.endswith(name)) for name in ("TA", "E", "P")
    )
    assert (ta.answers, ta.options["text"], ta.options["epochs"], ta.llm.label) == (None, "node", 2, "minilm")
    assert (e.answers.kind, e.options["text"], e.options["epochs"]) == ("upstream", "explanation", 2)
    assert (p.answers.kind, p.llm) == ("upstream", None)
    with pytest.raises(StageBenchError, match="answers is read only with text: explanation"):
        plan(tmp_path, features=[{"name": "finetuned-lm", "answers": {"upstream": "said"}}])
    with pytest.raises(StageBenchError, match="float16 weights lose the small steps"):
        plan(tmp_path, features=[{"name": "finetuned-lm", "llm": {"name": "minilm", "dtype": "float16"}}])
