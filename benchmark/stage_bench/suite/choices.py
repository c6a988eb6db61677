"""From a suite's entries to what they stand for: every name looked up, every option checked, nothing loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stage_bench import registry
from stage_bench.backbones.spec import BackboneChoice, BackboneSpec
from stage_bench.datasets.splits import random_shares
from stage_bench.errors import StageBenchError
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms.spec import LLMChoice
from stage_bench.located_yaml import Document
from stage_bench.suite.folders import published_names, recipe_names
from stage_bench.suite.labels import label
from stage_bench.suite.llm_choices import choose_llm
from stage_bench.suite.reading import validate
from stage_bench.suite.recipe import Recipe, option_names
from stage_bench.suite.recipe import load as load_recipe
from stage_bench.suite.schema import BackboneEntry, DatasetEntry, EnsembleEntry, FeatureEntry, SeedAxes, Suite
from stage_bench.training.options import TrainingOptions, TuningOptions, unread


@dataclass(frozen=True)
class Choices:
    """A suite, resolved. `seeds` are pairs (split, initialisation)."""

    suite: Suite
    document: Document
    datasets: tuple[DatasetEntry, ...]
    llms: tuple[LLMChoice, ...]
    features: tuple[FeatureChoice, ...]
    backbones: tuple[BackboneChoice, ...]
    ensembles: tuple[EnsembleEntry, ...]
    seeds: tuple[tuple[int, int], ...]


def choose(suite: Suite, document: Document) -> Choices:
    """Check every name and option of a suite.

    Raises:
        StageBenchError: with the place, what is valid and the nearest.
    """
    for position, plugin in enumerate(suite.plugins):
        try:
            registry.load_plugin(document.folder(["plugins", position]) / plugin)
        except StageBenchError as error:
            raise document.error(["plugins", position], str(error)) from None
    if not suite.llms and not suite.features:
        raise document.error([], "a suite needs `llms` or `features`: what should the models see?")
    _no_duplicates([entry.name for entry in suite.datasets], "datasets", document)
    for position, dataset in enumerate(suite.datasets):
        _check_dataset(dataset, document, ["datasets", position])
    if suite.splits is not None:
        _check_split(suite.splits, document, ["splits"])
    llms = [choose_llm(entry, document, ["llms", position]) for position, entry in enumerate(suite.llms)]
    _no_duplicates([f"{llm.label} ({llm.instruction})" for llm in llms], "llms", document)
    features = [_feature(entry, document, ["features", position]) for position, entry in enumerate(suite.features)]
    _no_duplicates([feature.label for feature in features], "features", document)
    if suite.recipe not in recipe_names():
        raise document.error(["recipe"], registry.unknown("recipe", suite.recipe, recipe_names()))
    for key in suite.training:
        if key not in TrainingOptions.model_fields:
            problem = registry.unknown("key", key, TrainingOptions.model_fields)
            raise document.error(["training", key], problem, key=True)
    validate(TrainingOptions, suite.training, document, ["training"])
    backbones = [_backbone(entry, suite, document, position) for position, entry in enumerate(suite.backbones)]
    labels = [backbone.label for backbone in backbones]
    _no_duplicates(labels, "backbones", document)
    _no_duplicates([*labels, *(ensemble.name for ensemble in suite.ensembles)], "ensembles", document, len(labels))
    for position, ensemble in enumerate(suite.ensembles):
        for place, member in enumerate(ensemble.members):
            if member not in labels:
                problem = registry.unknown("ensemble member", member, labels)
                raise document.error(["ensembles", position, "members", place], problem)
        if len(set(ensemble.members)) < len(ensemble.members):
            raise document.error(["ensembles", position, "members"], "a member stands here twice")
    for position, name in enumerate(suite.compare):
        if name not in published_names():
            problem = registry.unknown("published numbers", name, published_names())
            raise document.error(["compare", position], problem)
    _no_duplicates(suite.compare, "compare", document)
    return Choices(
        suite,
        document,
        tuple(suite.datasets),
        tuple(llms),
        tuple(features),
        tuple(backbones),
        tuple(suite.ensembles),
        _seed_pairs(suite, document),
    )


def _no_duplicates(names: list[str], key: str, document: Document, offset: int = 0) -> None:
    for position, name in enumerate(names):
        if name in names[:position]:
            raise document.error([key, position - offset], f"'{name}' stands in {key} twice")


def _check_dataset(entry: DatasetEntry, document: Document, location: list[str | int]) -> None:
    if entry.path is None and entry.name not in registry.specs("datasets"):
        problem = registry.unknown("dataset", entry.name, registry.specs("datasets"))
        at = [*location, "name"]
        raise document.error(at, f"{problem}; a graph of your own is {{name: {entry.name}, path: FOLDER}}")


def _check_split(protocol: str, document: Document, location: list[str | int]) -> None:
    try:
        known = random_shares(protocol) is not None
    except StageBenchError as error:
        raise document.error(location, str(error)) from None
    if not known:
        raise document.error(location, f"unknown split '{protocol}' (valid: random-60-20-20, or other percentages)")


def _feature(entry: FeatureEntry, document: Document, location: list[str | int]) -> FeatureChoice:
    known = registry.specs("features")
    if entry.name not in known:
        raise document.error(
            [*location, "name"], registry.unknown("feature source", entry.name, registry.ready("features"))
        )
    spec = known[entry.name]
    if spec.needs:
        raise document.error([*location, "name"], f"feature source '{entry.name}': {spec.needs}")
    given = entry.model_extra or {}
    if not spec.options:
        for key in given:
            raise document.error([*location, key], registry.unknown("key", key, ["name"]), key=True)
        return FeatureChoice(entry.name, entry.name, {})
    model = registry.resolve(spec.options)
    options = validate(model, given, document, location).model_dump()
    standard = model().model_dump()
    differing = {key: value for key, value in options.items() if value != standard[key]}
    return FeatureChoice(entry.name, label(entry.name, differing), options)


def _backbone(entry: BackboneEntry, suite: Suite, document: Document, position: int) -> BackboneChoice:
    location: list[str | int] = ["backbones", position]
    known = registry.specs("backbones")
    if entry.name not in known:
        raise document.error([*location, "name"], registry.unknown("backbone", entry.name, registry.ready("backbones")))
    spec = known[entry.name]
    if spec.needs:
        raise document.error([*location, "name"], f"backbone '{entry.name}': {spec.needs}")
    given = dict(entry.model_extra or {})
    valid = option_names(entry.name)
    for key in given:
        if key not in valid:
            problem = registry.unknown("key", key, ["name", "recipe", "tuning", *valid])
            raise document.error([*location, key], problem, key=True)
    try:
        recipe = load_recipe(entry.recipe or suite.recipe)
    except StageBenchError as error:
        raise document.error([*location, "recipe"], str(error)) from None
    if entry.name not in recipe.values and entry.name in load_recipe("default").values:
        problem = f"recipe '{recipe.name}' has no values for {entry.name}; give this entry `recipe: default`"
        raise document.error(location, problem)
    values = recipe.values.get(entry.name, {})
    options, training = settle(entry.name, {**values, **suite.training, **given}, document, location)
    _check_combination(entry, suite, spec, options, training, document, location)
    standard = {**_all(entry.name, values)}
    differing = {
        key: value for key, value in {**options, **training}.items() if key in given and value != standard[key]
    }
    if entry.recipe and entry.recipe != suite.recipe:
        differing["recipe"] = entry.recipe
    if entry.tuning is not None:
        differing["tuning"] = entry.tuning.trials
    tuning = entry.tuning or suite.tuning
    return BackboneChoice(
        name=entry.name,
        label=label(entry.name, differing),
        version=spec.version,
        options=options,
        training=training,
        trials=tuning.trials if tuning else 0,
        sampler=tuning.sampler if tuning else "",
        tuning_seeds=tuple(tuning.seeds) if tuning else (),
        space=_space(entry.name, tuning, recipe, given, document, [*location, "tuning"] if entry.tuning else ["tuning"])
        if tuning
        else None,
    )


def _check_combination(
    entry: BackboneEntry,
    suite: Suite,
    spec: BackboneSpec,
    options: dict[str, Any],
    training: dict[str, Any],
    document: Document,
    location: list[str | int],
) -> None:
    """That nothing is asked for that nothing would read, or that cannot be."""
    searched = {**((suite.tuning and suite.tuning.space) or {}), **((entry.tuning and entry.tuning.space) or {})}
    for place, given in ((location, entry.model_extra or {}), (["training"], suite.training)):
        for key in given:
            needs = unread(key, training) if key in TrainingOptions.model_fields else None
            if needs is not None and not set(searched) & {"batching", "label_inputs", "distillation"}:
                raise document.error([*place, key], f"{key} is read only with {needs}", key=True)
    if training["label_inputs"]:
        if spec.family != "message passing":
            problem = f"label_inputs needs a backbone of message passing, which {entry.name} is not"
            raise document.error(location, problem)
        if training["batching"] != "full":
            raise document.error(location, "label_inputs needs batching: full")
    if options.get("reversible") and training["batching"] == "neighbor":
        raise document.error(location, "reversible: true needs batching: full; a batch is small as it is")


def settle(
    backbone: str, values: dict[str, Any], document: Document, location: list[str | int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split values into the backbone's options and its training's, checked and complete."""
    model = registry.resolve(registry.get("backbones", backbone).options)
    own = {key: value for key, value in values.items() if key in model.model_fields}
    rest = {key: value for key, value in values.items() if key not in model.model_fields}
    options = validate(model, own, document, location)
    return options.model_dump(), validate(TrainingOptions, rest, document, location).model_dump()


