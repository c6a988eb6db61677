"""From `tuning:` in a suite to a settled study: which space is meant, conditions, and a place for every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import stage_bench
from stage_bench import registry
from stage_bench.backbones.options import BackboneOptions
from stage_bench.errors import StageBenchError
from stage_bench.suite.choices import choose
from stage_bench.suite.folders import recipe_names
from stage_bench.suite.reading import read
from stage_bench.suite.recipe import load, option_names
from stage_bench.training import spaces
from stage_bench.training.options import TrainingOptions, TuningChoice, TuningOptions

SUITE: dict[str, Any] = {"name": "a", "datasets": ["cora"], "llms": ["minilm"], "backbones": ["gcn"]}
FANOUT = {"low": 2, "high": 9, "when": {"batching": "neighbor"}}


@pytest.fixture
def study(suite_file):
    """The study of a suite's first backbone."""

    def make(tuning: dict[str, Any], backbone: Any = "gcn", **more: Any) -> TuningChoice:
        suite = {**SUITE, "backbones": [backbone], "tuning": {"trials": 3, **tuning}, **more}
        (found,) = (chosen.tuning for chosen in choose(*read(suite_file(suite))).backbones)
        return found

    return make


@pytest.fixture
def mistake(tmp_path: Path):
    """What is said of a suite whose fifth line is this one."""

    def make(line: str, backbone: str = "gcn") -> str:
        path = tmp_path / "suite.yaml"
        path.write_text(f"name: a\ndatasets: [cora]\nllms: [minilm]\nbackbones: [{backbone}]\n{line}\n")
        with pytest.raises(StageBenchError) as caught:
            choose(*read(path))
        said = str(caught.value)
        assert "\n" not in said
        return said.removeprefix(f"{path}:")

    return make


def test_every_key_reaches_the_study(study):
    settled = study(
        {
            **{"sampler": "grid", "pruner": "hyperband", "timeout": 60, "seeds": [5, 6], "metric": "val_loss"},
            **{"scope": "shared", "space": {"hidden": [8, 16]}},
        }
    )
    expected = TuningChoice(3, "grid", "hyperband", 60.0, (5, 6), "val_loss", "shared", {"hidden": [8, 16]})
    assert settled == expected
    plain = study({})
    assert (plain.sampler, plain.pruner, plain.timeout, plain.seeds) == ("tpe", "none", None, (1000,))
    assert (plain.metric, plain.scope) == ("val_accuracy", "per-dataset-llm")


def test_spaces_by_name(study):
    grid = {"dropout": [0.1, 0.3, 0.5], "hidden": [128, 256, 512], "num_layers": [4, 6, 8]}
    for member in ("mlp", "gcn", "sage", "revgat"):
        assert study({"space": "stage", "sampler": "grid"}, member).space == grid
    assert len(list(spaces.grid(grid))) == 27
    sampling = study({"space": "simteg"}, "sage").space
    assert sampling["lr"] == {"low": 1e-4, "high": 1e-2, "log": True}
    assert sampling["weight_decay"] == {"low": 1e-7, "high": 1e-4, "log": True}
    assert (sampling["dropout"], sampling["label_smoothing"]) == ({"low": 0.1, "high": 0.8}, {"low": 0.1, "high": 0.7})
    assert sampling["num_layers"] == {"low": 2, "high": 3}
    for backbone, hops in {"simplegcn": "k", "sagn": "k", "sign": "s", "appnp": "k"}.items():
        decoupled = study({"space": "simteg"}, backbone).space
        assert decoupled["lr"] == {"low": 1e-5, "high": 1e-2, "log": True}
        assert decoupled[hops] == {"low": 4, "high": 8}
    reversible = study({"space": "simteg"}, "revgat").space
    assert reversible["label_iterations"] == {"choices": [1, 2], "when": {"label_inputs": [True]}}
    assert study({"space": "tape"}, "revgat").space == {"dropout": [0.0, 0.5, 0.75]}
    assert study({"space": "simteg"}, {"name": "gcn", "recipe": "stage"}).space == study({"space": "simteg"}).space


@pytest.mark.parametrize(
    ("recipe", "backbone"), [(recipe, backbone) for recipe in recipe_names() for backbone in load(recipe).spaces]
)
def test_every_space_of_every_recipe_can_be_searched(study, recipe, backbone):
    """Each value is one that the backbone takes, each option one that is read."""
    settled = study({"space": recipe}, backbone).space
    assert set(settled) == set(load(recipe).spaces[backbone])


