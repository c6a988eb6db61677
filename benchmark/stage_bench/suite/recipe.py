"""Recipes: the hyperparameters that each backbone has unless the suite says otherwise (YAML under baselines/)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stage_bench import located_yaml, registry
from stage_bench.errors import StageBenchError
from stage_bench.located_yaml import Document
from stage_bench.suite.folders import folder, recipe_names
from stage_bench.suite.reading import validate
from stage_bench.training.options import TrainingOptions, TuningOptions

_KEYS = {"name", "description", "source", "backbones", "spaces", "features", "combine"}  # the last two: suite/bundle.py


@dataclass(frozen=True)
class Recipe:
    """values: backbone to its options and training values, together; spaces: backbone to its search space.

    `document` knows the places of both.
    """

    name: str
    values: dict[str, dict[str, Any]]
    spaces: dict[str, dict[str, Any]]
    document: Document


def load(name: str) -> Recipe:
    """Raises StageBenchError: there is no such recipe, or something in it is wrong; with the place."""
    if name not in recipe_names():
        raise StageBenchError(registry.unknown("recipe", name, recipe_names()))
    document = located_yaml.load(folder("baselines") / f"{name}.yaml")
    for key in document.value:
        if key not in _KEYS:
            raise document.error([key], registry.unknown("key", key, _KEYS), key=True)
    values, spaces = document.value.get("backbones", {}), document.value.get("spaces", {})
    for section, content in (("backbones", values), ("spaces", spaces)):
        for backbone, options in content.items():
            if backbone not in registry.specs("backbones"):
                problem = registry.unknown("backbone", backbone, registry.specs("backbones"))
                raise document.error([section, backbone], problem, key=True)
            known = option_names(backbone)
            for key in options:
                if key not in known:
                    raise document.error([section, backbone, key], registry.unknown("option", key, known), key=True)
    for backbone, space in spaces.items():
        validate(TuningOptions, {"trials": 1, "space": space}, document, ["spaces", backbone])
    return Recipe(name, values, spaces, document)


def option_names(backbone: str) -> list[str]:
    """Every option an entry of that backbone takes: its own and, where it is trained, those of its training."""
    spec = registry.get("backbones", backbone)
    own = list(registry.resolve(spec.options).model_fields)
    return own if spec.family == "direct" else [*own, *TrainingOptions.model_fields]
