"""`show`: what is known of one entry, as plain values."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from stage_bench import registry
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import StageBenchError, shown
from stage_bench.suite import bundle as bundles
from stage_bench.suite.labels import label

_WIDTH = 100  # characters of a value on a line


def describe(kind: str, name: str, data: Path) -> dict[str, Any]:
    """Raises StageBenchError: there is no such entry, or its files are absent or wrong."""
    if kind == "datasets":
        from stage_bench.datasets.card import card

        return card(dataset(name, data))
    if kind == "features" and name not in registry.specs("features") and name in bundles.names():
        return _bundle(name)
    spec = registry.get(kind, name)
    facts = {key: value for key, value in dataclasses.asdict(spec).items() if value not in ("", None, ("", ""))}
    if kind == "backbones" and not spec.needs:
        from stage_bench.suite.recipe import load, option_names
        from stage_bench.training.options import TrainingOptions

        recipe = load("default")
        values = recipe.values.get(name, {})
        facts["options"] = option_names(name)
        facts["recipe default"] = values
        facts["of the model"] = _options(registry.resolve(spec.options), values)
        if spec.family != "direct":
            facts["of the training"] = _options(TrainingOptions, values)
        facts["space default"] = recipe.spaces.get(name) or spec.space or {}
    if kind == "features" and spec.options:
        model = registry.resolve(spec.options)
        facts["options"] = model().model_dump()
        facts["what they are"] = _options(model, facts["options"])
    return facts


def _bundle(name: str) -> dict[str, Any]:
    bundle, document = bundles.load(name)
    facts = {"name": name, "summary": bundles.summary(name), "source": str(document.value.get("source", ""))}
    sets = [f"{label(member.name, member.model_extra or {})} as {member.set}" for member in bundle.features]
    weights = [f"{member.weight:g}" for member in bundle.features] if bundle.combine == "weighted" else []
    combine = bundle.combine or "nothing: each set stands for itself"
    return {**facts, "sets": sets, "combine": f"{combine} {':'.join(weights)}".strip()}


def _options(model: Any, recipe: dict[str, Any]) -> list[str]:
    """A sentence for each option, with the value that it has by the default recipe."""
    return [
        f"{key} = {_shown(recipe.get(key, field.get_default()))}: {(field.description or '').rstrip('.')}"
        for key, field in model.model_fields.items()
    ]


def dataset(name: str, data: Path) -> TextGraph:
    """A registered dataset, or a folder in the folder format."""
    from stage_bench.datasets import folder

    if name not in registry.specs("datasets") and Path(name).is_dir():
        return folder.load(Path(name))
    if "/" in name:
        raise StageBenchError(f"{name}: there is no such folder")
    spec = registry.get("datasets", name)
    graph: TextGraph = registry.resolve(spec.loader)(spec, data)
    return graph


def text(facts: dict[str, Any]) -> str:
    """A line for each key; counts of many things and lists of sentences go on in indented lines."""
    named = {shown(key): value for key, value in facts.items()}
    width = max(len(key) for key in named)
    gap = "\n" + " " * (width + 2)
    return "\n".join(f"{key:<{width}}  {gap.join(_lines(value))}" for key, value in named.items())


def _lines(value: Any) -> list[str]:
    """What is shown of a value: one line, but for counts that are too many for one, and sentences."""
    if isinstance(value, list) and any(" " in str(item) for item in value):
        return [_shown(item) for item in value]
    if not isinstance(value, dict) or not all(isinstance(item, int) for item in value.values()):
        return [_shown(value)]
    lines = [""]
    for item in _items(value):
        if lines[-1] and len(lines[-1]) + len(item) > _WIDTH:
            lines.append("")
        lines[-1] += f"{item}, "
    return [*(line.rstrip() for line in lines[:-1]), lines[-1].removesuffix(", ")]


def _items(value: dict[str, Any]) -> list[str]:
    return [f"{_shown(key)}: {_shown(item)}" for key, item in value.items()]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(_items(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return shown(value)  # a prompt's line breaks are part of it