@pytest.mark.parametrize("name", [name for name in registry.ready("backbones") if name != "none"])
def test_every_backbone_has_a_space_that_holds_its_recipe(study, name):
    """So that the first trial is the recipe, and no tuned backbone is worse than the recipe on tuning's own nodes."""
    if registry.get("backbones", name).reads == "predictions":
        pytest.skip("nothing to search")
    chosen = study({}, name)
    assert chosen.space
    values = {**load("default").values[name]}
    standard = registry.resolve(registry.get("backbones", name).options)().model_dump()
    assert spaces.within(chosen.space, {**TrainingOptions().model_dump(), **standard, **values}) is not None


def test_an_option_that_the_entry_fixes_is_not_searched(study):
    assert "lr" not in study({}, {"name": "gcn", "lr": 0.5}).space
    assert "dropout" not in study({"space": "stage"}, {"name": "gcn", "dropout": 0.2}).space
    assert "lr" in study({"space": {"lr": [0.1]}}, {"name": "gcn", "lr": 0.5}).space, "the suite's own space is meant"
    assert study({}, {"name": "gcn", "lr": 0.5, "tuning": {"trials": 7}}).trials == 7
    own = {"name": "gcn", "lr": 0.5, "tuning": {"trials": 7, "space": {"lr": [0.1, 0.2]}}}
    with pytest.raises(StageBenchError, match="lr is searched here and set in the entry of gcn: drop one of them"):
        study({}, own)


def test_a_pruner_that_would_never_look_is_refused(study):
    few = {"name": "gcn", "epochs": 30}
    with pytest.raises(StageBenchError, match="a pruner looks after 30 epochs, and a trial has 30; leave it out"):
        study({"pruner": "median"}, few)
    assert study({"pruner": "median", "seeds": [5, 6]}, few).pruner == "median"
    assert study({"pruner": "median"}, {"name": "logistic-regression"}).pruner == "none"


def test_values_are_those_that_the_option_takes(study):
    settled = study({"space": {"dropout": {"low": 0, "high": 0.5}, "lr": [1, 0.5], "hidden": {"low": 8, "high": 16}}})
    assert repr(settled.space["dropout"]) == "{'low': 0.0, 'high': 0.5}"
    assert repr(settled.space["lr"]) == "[1.0, 0.5]"
    assert repr(settled.space["hidden"]) == "{'low': 8, 'high': 16}"


def test_conditions_on_what_is_searched_and_on_what_is_fixed(study):
    searched = {"fanout": FANOUT, "batching": ["full", "neighbor"]}
    assert study({"space": searched}).space["fanout"] == {"low": 2, "high": 9, "when": {"batching": ["neighbor"]}}
    fixed = study({"space": {"fanout": FANOUT}}, {"name": "gcn", "batching": "neighbor"})
    assert fixed.space == {"fanout": {"low": 2, "high": 9}}, "it holds, so there is nothing to wait for"
    # Of values that the other option never takes, those that are left count.
    lists = {"dropout": {"choices": [0.1, 0.2], "when": {"num_layers": [2, 3, 9]}}, "num_layers": {"low": 2, "high": 4}}
    assert study({"space": lists}).space["dropout"] == {"choices": [0.1, 0.2], "when": {"num_layers": [2, 3]}}


def test_what_the_suite_settles_otherwise_is_left_out_of_a_named_space(study):
    entry = {"name": "revgat", "label_inputs": False}
    settled = study({"space": "simteg"}, entry).space
    assert {"label_inputs", "label_iterations"} & set(settled) == set()
    entry["label_inputs"] = True
    assert study({"space": "simteg"}, entry).space["label_iterations"] == [1, 2]


def test_an_option_is_searched_where_its_switch_is(study):
    both = {"label_iterations": [1, 2], "label_inputs": [True, False]}
    assert study({"space": both}, "revgat").space == both
    assert study({"space": {"label_iterations": [1, 2]}}, {"name": "revgat", "label_inputs": True}).space
    smooth = {"distillation": {"low": 0.0, "high": 1.0}, "distillation_temperature": {"low": 0.5, "high": 2.0}}
    assert study({"space": smooth}).space == smooth


