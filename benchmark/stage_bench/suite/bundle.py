"""Bundles: baselines that are several feature sets together, such as TAPE's TA, E and P (YAML under baselines/).

A model is trained on each set, and what it says on all of them is combined. The bundle is the `features:` of a recipe;
a suite names it, under `features:`, as it names a source.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from stage_bench import located_yaml
from stage_bench.located_yaml import Document
from stage_bench.suite.folders import folder, recipe_names
from stage_bench.suite.reading import validate
from stage_bench.suite.schema import Combine, Name


class Member(BaseModel):
    """One feature set; other keys are options of its source."""

    model_config = ConfigDict(extra="allow", frozen=True)

    set: Name = Field(description="what it is called: TA, E, P")
    name: StrictStr = Field(description="registry name of the source")
    weight: Annotated[StrictInt | StrictFloat, Field(gt=0)] = 1


class Bundle(BaseModel):
    """The part of a recipe that makes it a bundle."""

    model_config = ConfigDict(frozen=True)

    features: list[Member] = Field(min_length=1)
    combine: Combine | None = Field(None, description="absent: the sets stand each for itself")


def names() -> list[str]:
    """The recipes that are bundles."""
    return [name for name in recipe_names() if "features" in _document(name).value]


def load(name: str) -> tuple[Bundle, Document]:
    """Raises StageBenchError: something in it is wrong; with the place."""
    document = _document(name)
    value = {key: document.value[key] for key in ("features", "combine") if key in document.value}
    bundle: Bundle = validate(Bundle, value, document, [])
    return bundle, document


def summary(name: str) -> str:
    return str(_document(name).value.get("description", ""))


@cache
def _document(name: str) -> Any:
    return located_yaml.load(folder("baselines") / f"{name}.yaml")
