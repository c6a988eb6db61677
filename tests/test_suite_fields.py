"""Every field of the schema is read: changing it changes the ids of just the jobs that it should, or what is shown.

The tables name every field of every model; a new field without a row in them fails `test_no_field_is_forgotten`.
"""

from __future__ import annotations

import copy
import typing
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel

from stage_bench import fingerprint, registry
from stage_bench.execution import reporting
from stage_bench.features.options import ShallowOptions
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store
from stage_bench.suite import resources
from stage_bench.suite.planning import Plan
from stage_bench.suite.recipe import load as load_recipe
from stage_bench.suite.resources import Resources
from stage_bench.suite.schema import (
    BackboneEntry,
    DatasetEntry,
    EnsembleEntry,
    FeatureEntry,
    Limits,
    LLMEntry,
    ResourcesEntry,
    SeedAxes,
    Suite,
)
from stage_bench.training.options import TrainingOptions, TuningOptions

SUITE: dict[str, Any] = {
    "name": "base",
    "recipe": "stage",
    "datasets": [{"name": "tiny", "path": "tiny"}],
    "llms": [{"name": "sfr-embedding-mistral"}],
    "features": [{"name": "shallow", "dimension": 4}],
    "backbones": [{"name": "mlp"}, {"name": "sage"}],
    "ensembles": [{"name": "both", "members": ["mlp", "sage"]}],
    "seeds": 2,
}
QWEN = {"name": "qwen3-embedding-0.6b"}
NO_ENSEMBLE = {"ensembles": []}
SPACE = {"lr": {"low": 0.001, "high": 0.1}}
TUNED = {**NO_ENSEMBLE, "tuning": {"trials": 3, "space": SPACE}}
AXES = {"seeds": {"split": 2, "initialisation": 2}}

RUNS = {"train", "ensemble"}
ALL = {"embed", *RUNS}
NOTHING: set[str] = set()  # in no id: what these do is tested below, one by one

Patch = dict[str, Any]


def dataset(**changes: Any) -> Patch:
    return {"datasets": [{"name": "tiny", "path": "tiny", **changes}]}


def llm(**changes: Any) -> Patch:
    return {"llms": [{"name": "sfr-embedding-mistral", **changes}]}


def sage(**changes: Any) -> Patch:
    return {**NO_ENSEMBLE, "backbones": [{"name": "mlp"}, {"name": "sage", **changes}]}


def ensemble(**changes: Any) -> Patch:
    return {
        "backbones": [{"name": "mlp"}, {"name": "sage"}, {"name": "gcn"}],
        "ensembles": [{"name": "both", "members": ["mlp", "sage"], **changes}],
    }


def tuning(**changes: Any) -> Patch:
    return {**NO_ENSEMBLE, "tuning": {"trials": 3, "space": SPACE, **changes}}


WEIGHTED = ensemble(combine="weighted", weights=[1, 2])

