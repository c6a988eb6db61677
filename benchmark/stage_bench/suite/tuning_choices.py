"""From a suite's `tuning:` to a study whose every option is settled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from stage_bench import registry
from stage_bench.errors import StageBenchError
from stage_bench.located_yaml import Document
from stage_bench.suite.folders import recipe_names
from stage_bench.suite.reading import validate
from stage_bench.suite.recipe import Recipe, load, option_names
from stage_bench.training import spaces
from stage_bench.training.options import FIRST_LOOK, TrainingOptions, TuningChoice, TuningOptions, switch_of, unread

_MAX_COMBINATIONS = 1_000  # of other options that might make a value possible; beyond, its trials will tell


@dataclass(frozen=True)
class _Source:
    """Where a space stands.

    own: the suite gives it. Then all of it is meant, and what cannot be searched is a mistake; of a recipe's or a
    backbone's space, what the suite has settled otherwise is left out.
    """

    space: dict[str, Any]
    document: Document
    location: list[str | int]
    own: bool

    def error(self, name: str, message: str) -> StageBenchError:
        return self.document.error([*self.location, name], message, key=True)


def choose_tuning(
    backbone: str,
    tuning: TuningOptions,
    recipe: Recipe,
    given: dict[str, Any],
    values: dict[str, Any],
    document: Document,
    location: list[str | int],
) -> TuningChoice:
    """A backbone's study.

    given: the options that the entry itself sets; of a space that is not the suite's own they are not searched.
    values: all of the entry's options, its training's among them, which hold wherever nothing is searched.
    location: of `tuning` in the suite.

    Raises:
        StageBenchError: with the place.
    """
    source = _source(backbone, tuning, recipe, document, location)
    space = {name: entry for name, entry in source.space.items() if source.own or name not in given}
    for name in space:
        if name not in option_names(backbone):
            raise source.error(name, registry.unknown("option", name, option_names(backbone)))
        if name in given and source.own and location[0] == "backbones":
            raise source.error(name, f"{name} is searched here and set in the entry of {backbone}: drop one of them")
    pruner = _pruner(backbone, tuning, values, document, location)
    settled = {name: _settled(backbone, name, entry, values, source) for name, entry in space.items()}
    settled = _resolved(backbone, settled, values, source)
    _check_values(backbone, settled, values, source)
    if not settled:
        raise document.error(location, f"{backbone}: nothing is left to search: every option is given")
    if tuning.sampler == "grid" and (problem := spaces.why_no_grid(settled)):
        raise document.error([*location, "sampler"], f"{backbone}: {problem}")
    if tuning.sampler == "gp" and (waiting := [name for name in settled if spaces.conditions(settled[name])]):
        problem = f"{backbone}: gp draws all options together, and {waiting[0]} has a condition; take sampler: tpe"
        raise document.error([*location, "sampler"], problem)
    return TuningChoice(
        trials=tuning.trials,
        sampler=tuning.sampler,
        pruner=pruner,
        timeout=tuning.timeout,
        seeds=tuple(tuning.seeds),
        metric=tuning.metric,
        scope=tuning.scope,
        space=settled,
    )


def _pruner(
    backbone: str, tuning: TuningOptions, values: dict[str, Any], document: Document, location: list[str | int]
) -> str:
    """The pruner, none for what has no epochs, where a suite tunes every backbone alike.

    Raises:
        StageBenchError: it would never look at a trial.
    """
    if tuning.pruner == "none" or registry.get("backbones", backbone).family == "direct":
        return "none"
    epochs = values["epochs"] * len(tuning.seeds)
    if epochs <= FIRST_LOOK:
        problem = f"{backbone}: a pruner looks after {FIRST_LOOK} epochs, and a trial has {epochs}; leave it out"
        raise document.error([*location, "pruner"], problem)
    return tuning.pruner


def _source(
    backbone: str, tuning: TuningOptions, recipe: Recipe, document: Document, location: list[str | int]
) -> _Source:
    """The suite's own space, that of the recipe it names, its recipe's, or the backbone's own."""
    if isinstance(tuning.space, dict):
        return _Source(tuning.space, document, [*location, "space"], own=True)
    if isinstance(tuning.space, str):
        at = [*location, "space"]
        if tuning.space not in recipe_names():
            raise document.error(at, registry.unknown("recipe", tuning.space, recipe_names()))
        recipe = load(tuning.space)
        if backbone not in recipe.spaces:
            names = ", ".join(sorted(recipe.spaces)) or "none"
            raise document.error(at, f"recipe '{recipe.name}' has no space for {backbone} (it has: {names})")
    if backbone in recipe.spaces:
        return _Source(recipe.spaces[backbone], recipe.document, ["spaces", backbone], own=False)
    declared = registry.get("backbones", backbone).space
    if not declared:
        raise document.error(location, f"recipe '{recipe.name}' has no space for {backbone}: give space:")
    try:
        return _Source(spaces.check(declared), document, location, own=False)
    except ValueError as error:
        raise document.error(location, f"the space that {backbone} declares: {error}") from None


