"""One lazy registry: names of datasets, LLMs, feature sources, backbones and executors to what is known of them.

A spec is a small frozen record; the code behind it is a `"module:attribute"` string until it is used, so that `ls`,
`--help` and `validate` import neither torch nor DGL. Built-in specs lie in the `catalog` module of each kind's folder;
others come from `register_*`, from entry points (groups `stage_bench.llms`, ...) or from a plug-in file.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stage_bench.errors import StageBenchError, brief

KINDS = ("datasets", "llms", "features", "backbones", "executors")
_CATALOGS = {
    "datasets": "stage_bench.datasets.catalog",
    "llms": "stage_bench.llms.catalog",
    "features": "stage_bench.features.catalog",
    "backbones": "stage_bench.backbones.catalog",
    "executors": "stage_bench.execution.catalog",
}
_SPEC_CLASSES = {
    "datasets": "stage_bench.datasets.spec:DatasetSpec",
    "llms": "stage_bench.llms.spec:LLMSpec",
    "features": "stage_bench.features.spec:FeatureSpec",
    "backbones": "stage_bench.backbones.spec:BackboneSpec",
}
_LONGEST = 200  # characters of what may be a name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_specs: dict[str, dict[str, Any]] = {}
_registered: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
_loaded_plugins: dict[Path, None] = {}  # in the order in which they were loaded


def specs(kind: str) -> dict[str, Any]:
    """Every spec of one kind by name: built in, from entry points, registered."""
    if kind not in _CATALOGS:
        raise StageBenchError(unknown("kind", kind, KINDS))
    if kind not in _specs:
        found = {spec.name: spec for spec in importlib.import_module(_CATALOGS[kind]).SPECS}
        for name, spec in _from_entry_points(kind):
            if name in found:
                raise StageBenchError(f"an installed package registers {kind} '{name}', a name that exists already")
            found[name] = spec
        _specs[kind] = found
    return {**_specs[kind], **_registered[kind]}


def get(kind: str, name: str) -> Any:
    """The spec of that name.

    Raises:
        StageBenchError: there is none; the message names the valid ones and the nearest.
    """
    known = specs(kind)
    if name not in known:
        raise StageBenchError(unknown(kind.removesuffix("s"), name, known))
    return known[name]


def ready(kind: str) -> list[str]:
    """The names that can be used as they are."""
    return [name for name, spec in sorted(specs(kind).items()) if not spec.needs]


def resolve(target: Any) -> Any:
    """What a `"module:attribute"` string stands for; anything else is returned as it is."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def unknown(what: str, value: object, valid: Iterable[str]) -> str:
    """One line: what is unknown, what would be valid, and the nearest."""
    names = sorted(valid)
    near = nearest(str(value), names)
    hint = f"; did you mean '{brief(near)}'?" if near else ""
    return f"unknown {what} '{brief(value)}'{hint} (valid: {', '.join(map(brief, names))})"


def nearest(value: str, valid: Iterable[str]) -> str | None:
    """The valid name that looks most like a value, if one does."""
    if len(value) > _LONGEST:  # nobody misspelt a name into that, and comparing takes long
        return None
    near = difflib.get_close_matches(value, sorted(valid), n=1, cutoff=0.5)
    return near[0] if near else None


def _register(kind: str, target_field: str, fields: dict[str, Any]) -> Any:
    spec_class = resolve(_SPEC_CLASSES[kind])

    def add(target: Any) -> Any:
        if target is not None:
            fields[target_field] = target
        try:
            spec = spec_class(**fields)
        except TypeError as error:  # a field that is missing or unknown
            problem = str(error).replace(f"{spec_class.__name__}.__init__() ", "")
            raise StageBenchError(f"register_{kind.removesuffix('s')}: {problem} (docs/{kind}.md)") from error
        if not _NAME.fullmatch(str(spec.name)):
            raise StageBenchError(
                f"{kind.removesuffix('s')} '{spec.name}': a name has letters, digits, '.', '_' and '-'"
            )
        if spec.name in specs(kind):
            raise StageBenchError(f"{kind.removesuffix('s')} '{spec.name}' is registered already; take another name")
        _registered[kind][spec.name] = spec
        return target if target is not None else spec

    return add(None) if target_field in fields else add


def register_llm(**fields: Any) -> Any:
    """Add an embedding model; the fields are those of `stage_bench.llms.spec.LLMSpec`.

    With `hub_id=` the built-in loaders serve it. Without, it is a decorator for a class whose
    `encode(texts: list[str])` returns float32 [len(texts), dimension].
    """
    if "hub_id" in fields:
        fields.setdefault("encoder", "")
    return _register("llms", "encoder", fields)


def register_dataset(**fields: Any) -> Callable[[Any], Any] | Any:
    """Add a dataset; the fields are those of `DatasetSpec`. As a decorator it takes `load(spec, data) -> TextGraph`."""
    return _register("datasets", "loader", fields)


def register_features(**fields: Any) -> Callable[[Any], Any] | Any:
    """Add a feature source; the fields are those of `FeatureSpec`. As a decorator it takes the `build` function."""
    return _register("features", "builder", fields)


def register_backbone(**fields: Any) -> Callable[[Any], Any] | Any:
    """Add a backbone; the fields are those of `BackboneSpec`. As a decorator it takes the `Backbone` subclass."""
    return _register("backbones", "module", fields)


def load_plugin(path: Path, known_as: Path | None = None) -> None:
    """Run one Python file that calls `register_*`. Only files that the user names are ever run.

    known_as: the path of the file that this one is a copy of, by which other processes know what is in it.

    Raises:
        StageBenchError: it is absent, or raised something.
    """
    path = path.resolve()
    if path in _loaded_plugins:
        return
    if not path.is_file():
        raise StageBenchError(f"plug-in {path} does not exist")
    # The same in every process, and another for another file of that name.
    named = known_as or path
    name = f"stage_bench_plugin_{named.stem}_{hashlib.sha256(str(named).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise StageBenchError(f"plug-in {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except StageBenchError as error:
        raise StageBenchError(f"plug-in {path}: {error}") from error
    except (Exception, SystemExit) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise StageBenchError(f"plug-in {path} failed: {problem}") from error
    _loaded_plugins[path] = None


def plugins() -> list[Path]:
    """The plug-in files that were loaded, in that order, for processes that must load them too."""
    return list(_loaded_plugins)


def _from_entry_points(kind: str) -> Iterable[tuple[str, Any]]:
    if kind not in _SPEC_CLASSES:
        return
    from importlib.metadata import entry_points

    for point in entry_points(group=f"stage_bench.{kind}"):
        try:
            spec = point.load()
        except Exception as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            package = point.dist.name if point.dist else "an installed package"
            raise StageBenchError(
                f"entry point {point.value} of group stage_bench.{kind}: {problem} (repair or uninstall {package})"
            ) from error
        if not isinstance(spec, resolve(_SPEC_CLASSES[kind])):
            raise StageBenchError(f"entry point {point.value} of group stage_bench.{kind} is not a spec of that kind")
        yield spec.name, spec