def _all(backbone: str, values: dict[str, Any]) -> dict[str, Any]:
    """The recipe's values with the gaps filled in."""
    model = registry.resolve(registry.get("backbones", backbone).options)
    return {**model().model_dump(), **TrainingOptions().model_dump(), **values}


def _space(
    backbone: str,
    tuning: TuningOptions,
    recipe: Recipe,
    given: dict[str, Any],
    document: Document,
    location: list[str | int],
) -> dict[str, Any]:
    """The search space: the suite's, else the recipe's; an option that the entry fixes is not searched."""
    if tuning.space is None:
        space = recipe.spaces.get(backbone)
        if not space:
            raise document.error(location, f"recipe '{recipe.name}' has no space for {backbone}: give space:")
        space = {key: range_ for key, range_ in space.items() if key not in given}
    else:
        space = tuning.space
        for key in space:
            if key not in option_names(backbone):
                problem = registry.unknown("option", key, option_names(backbone))
                raise document.error([*location, "space", key], problem, key=True)
    if not space:
        raise document.error(location, f"{backbone}: nothing is left to search: every option is given")
    settled: dict[str, Any] = {}
    for key, range_ in space.items():
        is_range = isinstance(range_, dict)
        ends = [range_["low"], range_["high"]] if is_range else range_
        checked = [_settled_value(backbone, key, end, document, [*location, "space"]) for end in ends]
        # 0 to 1 of an option that is a fraction means fractions, not the whole numbers 0 and 1.
        settled[key] = {**range_, "low": checked[0], "high": checked[1]} if is_range else checked
    return settled


def _settled_value(backbone: str, key: str, value: Any, document: Document, location: list[str | int]) -> Any:
    options, training = settle(backbone, {key: value}, document, location)
    return {**options, **training}[key]


def _seed_pairs(suite: Suite, document: Document) -> tuple[tuple[int, int], ...]:
    def listed(value: int | list[int], location: list[str | int]) -> list[int]:
        seeds = list(range(value)) if isinstance(value, int) else value
        for position, seed in enumerate(seeds):
            if seed in seeds[:position]:
                raise document.error([*location, position], f"seed {seed} stands here twice")
        return seeds

    if isinstance(suite.seeds, SeedAxes):
        splits = listed(suite.seeds.split, ["seeds", "split"])
        inits = listed(suite.seeds.initialisation, ["seeds", "initialisation"])
        return tuple((split, init) for split in splits for init in inits)
    return tuple((seed, seed) for seed in listed(suite.seeds, ["seeds"]))