# field: (what the suite has before, what it has after, the kinds of jobs whose ids change)
FIELDS: dict[type[BaseModel], dict[str, tuple[Patch, Patch, set[str]]]] = {
    Suite: {
        "name": ({}, {"name": "other"}, NOTHING),
        "description": ({}, {"description": "Something else."}, NOTHING),
        "plugins": ({}, {"plugins": ["plugin.py"]}, NOTHING),
        "datasets": ({}, {"datasets": [{"name": "tiny", "path": "other"}]}, ALL),
        "llms": ({}, {"llms": []}, ALL),
        "features": ({}, {"features": []}, ALL),
        "backbones": (NO_ENSEMBLE, {**NO_ENSEMBLE, "backbones": ["gcn"]}, {"train"}),
        "ensembles": ({}, {"ensembles": []}, {"ensemble"}),
        "seeds": ({}, {"seeds": 3}, RUNS),
        "splits": ({}, {"splits": "random-40-30-30"}, RUNS),
        "recipe": ({}, {"recipe": "default"}, RUNS),
        "training": ({}, {"training": {"lr": 0.5}}, RUNS),
        "tuning": (NO_ENSEMBLE, TUNED, {"tune", "train"}),
        "memory": ({}, {"memory": "8GB"}, NOTHING),
        "limits": ({}, {"limits": {"seconds": 60}}, NOTHING),
        "resources": ({}, {"resources": {"cpus": 2}}, NOTHING),
        "compare": ({}, {"compare": ["tape"]}, NOTHING),
    },
    Limits: {
        "seconds": ({"limits": {"seconds": 60}}, {"limits": {"seconds": 0.5}}, NOTHING),
        "memory": ({"limits": {"seconds": 60}}, {"limits": {"seconds": 60, "memory": "8GiB"}}, NOTHING),
    },
    ResourcesEntry: {
        "cpus": ({"resources": {}}, {"resources": {"cpus": 2}}, NOTHING),
        "gpus": ({"resources": {}}, {"resources": {"gpus": 0.5}}, NOTHING),
        "memory": ({"resources": {}}, {"resources": {"memory": "8GiB"}}, NOTHING),
    },
    DatasetEntry: {
        "name": ({}, {"datasets": [{"name": "renamed", "path": "tiny"}]}, NOTHING),
        "path": ({}, dataset(path="other"), ALL),
        "split": ({}, dataset(split="random-40-30-30"), RUNS),
        "undirected": ({}, dataset(undirected=False), ALL),
        "optional": ({}, dataset(optional=True), NOTHING),
    },
    LLMEntry: {
        "name": ({}, {"llms": [{"name": "e5-mistral-7b-instruct"}]}, ALL),
        "instruction": ({}, llm(instruction="none"), ALL),
        "pooling": ({}, llm(pooling="mean"), ALL),
        "max_length": ({}, llm(max_length=99), ALL),
        "dtype": ({}, llm(dtype="float32"), ALL),
        "normalize": ({}, llm(normalize=False), ALL),
        "path": ({}, llm(path="weights"), ALL),
        "trust_remote_code": ({}, llm(trust_remote_code=True), ALL),
        "allow_pickled_weights": ({}, llm(allow_pickled_weights=True), NOTHING),
        "dimensions": ({"llms": [QWEN]}, {"llms": [{**QWEN, "dimensions": 64}]}, ALL),
        "pca": ({}, llm(pca=64), ALL),
        "svd": ({}, llm(svd=64), ALL),
        "batch_tokens": ({}, llm(batch_tokens=64), NOTHING),
        "device": ({}, llm(device="cpu"), NOTHING),
        "endpoint": ({}, llm(endpoint="http://localhost:1/v1"), ALL),
        "endpoint_model": (llm(endpoint=True), llm(endpoint=True, endpoint_model="served"), ALL),
        "resources": ({}, llm(resources={"gpus": 1}), NOTHING),
    },
    FeatureEntry: {
        "name": ({}, {"features": ["lengths"]}, ALL),
        "resources": ({}, {"features": [{"name": "shallow", "dimension": 4, "resources": {"cpus": 2}}]}, NOTHING),
    },
    BackboneEntry: {
        "name": (sage(), {**NO_ENSEMBLE, "backbones": ["mlp", "gcn"]}, {"train"}),
        "recipe": (sage(), sage(recipe="default"), {"train"}),
        "tuning": (sage(), sage(tuning={"trials": 2, "space": SPACE}), {"tune", "train"}),
        "resources": (sage(), sage(resources={"cpus": 2}), NOTHING),
    },
    EnsembleEntry: {
        "name": (ensemble(), ensemble(name="renamed"), NOTHING),
        "members": (ensemble(), ensemble(members=["mlp", "gcn"]), {"ensemble"}),
        "combine": (ensemble(), ensemble(combine="mean-logit"), {"ensemble"}),
        "inputs": (ensemble(), ensemble(inputs="all"), {"ensemble"}),
        "weights": (WEIGHTED, ensemble(combine="weighted", weights=[1, 3]), {"ensemble"}),
    },
    SeedAxes: {
        "split": (AXES, {"seeds": {"split": 3, "initialisation": 2}}, RUNS),
        "initialisation": (AXES, {"seeds": {"split": 2, "initialisation": [0, 9]}}, RUNS),
    },
    TuningOptions: {
        "trials": (tuning(), tuning(trials=4), {"train"}),  # a study goes on where it stopped: it stays the same one
        "sampler": (tuning(), tuning(sampler="random"), {"tune", "train"}),
        "pruner": (tuning(), tuning(pruner="median"), {"tune", "train"}),
        "timeout": (tuning(), tuning(timeout=60), {"train"}),
        "metric": (tuning(), tuning(metric="val_loss"), {"tune", "train"}),
        "scope": (tuning(), tuning(scope="per-dataset"), {"tune", "train"}),
        "seeds": (tuning(), tuning(seeds=[5]), {"tune", "train"}),
        "space": (tuning(), tuning(space={"lr": [0.1, 0.2]}), {"tune", "train"}),
    },
}
NOT_IN_IDS = {
    (Suite, "name"),
    (Suite, "description"),  # what `stage-bench ls suites` shows: test_cli.py
    (Suite, "plugins"),
    (Suite, "compare"),
    (Suite, "memory"),  # where a diffusion is made, not what comes out: test_runner.py
    # What a job may take, not what comes out: test_limits.py
    (Suite, "limits"),
    (Limits, "seconds"),
    (Limits, "memory"),
    # What a job reserves on a cluster: below
    (Suite, "resources"),
    (LLMEntry, "resources"),
    (FeatureEntry, "resources"),
    (BackboneEntry, "resources"),
    *((ResourcesEntry, field) for field in ("cpus", "gpus", "memory")),
    (DatasetEntry, "name"),
    (DatasetEntry, "optional"),  # decides whether there is a plan: test_suite.py
    # These reach the encoder or the embedding loop: test_llm_options.py
    (LLMEntry, "allow_pickled_weights"),
    (LLMEntry, "batch_tokens"),
    (LLMEntry, "device"),
    (EnsembleEntry, "name"),
}
ROWS = [(model, field) for model, fields in FIELDS.items() for field in fields]
BACKBONES = [spec.name for spec in registry.specs("backbones").values() if not spec.needs]


