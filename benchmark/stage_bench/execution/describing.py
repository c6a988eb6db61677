"""`show`: what is known of one entry, as plain values."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from stage_bench import registry
from stage_bench.datasets.textgraph import TextGraph


def describe(kind: str, name: str, data: Path) -> dict[str, Any]:
    """Raises StageBenchError: there is no such entry, or its files are absent or wrong."""
    if kind == "datasets":
        from stage_bench.datasets.card import card

        return card(dataset(name, data))
    spec = registry.get(kind, name)
    facts = {key: value for key, value in dataclasses.asdict(spec).items() if value not in ("", None)}
    if kind == "backbones" and not spec.needs:
        from stage_bench.suite.recipe import load, option_names

        recipe = load("default")
        facts["options"] = option_names(name)
        facts["recipe default"] = recipe.values.get(name, {})
        facts["space default"] = recipe.spaces.get(name, {})
    if kind == "features" and spec.options:
        facts["options"] = registry.resolve(spec.options)().model_dump()
    return facts


def dataset(name: str, data: Path) -> TextGraph:
    """A registered dataset, or a folder in the folder format."""
    from stage_bench.datasets import folder

    if name not in registry.specs("datasets") and Path(name).is_dir():
        return folder.load(Path(name))
    spec = registry.get("datasets", name)
    graph: TextGraph = registry.resolve(spec.loader)(spec, data)
    return graph


def text(facts: dict[str, Any]) -> str:
    """`key: value` lines; mappings on one line each."""
    width = max(len(key) for key in facts)
    return "\n".join(f"{key:<{width}}  {_shown(value)}" for key, value in facts.items())


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_shown(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).replace("\n", "\\n")  # a prompt's line breaks are part of it
