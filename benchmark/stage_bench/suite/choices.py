"""From a suite's entries to what they stand for: every name looked up, every option checked, nothing loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stage_bench import registry
from stage_bench.backbones.spec import BackboneChoice, BackboneSpec
from stage_bench.datasets.splits import random_shares
from stage_bench.errors import StageBenchError, brief
from stage_bench.features import source
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms.spec import LLMChoice
from stage_bench.located_yaml import Document
from stage_bench.suite.feature_choices import BundleChoice, choose_features
from stage_bench.suite.folders import published_names, recipe_names
from stage_bench.suite.labels import label
from stage_bench.suite.llm_choices import choose_llm
from stage_bench.suite.reading import validate
from stage_bench.suite.recipe import load as load_recipe
from stage_bench.suite.recipe import option_names
from stage_bench.suite.schema import MOST_SEEDS, BackboneEntry, DatasetEntry, EnsembleEntry, SeedAxes, Suite
from stage_bench.suite.tuning_choices import choose_tuning
from stage_bench.training.options import TrainingOptions, TuningOptions, unread

_MOST_RUNS = 1_000_000  # a plan holds each of them


@dataclass(frozen=True)
class Choices:
    """A suite, resolved. `seeds` are pairs (split, initialisation).

    feature_places: of which entry under `features:` each of the features is; a bundle's are several.
    """

    suite: Suite
    document: Document
    datasets: tuple[DatasetEntry, ...]
    llms: tuple[LLMChoice, ...]
    features: tuple[FeatureChoice, ...]
    feature_places: tuple[int, ...]
    bundles: tuple[BundleChoice, ...]
    backbones: tuple[BackboneChoice, ...]
    ensembles: tuple[EnsembleEntry, ...]
    seeds: tuple[tuple[int, int], ...]


def choose(suite: Suite, document: Document) -> Choices:
    """Check every name and option of a suite.

    Raises:
        StageBenchError: with the place, what is valid and the nearest.
    """
    for position, plugin in enumerate(suite.plugins):
        path = document.beside(["plugins", position], plugin)
        try:
            registry.load_plugin(path)
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
    features: list[FeatureChoice] = []
    places: list[int] = []
    bundles: list[BundleChoice] = []
    for position, entry in enumerate(suite.features):
        found, bundle = choose_features(entry, document, ["features", position])
        for feature in found:
            if any((feature.label, feature.llm) == (other.label, other.llm) for other in features):
                raise document.error(["features", position], f"'{feature.label}' stands in features twice")
        features += found
        places += [position] * len(found)
        bundles += [bundle] if bundle else []
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
    inputs = input_names(llms, features)
    for position, ensemble in enumerate(suite.ensembles):
        _check_ensemble(ensemble, labels, inputs, document, ["ensembles", position])
    _check_readers(backbones, features, document)
    seeds = _seed_pairs(suite, document)
    _check_tuning_seeds(suite, seeds, document)
    runs = len(suite.datasets) * (len(llms) + len(features)) * (len(backbones) + len(suite.ensembles)) * len(seeds)
    if runs > _MOST_RUNS:
        raise document.error(["seeds"], f"{runs:,} runs, and a suite may have {_MOST_RUNS:,}; divide it into several")
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
        tuple(places),
        tuple(bundles),
        tuple(backbones),
        tuple(suite.ensembles),
        seeds,
    )


def _no_duplicates(names: list[str], key: str, document: Document, offset: int = 0) -> None:
    known: set[str] = set()
    for position, name in enumerate(names):
        if name in known:
            raise document.error([key, position - offset], f"'{brief(name)}' stands in {key} twice")
        known.add(name)


def input_names(llms: Sequence[LLMChoice], features: Sequence[FeatureChoice]) -> list[str]:
    """What an ensemble calls the inputs of models: the label, with model and instruction where it takes these."""
    both: list[LLMChoice | FeatureChoice] = [*llms, *features]
    names = [choice.label for choice in both]
    for more in ([_model(choice) for choice in both], [_instruction(choice) for choice in both]):
        pairs = zip(names, more, strict=True)
        names = [name if not word or names.count(name) == 1 else f"{name} ({word})" for name, word in pairs]
    return names


def _model(choice: LLMChoice | FeatureChoice) -> str:
    return choice.llm.label if isinstance(choice, FeatureChoice) and choice.llm is not None else ""


def _instruction(choice: LLMChoice | FeatureChoice) -> str:
    llm = choice.llm if isinstance(choice, FeatureChoice) else choice
    return llm.instruction if llm is not None else ""


def _check_ensemble(
    ensemble: EnsembleEntry, backbones: list[str], inputs: list[str], document: Document, location: list[str | int]
) -> None:
    for place, member in enumerate(ensemble.members):
        if member not in backbones:
            problem = registry.unknown("ensemble member", member, backbones)
            raise document.error([*location, "members", place], problem)
    if len(set(ensemble.members)) < len(ensemble.members):
        raise document.error([*location, "members"], "a member stands here twice")
    across = inputs if ensemble.inputs == "all" else ensemble.inputs
    count = len(ensemble.members)
    if not isinstance(across, str):
        for place, name in enumerate(across):
            if name not in inputs:
                raise document.error([*location, "inputs", place], registry.unknown("input", name, inputs))
        if len(set(across)) < len(across):
            raise document.error([*location, "inputs"], "an input stands here twice")
        count *= len(across)
    if count < 2:
        raise document.error([*location, "members"], "an ensemble needs two members")
    if ensemble.combine == "weighted":
        if ensemble.weights is None:
            raise document.error([*location, "combine"], "weighted needs weights: one a member")
        if len(ensemble.weights) != count:
            problem = f"{len(ensemble.weights)} weights for {count} members"
            raise document.error([*location, "weights"], problem)
        if sum(ensemble.weights) <= 0:
            raise document.error([*location, "weights"], "weights must not all be 0")
    elif ensemble.weights is not None:
        raise document.error([*location, "weights"], "weights are read only with combine: weighted", key=True)


def _check_readers(backbones: Sequence[BackboneChoice], features: Sequence[FeatureChoice], document: Document) -> None:
    """That each backbone has something to read."""
    for position, backbone in enumerate(backbones):
        reads = registry.get("backbones", backbone.name).reads
        if reads == "predictions" and not any(source.predicts(feature) for feature in features):
            problem = f"backbone '{backbone.label}' scores a feature source's own predictions, and none here gives any"
            raise document.error(["backbones", position], problem)


def _check_tuning_seeds(suite: Suite, pairs: Sequence[tuple[int, int]], document: Document) -> None:
    """That nothing is tuned on a seed that is reported, unless the suite says so."""
    places: list[tuple[TuningOptions | None, list[str | int]]] = [(suite.tuning, ["tuning"])]
    places += [(entry.tuning, ["backbones", place, "tuning"]) for place, entry in enumerate(suite.backbones)]
    reported = {seed for pair in pairs for seed in pair}
    for tuning, location in places:
        if tuning is not None and "seeds" not in tuning.model_fields_set and (both := reported & set(tuning.seeds)):
            problem = f"seed {min(both)} would be tuned on, and is reported; name others: tuning: {{seeds: [...]}}"
            raise document.error(location, problem)


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
        problem = f"unknown split '{brief(protocol)}' (valid: random-60-20-20, or other percentages)"
        raise document.error(location, problem)


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
            problem = registry.unknown("key", key, ["name", "recipe", "tuning", "resources", *valid])
            raise document.error([*location, key], problem, key=True)
    try:
        recipe = load_recipe(entry.recipe or suite.recipe)
    except StageBenchError as error:
        raise document.error([*location, "recipe"], str(error)) from None
    if entry.name not in recipe.values and entry.name in load_recipe("default").values:
        problem = f"recipe '{recipe.name}' has no values for {entry.name}; give this entry `recipe: default`"
        raise document.error(location, problem)
    values = recipe.values.get(entry.name, {})
    common = {} if spec.family == "direct" else suite.training  # without epochs there is nothing to train
    options, training = settle(entry.name, {**values, **common, **given}, document, location)
    standard = {**_all(entry.name, values)}
    differing = {
        key: value for key, value in {**options, **training}.items() if key in given and value != standard[key]
    }
    if entry.recipe and entry.recipe != suite.recipe:
        differing["recipe"] = entry.recipe
    if entry.tuning is not None:
        differing |= _shown_tuning(entry.tuning)
    # What has nothing to search is not tuned with the rest, unless its own entry says so.
    tuning = entry.tuning or (None if spec.reads == "predictions" else suite.tuning)
    chosen = None
    if tuning is not None:
        at: list[str | int] = [*location, "tuning"] if entry.tuning else ["tuning"]
        chosen = choose_tuning(entry.name, tuning, recipe, given, {**options, **training}, document, at)
    _check_combination(entry, suite, spec, options, training, set(chosen.space if chosen else ()), document, location)
    return BackboneChoice(
        name=entry.name,
        label=label(entry.name, differing),
        version=spec.version,
        options=options,
        training=training,
        tuning=chosen,
    )


def _shown_tuning(tuning: TuningOptions) -> dict[str, Any]:
    """What of a study tells the entry from another: how many trials, and whatever is not as usual."""
    shown: dict[str, Any] = {"tuning": tuning.trials}
    for key in ("sampler", "pruner", "metric", "scope", "timeout"):
        if getattr(tuning, key) != TuningOptions.model_fields[key].default:
            shown[key] = getattr(tuning, key)
    if isinstance(tuning.space, str):
        shown["space"] = tuning.space
    return shown


def _check_combination(
    entry: BackboneEntry,
    suite: Suite,
    spec: BackboneSpec,
    options: dict[str, Any],
    training: dict[str, Any],
    searched: set[str],
    document: Document,
    location: list[str | int],
) -> None:
    """That nothing is asked for that nothing would read, or that cannot be."""
    if spec.family == "direct":
        return
    for place, given in ((location, entry.model_extra or {}), (["training"], suite.training)):
        for key in given:
            needs = unread(key, training) if key in TrainingOptions.model_fields else None
            if needs is not None and not searched & {"batching", "label_inputs", "distillation"}:
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
    if registry.get("backbones", backbone).family == "direct":
        return options.model_dump(), {}
    return options.model_dump(), validate(TrainingOptions, rest, document, location).model_dump()


def _all(backbone: str, values: dict[str, Any]) -> dict[str, Any]:
    """The recipe's values with the gaps filled in."""
    spec = registry.get("backbones", backbone)
    training = {} if spec.family == "direct" else TrainingOptions().model_dump()
    return {**registry.resolve(spec.options)().model_dump(), **training, **values}


def _seed_pairs(suite: Suite, document: Document) -> tuple[tuple[int, int], ...]:
    def listed(value: int | list[int], location: list[str | int]) -> list[int]:
        seeds = list(range(value)) if isinstance(value, int) else value
        known: set[int] = set()
        for position, seed in enumerate(seeds):
            if seed in known:
                raise document.error([*location, position], f"seed {seed} stands here twice")
            known.add(seed)
        return seeds

    if isinstance(suite.seeds, SeedAxes):
        splits = listed(suite.seeds.split, ["seeds", "split"])
        inits = listed(suite.seeds.initialisation, ["seeds", "initialisation"])
        if len(splits) * len(inits) > MOST_SEEDS:
            problem = f"{len(splits):,} splits times {len(inits):,} initialisations are more than {MOST_SEEDS:,} runs"
            raise document.error(["seeds"], f"{problem} of each model")
        return tuple((split, init) for split in splits for init in inits)
    return tuple((seed, seed) for seed in listed(suite.seeds, ["seeds"]))