def options_of(backbone: str) -> type[BaseModel]:
    return registry.resolve(registry.get("backbones", backbone).options)


@pytest.fixture
def plan_of(tiny_folder, suite_file, make_plan, tmp_path: Path, own_registry):
    """The plan of the base suite with changes, in a folder that has what every change needs."""
    tiny_folder()
    tiny_folder("other", seed=1)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "plugin.py").write_text(
        "import stage_bench\nstage_bench.register_dataset(name='from-plugin', loader='x:y')\n"
    )
    registry.register_features(name="lengths", builder=lambda graph, options: None)
    return lambda changes: make_plan(suite_file({**copy.deepcopy(SUITE), **changes}))


def ids(plan: Plan) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for job in plan.jobs:
        kinds.setdefault(job.kind, set()).add(job.id)
    return kinds


def changed(before: Plan, after: Plan) -> set[str]:
    """The kinds of jobs whose ids are not the same."""
    old, new = ids(before), ids(after)
    return {kind for kind in {*old, *new} if old.get(kind) != new.get(kind)}


def other_value(annotation: Any, value: Any) -> Any:
    """A valid value of a hyperparameter that differs from the one given."""
    parts = [annotation, *typing.get_args(annotation)]  # `Literal[...] | None` holds one as well
    choices = next((typing.get_args(part) for part in parts if typing.get_origin(part) is Literal), ())
    if choices:
        return next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 2 if value else 0.25
    return 8 if value is None else value + 2


def test_no_field_is_forgotten():
    for model, fields in FIELDS.items():
        assert set(fields) == set(model.model_fields), model
    # The other models of the schema have tests that go over their fields themselves.
    reached, queue = set(), [Suite]
    while queue:
        model = queue.pop()
        reached.add(model)
        inner = [found for field in model.model_fields.values() for found in models_in(field.annotation)]
        queue += [found for found in inner if found not in reached]
    assert reached == set(FIELDS)
    assert {row for row in ROWS if FIELDS[row[0]][row[1]][2] == NOTHING} == NOT_IN_IDS


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in typing.get_args(annotation) for found in models_in(argument)]


@pytest.mark.parametrize(("model", "field"), ROWS, ids=[f"{model.__name__}.{field}" for model, field in ROWS])
def test_a_field_changes_the_ids_it_should(plan_of, model: type[BaseModel], field: str):
    before, after, kinds = FIELDS[model][field]
    assert changed(plan_of(before), plan_of(after)) == kinds


@pytest.mark.parametrize("range_", [{"low": 0.002}, {"high": 0.2}, {"log": True}])
def test_every_part_of_a_range_counts(plan_of, range_: dict[str, Any]):
    after = tuning(space={"lr": {**SPACE["lr"], **range_}})
    assert changed(plan_of(tuning()), plan_of(after)) == {"tune", "train"}


LABELS = {"label_inputs", "label_input_share", "label_iterations"}  # not every backbone takes them
SWITCHES = {
    "batch_size": {"batching": "neighbor"},
    "fanout": {"batching": "neighbor"},
    "distillation_temperature": {"distillation": 0.5},
}


