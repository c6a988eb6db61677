"""From an entry under `features:` to what it stands for: one source, or the sets of a bundle; nothing loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stage_bench import registry
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms.spec import LLMChoice
from stage_bench.located_yaml import Document
from stage_bench.suite import bundle as bundles
from stage_bench.suite.labels import label
from stage_bench.suite.llm_choices import choose_llm
from stage_bench.suite.reading import validate
from stage_bench.suite.schema import FeatureEntry, LLMEntry

Location = list[str | int]


@dataclass(frozen=True)
class BundleChoice:
    """Feature sets whose models are combined; `members` are the labels of its sets, `weights` theirs."""

    label: str
    members: tuple[str, ...]
    combine: str
    weights: tuple[float, ...] | None


def choose_features(
    entry: FeatureEntry, document: Document, location: Location
) -> tuple[list[FeatureChoice], BundleChoice | None]:
    """One source, or a bundle's sets and what combines them.

    Raises:
        StageBenchError: with the place, what is valid and the nearest.
    """
    given = dict(entry.model_extra or {})
    known = registry.specs("features")
    if entry.name not in known and entry.name in bundles.names():
        return _bundle(entry.name, given, document, location)
    if entry.name not in known:
        valid = [*registry.ready("features"), *bundles.names()]
        raise document.error([*location, "name"], registry.unknown("feature source", entry.name, valid))
    if known[entry.name].needs:
        raise document.error([*location, "name"], f"feature source '{entry.name}': {known[entry.name].needs}")
    return [_source(entry.name, entry.name, given, document, location)], None


def _source(name: str, shown: str, given: dict[str, Any], document: Document, location: Location) -> FeatureChoice:
    """`shown`: what the leaderboard calls it, but for the options that differ."""
    spec = registry.get("features", name)
    if not spec.options:
        for key in given:
            raise document.error([*location, key], registry.unknown("key", key, ["name"]), key=True)
        return FeatureChoice(name, shown, {})
    model = registry.resolve(spec.options)
    plain = {key: value for key, value in given.items() if key not in _SETTLED}
    settled = validate(model, plain, document, location)
    for key in _SETTLED:
        if key in given and key not in model.model_fields:
            raise document.error(
                [*location, key], registry.unknown("key", key, ["name", *model.model_fields]), key=True
            )
    options = {key: value for key, value in settled.model_dump().items() if key not in _SETTLED}
    standard = model().model_dump()
    if options.get("preset", "") != standard.get("preset", ""):  # it goes without saying what a preset says
        standard = {**model(preset=options["preset"]).model_dump(), "preset": None}
    differing = {key: value for key, value in options.items() if value != standard[key]}
    llm = answers = None
    if "llm" in model.model_fields:
        llm = _llm(given.get("llm", model.model_fields["llm"].default), name, document, [*location, "llm"])
        if hasattr(settled, "unfit") and (problem := settled.unfit(llm)):
            raise document.error([*location, "llm"], problem)
    if "answers" in model.model_fields:
        answers = _answers(given.get("answers"), settled, document, [*location, "answers"])
        if answers is not None and given.get("answers") is not None:
            differing["answers"] = answers.label
    return FeatureChoice(name, label(shown, differing), options, llm, answers)


# Options that stand for more than a value.
_SETTLED = ("llm", "answers")


def _llm(value: Any, source: str, document: Document, location: Location) -> LLMChoice:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        raise document.error(location, "llm is a registered name, or a mapping as under llms:")
    if "resources" in value:
        problem = f"resources of '{source}' stand on its own entry, not on that of its llm"
        raise document.error([*location, "resources"], problem, key=True)
    choice = choose_llm(validate(LLMEntry, dict(value), document, location), document, location)
    if choice.endpoint is not None or choice.spec.encoder:
        why = "a server embeds it" if choice.endpoint is not None else "it is code of a plug-in"
        raise document.error(location, f"llm '{choice.label}' cannot be what '{source}' trains: {why}")
    if choice.reduction is not None:
        raise document.error(location, f"dimensions, pca and svd have no effect on what '{source}' trains")
    return choice


def _answers(value: Any, settled: Any, document: Document, location: Location) -> Any:
    """None where the source does not want any."""
    from stage_bench.answers.choice import AnswersEntry, choose

    wants = getattr(settled, "wants_answers", None)  # None: takes them, and does without
    if value is None and not wants:
        return None
    if wants is False:
        raise document.error(location, "answers is read only with text: explanation", key=True)
    if value is not None and not isinstance(value, Mapping):
        raise document.error(location, "answers is a mapping: {upstream: FOLDER}, {endpoint: URL, model: NAME} or ...")
    entry = validate(AnswersEntry, dict(value or {}), document, location)
    return choose(entry, document, location)


def _bundle(
    name: str, given: dict[str, Any], document: Document, location: Location
) -> tuple[list[FeatureChoice], BundleChoice | None]:
    """Options that the suite gives go to each set whose source has them."""
    bundle, recipe = bundles.load(name)
    shown = label(name, {key: value for key, value in given.items() if key not in _SETTLED})
    unused = set(given)
    choices = []
    for place, member in enumerate(bundle.features):
        at: Location = ["features", place]
        if "weight" in member.model_fields_set and bundle.combine != "weighted":
            raise recipe.error([*at, "weight"], "weight is read only with combine: weighted", key=True)
        if member.name not in registry.specs("features"):
            problem = registry.unknown("feature source", member.name, registry.ready("features"))
            raise recipe.error([*at, "name"], problem)
        extra = dict(member.model_extra or {})
        own = {key: value for key, value in given.items() if key in _fields(member.name, extra)}
        unused -= set(own)
        # By itself first, so that a mistake in the recipe has its place there.
        choice = _source(member.name, "", extra, recipe, at)
        if own:
            choice = _source(member.name, "", {**extra, **own}, document, location)
        choices.append(replace(choice, label=f"{shown}:{member.set}"))
    for key in sorted(unused):
        raise document.error([*location, key], f"no feature set of '{name}' has an option '{key}'", key=True)
    if bundle.combine is None:
        return choices, None
    weights = tuple(float(member.weight) for member in bundle.features) if bundle.combine == "weighted" else None
    return choices, BundleChoice(shown, tuple(choice.label for choice in choices), bundle.combine, weights)


def _fields(name: str, given: dict[str, Any]) -> set[str]:
    """The options that a source has, without `answers` where what is given leaves them unread."""
    spec = registry.get("features", name)
    if not spec.options:
        return set()
    model = registry.resolve(spec.options)
    fields = set(model.model_fields)
    plain = {key: value for key, value in given.items() if key in fields and key not in _SETTLED}
    try:
        unread = getattr(model(**plain), "wants_answers", None) is False
    except ValueError:  # said where the recipe is checked
        unread = False
    return fields - {"answers"} if unread else fields