def test_values_that_go_with_some_of_the_others(study):
    """RevGAT's width is to be divisible by its groups."""
    assert study({"space": {"hidden": [9, 8], "groups": [2, 3]}}, "revgat").space


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tuning: {trials: 2, sampler: tpee}", "30: unknown sampler 'tpee'; did you mean 'tpe'?"),
        ("tuning: {trials: 2, pruner: medan}", "29: unknown pruner 'medan'; did you mean 'median'?"),
        ("tuning: {trials: 2, metric: test_accuracy}", "29: unknown metric 'test_accuracy'"),
        ("tuning: {trials: 2, scope: dataset}", "28: unknown scope 'dataset'"),
        ("tuning: {trials: 2, timeout: 0}", "30: tuning.timeout: input should be greater than 0 (here: 0)"),
        ("tuning: {trials: 2, timeout: '5'}", "30: tuning.timeout: input should be a valid number (here: '5')"),
        ("tuning: {trials: 2, space: stge}", "28: unknown recipe 'stge'; did you mean 'stage'?"),
        ("tuning: {trials: 2, space: originals}", "28: recipe 'originals' has no space for gcn (it has: simplegcn)"),
        ("tuning: {trials: 2, space: 3}", "28: tuning.space: a space is {option: what it may be}, or the name of a"),
        ("tuning: {trials: 2, space: [lr]}", "28: tuning.space: a space is {option: what it may be}"),
        ("tuning: {trials: 2, space: {lr: {low: 1, high: 0.1}}}", "28: tuning.space: lr: low must be a number below"),
        ("tuning: {trials: 2, sampler: grid}", "30: gcn: dropout: grid needs lists or whole-number ranges"),
        ("tuning: {trials: 2, sampler: grid, space: {lr: {low: 0.1, high: 1}}}", "30: gcn: lr: grid needs lists"),
        (
            "tuning: {trials: 2, sampler: gp, space: {fanout: {choices: [2], when: {batching: neighbor}}, "
            "batching: [full, neighbor]}}",
            "30: gcn: gp draws all options together, and fanout has a condition; take sampler: tpe",
        ),
        (
            "tuning: {trials: 2, space: {fanout: {low: 2, high: 9, when: {batching: neighbor}}}}",
            "29: fanout is searched only where batching is neighbor, and it is full here",
        ),
        (
            "tuning: {trials: 2, space: {fanout: {low: 2, high: 9}}}",
            "29: fanout is read only with batching: neighbor: search batching too, or set it",
        ),
        (
            "tuning: {trials: 2, space: {fanout: {low: 2, high: 9}, batching: [full]}}",
            "29: fanout is read only with batching: neighbor: search batching too, or set it",
        ),
        (
            "tuning: {trials: 2, space: {dropout: {choices: [0.1], when: {hiden: 2}}}}",
            "29: when: unknown option 'hiden'; did you mean 'hidden'?",
        ),
        (
            "tuning: {trials: 2, space: {dropout: {choices: [0.1], when: {hidden: 3}}, hidden: [4, 5]}}",
            "29: when: hidden is never 3 in this space",
        ),
        (
            "tuning: {trials: 2, space: {dropout: {choices: [0.1], when: {lr: 0.1}}, lr: {low: 0.01, high: 1}}}",
            "29: when: lr is a range of fractions, which hits no value exactly",
        ),
        (
            "tuning: {trials: 2, space: {dropout: {choices: [0.1], when: {optimizer: adm}}}}",
            "73: unknown optimizer 'adm'; did you mean 'adam'?",
        ),
        (
            "tuning: {trials: 2, space: {lr: {choices: [1], when: {dropout: 0.5}}, "
            "dropout: {choices: [0.5], when: {lr: 1}}}}",
            "28: tuning.space: dropout: the conditions of dropout, lr wait for each other",
        ),
        (
            "tuning: {trials: 2, space: {dropout: {low: 0, high: 1, step: 1}}}",
            "38: dropout: input should be less than 1",
        ),
        (
            "tuning: {trials: 2, space: {lr: {low: 1, high: 3, step: 1}}}",
            "29: lr takes fractions, and step is for ranges of whole numbers; give a list",
        ),
        ("tuning: {trials: 2, space: {optimizer: {low: 1, high: 2}}}", "40: unknown optimizer '1'"),
        ("tuning: {trials: 2, space: {batch_norm: {low: 0, high: 1}}}", "41: batch_norm: write true or false"),
    ],
)
def test_one_line_for_one_mistake(mistake, line, message):
    assert mistake(line).startswith(f"5:{message}")