@pytest.mark.parametrize("field", [field for field in TrainingOptions.model_fields if field not in LABELS])
def test_training_options_count_wherever_they_stand(plan_of, field: str):
    on = SWITCHES.get(field, {})  # without which the option would not be read
    plain = plan_of({"training": on})
    used = plain.choices.backbones[1].training
    value = other_value(TrainingOptions.model_fields[field].annotation, used[field])
    everywhere, one = plan_of({"training": {**on, field: value}}), plan_of({"training": on, **sage(**{field: value})})
    assert [backbone.training for backbone in everywhere.choices.backbones] == [{**used, field: value}] * 2
    assert [backbone.label for backbone in everywhere.choices.backbones] == ["mlp", "sage"]
    assert [backbone.training for backbone in one.choices.backbones] == [used, {**used, field: value}]
    assert one.choices.backbones[1].label.startswith(f"sage({field}=")
    assert changed(plain, everywhere) == RUNS
    trains = {job.id for job in plain.jobs if job.kind == "train" and job.backbone == "mlp"}
    assert trains == {job.id for job in one.jobs if job.backbone == "mlp"}
    assert not trains & {job.id for job in everywhere.jobs}


def test_label_options_count(plan_of):
    on = {"label_inputs": True}
    more = [{}, on, {**on, "label_input_share": 0.3}, {**on, "label_iterations": 2}]
    plans = [plan_of(sage(**options)) for options in more]
    trains = [{job.id for job in plan.jobs if job.backbone.startswith("sage")} for plan in plans]
    assert len(set.union(*trains)) == sum(map(len, trains)) > 0
    assert {key for options in more for key in options} == LABELS


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone_options_count_and_show(plan_of, backbone: str):
    alone = {**NO_ENSEMBLE, "seeds": 1, "recipe": "default"}  # the one that has every backbone
    if registry.get("backbones", backbone).reads == "predictions":
        alone["features"] = ["lora"]
    before = plan_of({**alone, "backbones": [backbone]})
    used = before.choices.backbones[0].options
    model = options_of(backbone)
    assert set(used) == set(model.model_fields)
    for field, info in model.model_fields.items():
        value = other_value(info.annotation, used[field])
        after = plan_of({**alone, "backbones": [{"name": backbone, field: value}]})
        assert changed(before, after) == {"train"}, field
        assert after.choices.backbones[0].options == {**used, field: value}
        assert after.choices.backbones[0].label.startswith(f"{backbone}({field}=")


def test_a_recipe_gives_what_the_suite_leaves_open(plan_of):
    values = load_recipe("stage").values["sage"]
    choice = plan_of({}).choices.backbones[1]
    given = {**choice.options, **choice.training}
    assert {key: given[key] for key in values} == values
    left = {key: value for key, value in given.items() if key not in values}
    assert left == {key: TrainingOptions.model_fields[key].default for key in left}


@pytest.mark.parametrize("field", ShallowOptions.model_fields)
def test_options_of_shallow_features_count_and_reach_them(plan_of, field: str):
    plain = {"dimension": 4}
    value = other_value(ShallowOptions.model_fields[field].annotation, ShallowOptions(**plain).model_dump()[field])
    value = 25 if field == "vocabulary" else value  # of the 30 words there are
    before, after = plan_of({}), plan_of({"features": [{"name": "shallow", **plain, field: value}]})
    assert changed(before, after) == ALL
    assert f"{field}={str(value).lower()}" in after.choices.features[0].label
    build = registry.resolve(registry.get("features", "shallow").builder)
    arrays = [build(before.graphs["tiny"], ShallowOptions(**{**plain, **more})) for more in ({}, {field: value})]
    assert arrays[0].shape != arrays[1].shape or abs(arrays[0] - arrays[1]).max() > 1e-3


def test_names_are_what_is_shown(plan_of):
    plan = plan_of(
        {**FIELDS[DatasetEntry]["name"][1], "ensembles": [{"name": "renamed-too", "members": ["mlp", "sage"]}]}
    )
    assert {job.dataset for job in plan.jobs} == {"renamed"}
    assert {job.backbone for job in plan.jobs if job.kind == "ensemble"} == {"renamed-too"}


def test_plugins_register(plan_of):
    plan_of({})
    assert "from-plugin" not in registry.specs("datasets")
    plan_of({"plugins": ["plugin.py"]})
    assert "from-plugin" in registry.specs("datasets")


