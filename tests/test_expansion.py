"""From what a suite says to its jobs: features of a split, bundles, ensembles across inputs, studies' scope."""

import json
from typing import Any

import numpy as np
import pytest

import tiny
from stage_bench import register_features
from stage_bench.errors import StageBenchError
from stage_bench.execution import reporting, running
from stage_bench.features.spec import Built, Setting
from stage_bench.llms.cache import EmbeddingCache
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


@pytest.fixture
def own_baselines(tmp_path, sources, monkeypatch) -> None:
    """A bundle `pair` of weighted sets beside the recipes that come with stage-bench."""
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


def test_a_bundle_is_one_model_on_each_set_together(tmp_path, own_baselines):
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


def test_a_member_that_reads_no_features_takes_no_other_members_weight(tmp_path, sources):
    entry = {"name": "w", "members": ["label-propagation", "mlp"], "inputs": "all", "combine": "weighted"}
    entry["weights"] = [1, 2, 3, 40]
    made = plan(tmp_path, features=["learnt", "fixed"], backbones=entry["members"], ensembles=[entry], seeds=1)
    runs = {job.id: (job.features, job.backbone) for job in of(TrainJob, made)}
    (job,) = of(EnsembleJob, made)
    assert {runs[id_]: weight for id_, weight in zip(job.members, job.weights, strict=True)} == {
        ("none", "label-propagation"): 1 + 3,
        ("learnt", "mlp"): 2,
        ("fixed", "mlp"): 40,
    }


def test_an_ensemble_across_inputs_that_cannot_be_is_said_to_be_left_out(tmp_path, sources, monkeypatch):
    entry = {"name": "all", "members": ["none", "mlp"], "inputs": "all"}
    made = plan(tmp_path, features=["learnt", "fixed"], backbones=["none", "mlp"], ensembles=[entry], seeds=1)
    assert not of(EnsembleJob, made)
    assert "ensemble all on tiny is left out: no two members on inputs that suit all" in made.left_out
    # Nor where no input at all is left.
    entry = {"name": "all", "members": ["label-propagation", "mlp"], "inputs": "all"}
    made = plan(
        tmp_path,
        available=True,
        features=["gpt-predictions"],
        backbones=["label-propagation", "mlp"],
        ensembles=[entry],
        seeds=1,
    )
    assert [job.backbone for job in of(TrainJob, made)] == ["label-propagation"]
    assert any(line.startswith("ensemble all on tiny is left out") for line in made.left_out)


def test_the_report_of_a_dataset_on_which_nothing_can_be_run(tmp_path, sources):
    tiny.write_folder(tmp_path / "data")
    tiny.write_folder(tmp_path / "bare", 60)
    (tmp_path / "data" / "gpt_preds.csv").write_text("".join("0\n" for _ in range(120)))
    datasets = [{"name": name, "path": path} for name, path in (("tiny", "data"), ("bare", "bare"))]
    made = plan(tmp_path, available=True, datasets=datasets, features=["gpt-predictions"])
    assert {job.dataset for job in made.jobs} == {"tiny"}
    lines = reporting._configuration(made)
    assert any(line.startswith("tiny: 120 nodes") for line in lines)
    assert not any(line.startswith("bare: ") for line in lines)


