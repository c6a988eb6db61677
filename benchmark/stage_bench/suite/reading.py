"""Reading a suite: YAML with includes -> Suite, every mistake as `file:line:column: message`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from stage_bench import located_yaml, registry
from stage_bench.errors import StageBenchError, brief
from stage_bench.located_yaml import Document
from stage_bench.suite.schema import Suite

_BRANCHES = ("number", "list", "axes")  # the forms of `seeds`: steps of pydantic's locations that no file has
_MOST_INCLUDED = 100  # files; those that include each other many times over would never end
_MESSAGES = {
    "bool_type": "write true or false",
    "list_type": "write a list",
    "dict_type": "write `key: value` pairs",
    "model_type": "write `key: value` pairs",
}


def read(path: Path) -> tuple[Suite, Document]:
    """Read and check a suite's form; names and options are checked by `choices`.

    Raises:
        StageBenchError: one line a mistake.
    """
    document = _with_includes(path, (), [])
    value = dict(document.value)
    value.pop("include", None)
    return validate(Suite, value, document, ()), document


def validate(model: type[Any], value: Any, document: Document, location: Sequence[str | int]) -> Any:
    """`model.model_validate(value)`, its errors placed in the document below `location`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = _one_of_each(model, error.errors())
        misspelt = {_nearest(model, problem["loc"]) for problem in problems if problem["type"] == "extra_forbidden"}
        lines = [
            _line(model, problem, document, location)
            for problem in problems
            # A misspelt key is one mistake, not also a missing one.
            if problem["type"] != "missing" or problem["loc"] not in misspelt
        ]
        raise StageBenchError(*dict.fromkeys(lines)) from None


def _one_of_each(model: type[Any], problems: Sequence[Any]) -> list[Any]:
    """The problems, of a value that may be of several types one instead of one for each of these."""
    found: dict[Any, Any] = {}
    for number, problem in enumerate(problems):
        *before, last = problem["loc"] or (0,)
        kind = problem["type"]
        fields = kind in ("extra_forbidden", "missing") or not before or isinstance(last, int)
        if fields or last in _BRANCHES or last in _valid_keys(model, before):
            found[number] = problem
        elif tuple(before) not in found or found[tuple(before)]["type"] != "literal_error":
            found[tuple(before)] = {**problem, "loc": tuple(before)}
    return list(found.values())


def _nearest(model: type[Any], location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where a misspelt key would be, spelt right."""
    near = registry.nearest(str(location[-1]), _valid_keys(model, location[:-1]))
    return (*location[:-1], near or "")


def _with_includes(path: Path, above: tuple[Path, ...], loaded: list[Path]) -> Document:
    """loaded: the files that were read before, one as often as it was."""
    document = located_yaml.load(path)
    loaded.append(path)
    include = document.value.get("include")
    if include is None:
        return document
    names = [include] if isinstance(include, str) else include
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise document.error(["include"], "include is the path of another suite, or a list of such paths")
    here = path.resolve()
    merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for position, name in enumerate(names):
        where: list[str | int] = ["include"] if isinstance(include, str) else ["include", position]
        beside = document.beside(where, name)
        target = beside.resolve()
        if target in (*above, here):
            raise document.error(where, f"'{brief(name)}' includes itself")
        if not target.is_file():
            raise document.error(where, f"'{brief(name)}' does not exist")
        if len(loaded) > _MOST_INCLUDED:
            raise document.error(where, f"more than {_MOST_INCLUDED} files are included")
        included = _with_includes(beside, (*above, here), loaded)
        merged |= {key.value: (key, node) for key, node in included.root.value if key.value != "include"}
    merged |= {key.value: (key, node) for key, node in document.root.value}
    root = yaml.MappingNode(document.root.tag, list(merged.values()), document.root.start_mark, document.root.end_mark)
    return Document(path, located_yaml.build(root), root)


def _line(model: type[Any], problem: Any, document: Document, location: Sequence[str | int]) -> str:
    inner = tuple(problem["loc"])
    full = (*location, *inner)
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        keys = _valid_keys(model, inner[:-1])
        return f"{document.place(full, key=True)}: {registry.unknown('key', inner[-1], keys)}"
    name = ".".join(step for step in inner if isinstance(step, str) and step not in _BRANCHES)
    if kind == "missing":
        return f"{document.place(full)}: key '{inner[-1]}' is missing"
    if kind == "literal_error":
        valid = [part.strip(" '") for part in str(context.get("expected", "")).replace(" or ", ",").split(",")]
        return f"{document.place(full)}: {registry.unknown(str(inner[-1]), problem['input'], valid)}"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    message = _MESSAGES.get(kind, message[:1].lower() + message[1:])
    return f"{document.place(full)}: {name}{': ' if name else ''}{message}{_shown(given)}"


def _shown(given: Any) -> str:
    """As YAML writes it; nothing for lists and mappings."""
    if given is None or isinstance(given, bool):
        return f" (here: {json.dumps(given)})"
    return f" (here: {brief(repr(given), 100)})" if isinstance(given, (str, int, float)) else ""


def _valid_keys(model: type[Any], location: Sequence[str | int]) -> list[str]:
    """The keys that are valid where a pydantic location points."""
    current: Any = model
    for step in location:
        if isinstance(step, int) or not (isinstance(current, type) and issubclass(current, BaseModel)):
            continue
        field = current.model_fields.get(str(step))
        if field is not None:
            current = _model_in(field.annotation) or current
    keys = list(current.model_fields)
    return [*keys, "include"] if current is Suite else keys


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside `list[Annotated[Model, ...]]`, `Model | None` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()) or ():
        found = _model_in(argument)
        if found is not None:
            return found
    return None