def test_values_that_go_with_none_of_the_others(mistake):
    said = mistake("tuning: {trials: 2, space: {hidden: [8, 9]}}", "revgat")
    assert said.startswith("5:37: hidden is 9: it must be divisible by groups, which is 2")
    assert "num_layers is 2" in mistake("tuning: {trials: 2, space: {num_layers: {low: 2, high: 4}}}", "revgat")


class Options(BackboneOptions):
    width: int = 4


def test_a_backbone_that_declares_its_own_space(study, mistake, own_registry):
    def register(name: str, space: dict[str, Any] | None) -> None:
        stage_bench.register_backbone(name=name, summary="", module="x:y", options=Options, space=space)

    register("declared", {"width": [2, 4]})
    assert study({}, "declared").space == {"width": [2, 4]}
    assert study({"space": {"lr": [0.1]}}, "declared").space == {"lr": [0.1]}
    register("bare", None)
    assert mistake("tuning: {trials: 2}", "bare").startswith("5:9: recipe 'default' has no space for bare: give space:")
    register("crossed", {"width": {"low": 4, "high": 2}})
    said = mistake("tuning: {trials: 2}", "crossed")
    assert said.startswith("5:9: the space that crossed declares: width: low must be a number below high")
    register("unknown", {"wdth": [2]})
    assert "unknown option 'wdth'; did you mean 'width'?" in mistake("tuning: {trials: 2}", "unknown")


def test_a_method_without_epochs_has_its_own_options_only(study, mistake, own_registry):
    stage_bench.register_backbone(
        **{"name": "solved", "summary": "", "module": "x:y", "options": Options, "family": "direct"},
        space={"width": {"low": 1, "high": 4}},
    )
    assert option_names("solved") == ["width"]
    assert study({"sampler": "grid"}, "solved").space == {"width": {"low": 1, "high": 4}}
    said = mistake("tuning: {trials: 2, space: {lr: [0.1]}}", "solved")
    assert said.startswith("5:29: unknown option 'lr' (valid: width)")


def test_a_mistake_in_a_recipe_has_its_place_there(tmp_path, monkeypatch, suite_file):
    folder = tmp_path / "baselines"
    (folder / "published").mkdir(parents=True)
    own = "name: own\nbackbones:\n  gcn: {lr: 0.1}\nspaces:\n  gcn:\n    dropout: [0.1, 1.5]\n"
    (folder / "own.yaml").write_text(own)
    (folder / "default.yaml").write_text("name: default\n")
    (folder / "crossed.yaml").write_text(own.replace("[0.1, 1.5]", "{low: 0.5, high: 0.1}"))
    monkeypatch.setattr("stage_bench.suite.recipe.folder", lambda name: folder)
    monkeypatch.setattr("stage_bench.suite.folders.folder", lambda name: folder)
    suite = {**SUITE, "recipe": "own", "tuning": {"trials": 2}}
    with pytest.raises(StageBenchError) as caught:
        choose(*read(suite_file(suite)))
    assert str(caught.value).startswith(f"{folder / 'own.yaml'}:6:14: dropout: input should be less than 1")
    with pytest.raises(StageBenchError, match=r"crossed\.yaml:\d+:\d+: space: dropout: low must be a number below"):
        load("crossed")


def test_the_page_shows_a_study_that_can_be_asked_for(suite_file):
    page = (Path(__file__).parents[1] / "docs" / "tuning.md").read_text(encoding="utf-8")
    block = page.partition("```yaml\n")[2].partition("```")[0]
    suite = "name: a\ndatasets: [cora]\nllms: [minilm]\nbackbones: [gcn]\n" + block
    (chosen,) = choose(*read(suite_file(suite))).backbones
    assert set(chosen.tuning.space) == {"lr", "hidden", "batching", "fanout", "batch_size"}
    assert all(f"\n  {name}:" in block for name in TuningOptions.model_fields)
    assert all(f"| `{name}` |" in page for name in recipe_names() if load(name).spaces)