def test_available_looks_at_what_features_are_made_with(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    asked = {"endpoint": True, "model": "chatty"}
    local = {"local": "some/chat-model"}
    deberta = {"name": "deberta-base", "allow_pickled_weights": True}
    features = [
        "shallow",
        {"name": "finetuned-lm", "llm": deberta},
        {"name": "gpt-predictions", "answers": asked},
        {"name": "gpt-predictions", "answers": local},
    ]
    assert len({job.features for job in of(TrainJob, plan(tmp_path, features=features, seeds=1))}) == 4
    made = plan(tmp_path, available=True, features=features, seeds=1)
    assert {job.features for job in of(TrainJob, made)} == {"shallow"}
    said = "\n".join(made.left_out)
    assert "finetuned-lm on tiny is left out: llm 'deberta-base': its weights are not here" in said
    assert "answers of 'chatty': no server is named: set $OPENAI_BASE_URL" in said
    assert "answers of 'chat-model': its weights are not here" in said
    assert "cannot be fetched" not in said
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    made = plan(tmp_path, available=True, features=features, seeds=1)
    assert {job.features for job in of(TrainJob, made)} == {"shallow", "gpt-predictions(answers=chatty)"}
    # What is there already needs nothing.
    monkeypatch.delenv("OPENAI_BASE_URL")
    (asking,) = (job for job in of(EmbedJob, made) if job.choice.answers is not None)
    cache = EmbeddingCache(tmp_path / "results" / "embeddings")
    cache.keep(asking.id, 120, lambda: (np.ones((120, 2), dtype=np.float32), {"seconds": 0.0}), {})
    made = plan(tmp_path, available=True, features=features, seeds=1)
    assert {job.features for job in of(TrainJob, made)} == {"shallow", "gpt-predictions(answers=chatty)"}


def test_inputs_that_differ_in_their_instruction_alone_have_two_names(tmp_path):
    llm = {"name": "e5-mistral-7b-instruct", "dtype": "bfloat16"}
    features = [{"name": "lora", "llm": {**llm, "instruction": text}} for text in ("none", "say what it is about")]
    entry = {"name": "both", "members": ["mlp"], "inputs": "all"}
    made = plan(tmp_path, features=features, ensembles=[entry], seeds=1)
    assert len(of(TrainJob, made)) == 2
    (job,) = of(EnsembleJob, made)
    assert sorted(job.members) == sorted(run.id for run in of(TrainJob, made))


def test_nothing_is_tuned_on_a_reported_seed_unless_the_suite_says_so(tmp_path, sources):
    with pytest.raises(StageBenchError, match="seed 1000 would be tuned on, and is reported; name others"):
        plan(tmp_path, features=["fixed"], seeds=[7, 1000], tuning={"trials": 2})
    entry = {"name": "mlp", "tuning": {"trials": 2}}
    with pytest.raises(StageBenchError, match="seed 1000 would be tuned on, and is reported"):
        plan(tmp_path, features=["fixed"], seeds=[1000], backbones=[entry])
    assert plan(tmp_path, features=["fixed"], seeds=[1000], tuning={"trials": 2, "seeds": [1000]}).jobs


def test_a_study_of_several_datasets_is_shown_with_the_split_of_the_largest(tmp_path, sources):
    tiny.write_folder(tmp_path / "data")
    tiny.write_folder(tmp_path / "small", 60)
    datasets = [{"name": "small", "path": "small", "split": "random-50-25-25"}, {"name": "tiny", "path": "data"}]
    tuning = {"trials": 2, "scope": "shared"}
    (job,) = of(TuneJob, plan(tmp_path, datasets=datasets, features=["fixed"], tuning=tuning, seeds=1))
    assert (job.dataset, job.split) == ("tiny", "random-60-20-20")


def test_a_bundles_weights_are_read_only_where_they_weigh(tmp_path, sources, monkeypatch):
    folder = tmp_path / "baselines"
    folder.mkdir()
    from stage_bench.suite import bundle, folders

    for path in folders.folder("baselines").glob("*.yaml"):
        (folder / path.name).write_text(path.read_text())
    sets = "features:\n  - {set: L, name: learnt, weight: 2}\n  - {set: F, name: fixed}\n"
    (folder / "duo.yaml").write_text(f"name: duo\ndescription: two\ncombine: mean-logit\n{sets}")
    for module in (folders, bundle):
        monkeypatch.setattr(module, "folder", lambda name: folder if name == "baselines" else tmp_path)
    with pytest.raises(StageBenchError, match="weight is read only with combine: weighted"):
        plan(tmp_path, features=["duo"])


def test_every_ensemble_goes_over_a_bundle(tmp_path, own_baselines):
    entries = [
        {"name": "w", "members": ["mlp", "gcn"], "combine": "weighted", "weights": [3, 1]},
        {"name": "f", "members": ["mlp", "gcn"], "combine": "fitted"},
    ]
    made = plan(tmp_path, features=["pair"], backbones=["mlp", "gcn"], ensembles=entries, seeds=1)
    runs = {job.id: (job.features, job.backbone) for job in of(TrainJob, made)}
    rows = {(job.features, job.backbone): job for job in of(EnsembleJob, made)}
    assert rows["pair", "f"].combine == "fitted"
    weighted = rows["pair", "w"]
    # The sets' weights, 2 and 1, times the members'.
    assert {runs[id_]: weight for id_, weight in zip(weighted.members, weighted.weights, strict=True)} == {
        ("pair:L", "mlp"): 6,
        ("pair:L", "gcn"): 2,
        ("pair:F", "mlp"): 3,
        ("pair:F", "gcn"): 1,
    }