def test_name_and_compare_are_the_reports(plan_of, tmp_path: Path):
    """The suite's name is the report's folder; `compare` puts published rows beside ours."""
    store = Store(tmp_path / "results")

    def report(changes: Patch) -> Counter[str]:
        plan = plan_of({"datasets": [{"name": "cora", "path": "tiny"}], "ensembles": [], "seeds": 1, **changes})
        for job in plan.runs:
            record = RunRecord(
                id=job.id, status="ok", kind=job.kind, dataset=job.dataset, split=job.split, features=job.features,
                llm=job.llm, instruction=job.instruction, backbone=job.backbone, split_seed=job.split_seed,
                init_seed=job.init_seed, content=job.content, metrics={"test_accuracy": 0.5, "val_accuracy": 0.5},
                split_fingerprint="same",
            )  # fmt: skip
            graph = plan.graphs[job.dataset]
            store.put(record, {"probabilities": np.full((graph.num_nodes, graph.num_classes), 0.5, np.float16)})
        board, paths = reporting.write(plan, reporting.rows(plan, store), tmp_path / "reports", store.results)
        assert {path.relative_to(tmp_path / "reports").parts[0] for path in paths} == {plan.choices.suite.name}
        return Counter(source.partition(" ")[0] for source in board["source"][board["origin"] == "published"])

    assert not report({})
    assert set(report({"name": "beside-tape", "compare": ["tape"]})) == {"TAPE"}
    assert set(report({"name": "beside-both", "compare": ["tape", "stage"]})) == {"TAPE", "STAGE"}


@pytest.mark.parametrize("change", [{"undirected": False}, {"split": "random-40-30-30"}])
def test_a_registered_dataset_takes_the_same_options(plan_of, suite_file, make_plan, tmp_path: Path, change: Patch):
    (tmp_path / "tiny").rename(tmp_path / "cora")
    plain, other = (
        make_plan(suite_file({**SUITE, "llms": [], "datasets": [{"name": "cora", **more}]}), tmp_path)
        for more in ({}, change)
    )
    assert changed(plain, other) == (ALL if "undirected" in change else RUNS)


def test_resources_are_reserved_for_the_jobs_that_they_stand_by(plan_of):
    """An entry's own, key by key before the suite's; `execution.reservations` asks a cluster for them."""
    suite = {
        **NO_ENSEMBLE,
        "resources": {"cpus": 2, "memory": "1GB"},
        "llms": [{"name": "sfr-embedding-mistral", "resources": {"gpus": 1, "memory": "40GB"}}],
        "features": [{"name": "shallow", "dimension": 4, "resources": {"cpus": 3}}],
        "backbones": [{"name": "mlp", "resources": {"gpus": 0.5}}, {"name": "sage", "tuning": {"trials": 2}}],
    }
    plan = plan_of(suite)
    found = resources.of_jobs(plan.choices, plan.jobs)
    reserved = {(job.kind, job.backbone or job.llm or job.features): found[job.id] for job in plan.jobs}
    assert reserved == {
        ("embed", "sfr-embedding-mistral"): Resources(2, 1, 40 * 10**9),
        ("embed", "shallow(dimension=4)"): Resources(3, None, 10**9),
        ("train", "mlp"): Resources(2, 0.5, 10**9),
        ("tune", "sage(tuning=2)"): Resources(2, None, 10**9),
        ("train", "sage(tuning=2)"): Resources(2, None, 10**9),
    }
    assert not resources.of_jobs(plan_of({}).choices, plan_of({}).jobs)


def test_ids_depend_on_content_alone(plan_of, suite_file, make_plan, tmp_path: Path):
    """Not on the order of keys and entries, where files lie, what the suite and its datasets are called."""
    before = ids(plan_of({}))

    def reordered(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reordered(value[key]) for key in reversed(value)}
        return [reordered(item) for item in value] if isinstance(value, list) else value

    suite = copy.deepcopy(SUITE)
    assert ids(make_plan(suite_file(reordered(suite)))) == before
    suite["backbones"].reverse()
    suite["ensembles"][0]["members"].reverse()
    suite["seeds"] = [1, 0]
    assert ids(make_plan(suite_file(suite))) == before
    (tmp_path / "tiny").rename(tmp_path / "moved")
    suite["datasets"] = [{"name": "other-name", "path": str(tmp_path / "moved")}]
    assert ids(make_plan(suite_file(suite, "far/away/other.yaml"))) == before
    # A registered dataset is the same one.
    (tmp_path / "moved").rename(tmp_path / "cora")
    suite["datasets"] = ["cora"]
    suite["llms"] = []
    named = ids(make_plan(suite_file(suite), tmp_path))
    assert all(named[kind] < before[kind] for kind in ALL)


def test_an_id_is_the_hash_of_what_determines_the_result(plan_of):
    jobs = plan_of(TUNED).jobs
    assert [job.id for job in jobs] == [fingerprint.of_json(job.content) for job in jobs]
    assert len({job.id for job in jobs}) == len(jobs)