def _settled(backbone: str, name: str, entry: Any, values: dict[str, Any], source: _Source) -> Any:
    """An entry whose values are as the option's model makes them: 0 to 1 of a fraction are no whole numbers."""
    when = {
        other: [_value(backbone, other, value, values, source, [name, "when"]) for value in wanted]
        if other in option_names(backbone)
        else wanted  # refused with its reason later
        for other, wanted in spaces.conditions(entry).items()
    }
    listed = spaces.choices(entry)
    if listed is not None:
        checked = [_value(backbone, name, value, values, source) for value in listed]
        return {"choices": checked, "when": when} if when else checked
    low, high = (_value(backbone, name, entry[end], values, source) for end in ("low", "high"))
    if not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high)):
        raise source.error(name, f"{name} is no number: give a list of choices")
    if "step" in entry and not (isinstance(low, int) and isinstance(high, int)):
        raise source.error(name, f"{name} takes fractions, and step is for ranges of whole numbers; give a list")
    more = {key: entry[key] for key in ("log", "step") if key in entry}
    return {"low": low, "high": high, **more, **({"when": when} if when else {})}


def _value(
    backbone: str, name: str, value: Any, values: dict[str, Any], source: _Source, inside: Sequence[str] = ()
) -> Any:
    """One value of an option, by itself; whether it goes with the others is `_check_values`'s affair."""
    model = _model(backbone, name)
    changed = {**_own(model, values), name: value}
    try:
        return getattr(model.model_validate(changed), name)
    except ValidationError as error:
        if all(not problem["loc"] for problem in error.errors()):
            return value
    return getattr(validate(model, changed, source.document, [*source.location, *inside]), name)


def _model(backbone: str, name: str) -> Any:
    own = registry.resolve(registry.get("backbones", backbone).options)
    return own if name in own.model_fields else TrainingOptions


def _own(model: Any, values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in model.model_fields}


def _resolved(backbone: str, space: dict[str, Any], values: dict[str, Any], source: _Source) -> dict[str, Any]:
    """The space without options that nothing would read, and without conditions on options that are fixed."""
    found: dict[str, Any] = {}
    for name in spaces.order(space):
        left: dict[str, list[Any]] = {}
        problem = ""
        for other, wanted in spaces.conditions(space[name]).items():
            if other not in option_names(backbone):
                raise source.error(name, f"when: {registry.unknown('option', other, option_names(backbone))}")
            if other in found:
                if spaces.choices(found[other]) is None and not spaces.is_whole(found[other]):
                    raise source.error(name, f"when: {other} is a range of fractions, which hits no value exactly")
                left[other] = [value for value in wanted if spaces.may_be(found[other], value)]
                if not left[other]:
                    raise source.error(name, f"when: {other} is never {_shown(wanted)} in this space")
            elif other in space or not any(spaces.same(values[other], value) for value in wanted):
                here = "not searched" if other in space else _shown([values[other]])
                problem = f"{name} is searched only where {other} is {_shown(wanted)}, and it is {here} here"
        problem = problem or _why_unread(name, space, values)
        if not problem:
            listed = spaces.choices(space[name])
            when = {"when": left} if left else {}
            if listed is not None:
                found[name] = {"choices": listed, **when} if when else listed
            else:
                found[name] = {**{key: value for key, value in space[name].items() if key != "when"}, **when}
        elif source.own:
            raise source.error(name, problem)
    return found


def _why_unread(name: str, space: dict[str, Any], values: dict[str, Any]) -> str:
    """Why nothing would read an option; empty where it is read, or its switch is searched."""
    switch = switch_of(name) if name in TrainingOptions.model_fields else None
    if switch is None:
        return ""
    entry = space.get(switch)
    tried = [values[switch]] if entry is None else _ends(entry)
    needs = [unread(name, {**values, switch: value}) for value in tried]
    return "" if None in needs else f"{name} is read only with {needs[0]}: search {switch} too, or set it"


def _check_values(backbone: str, space: dict[str, Any], values: dict[str, Any], source: _Source) -> None:
    """That each value goes with some values of the options that are searched beside it.

    RevGAT's `hidden` is to be divisible by its `groups`: a width may go with one of two numbers of groups. Combinations
    that do not go together are left to the trials, which fail then and say why.
    """
    model = registry.resolve(registry.get("backbones", backbone).options)
    searched = {name: _ends(entry) for name, entry in space.items() if name in model.model_fields}
    fixed = _own(model, values)
    for name, ends in searched.items():
        others = {other: [fixed[other], *searched[other]] for other in searched if other != name}
        if math.prod(len(tried) for tried in others.values()) > _MAX_COMBINATIONS:
            continue
        for value in ends:
            combinations = (dict(zip(others, tried, strict=True)) for tried in itertools.product(*others.values()))
            problems = [_problem(model, {**fixed, **combination, name: value}) for combination in combinations]
            if all(problems):
                raise source.document.error([*source.location, name], problems[0])


def _problem(model: Any, values: dict[str, Any]) -> str:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return ""


def _ends(entry: Any) -> list[Any]:
    listed = spaces.choices(entry)
    return listed if listed is not None else [entry["low"], entry["high"]]


def _shown(values: list[Any]) -> str:
    return " or ".join("null" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in values)
