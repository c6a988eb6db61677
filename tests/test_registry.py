"""The registry: lazy, complete, and open to Python calls, plug-in files and entry points."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import BaseModel

import stage_bench
from stage_bench import registry
from stage_bench.backbones.base import Backbone, Direct
from stage_bench.errors import StageBenchError
from stage_bench.llms.spec import LOADERS

HEAVY = ("torch", "dgl", "pandas", "transformers", "sentence_transformers", "sklearn", "scipy", "optuna", "numpy")


def imported(code: str) -> set[str]:
    """Which heavy modules a fresh interpreter has after that code."""
    script = f"{code}\nimport sys\nprint('heavy:', *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].removeprefix("heavy:").split())


@pytest.mark.parametrize(
    "code",
    [
        "import stage_bench",
        "import stage_bench.cli",
        "from stage_bench import registry\nfor kind in registry.KINDS: assert registry.specs(kind)",
        "from stage_bench.suite.schema import json_schema\njson_schema()",
        "from stage_bench.suite.recipe import load\nload('default')",
    ],
)
def test_nothing_heavy_is_imported(code: str):
    assert imported(code) == set()


def test_heavy_imports_would_be_seen():
    assert imported("import numpy") == {"numpy"}


READY = [
    (kind, spec) for kind in registry.KINDS for spec in registry.specs(kind).values() if not getattr(spec, "needs", "")
]
TARGETS = [
    (f"{kind} {spec.name}", getattr(spec, field))
    for kind, spec in READY
    for field in ("loader", "builder", "pipeline", "module", "options", "encoder")
    if ":" in str(getattr(spec, field, ""))
]


@pytest.mark.parametrize("target", [target for _, target in TARGETS], ids=[name for name, _ in TARGETS])
def test_what_a_spec_points_at_is_there(target: str):
    assert callable(registry.resolve(target))


def test_specs_are_complete():
    assert {kind for kind, _ in READY} == set(registry.KINDS)
    for kind, spec in READY:
        assert getattr(spec, "summary", "") or getattr(spec, "hub_id", ""), spec.name
        if kind == "backbones":
            assert issubclass(registry.resolve(spec.module), (Backbone, Direct))
            assert issubclass(registry.resolve(spec.options), BaseModel)
        if kind == "llms":
            assert spec.loader in LOADERS
            assert "{text}" in spec.prompt


def test_ready_leaves_out_what_needs_something():
    every = registry.specs("features")
    assert set(registry.ready("features")) == {name for name in every if not every[name].needs} != set(every)


def test_names_that_are_not_there():
    with pytest.raises(StageBenchError, match=r"^unknown llm 'minlm'; did you mean 'minilm'\? \(valid: all-mpnet"):
        registry.get("llms", "minlm")
    with pytest.raises(StageBenchError, match=r"^unknown kind 'llm'; did you mean 'llms'\? \(valid: backbones, "):
        registry.specs("llm")
    assert registry.unknown("key", "zzzz", ["b", "a"]) == "unknown key 'zzzz' (valid: a, b)"


@dataclass(frozen=True)
class Nothing:
    """Stands for a class of a plug-in."""


def load(*args: Any, **options: Any) -> None:
    """Stands for a function of a plug-in."""


@pytest.mark.parametrize(
    ("register", "kind", "field", "fields"),
    [
        (stage_bench.register_llm, "llms", "encoder", {"dimension": 8}),
        (stage_bench.register_dataset, "datasets", "loader", {"nodes": 3}),
        (stage_bench.register_features, "features", "builder", {"needs_text": False}),
        (stage_bench.register_backbone, "backbones", "module", {"summary": "mine", "options": Nothing}),
    ],
)
def test_register(own_registry, register: Any, kind: str, field: str, fields: dict[str, Any]):
    """As a call, and as a decorator that leaves what it decorates as it is."""
    register(name="by-call", **{field: load}, **fields)
    assert register(name="by-decorator", **fields)(load) is load
    for name in ("by-call", "by-decorator"):
        spec = registry.get(kind, name)
        assert getattr(spec, field) is registry.resolve(getattr(spec, field)) is load
        assert all(getattr(spec, key) == value for key, value in fields.items())
    built_in = next(iter(registry.specs(kind)))
    for name in ("by-call", "by-decorator", built_in):
        with pytest.raises(StageBenchError, match=f"'{name}' is registered already; take another name"):
            register(name=name, **{field: load}, **fields)
        with pytest.raises(StageBenchError, match="is registered already"):
            register(name=name, **fields)(load)
    with pytest.raises(StageBenchError, match=rf"^register_{kind.removesuffix('s')}: .*'colour'"):
        register(name="other", colour="red", **{field: load}, **fields)


def test_an_llm_on_the_hub_needs_no_class(own_registry):
    stage_bench.register_llm(name="mine", hub_id="me/mine", pooling="cls")
    spec = registry.get("llms", "mine")
    assert (spec.hub_id, spec.pooling, spec.encoder) == ("me/mine", "cls", "")


PLUGIN = dedent(
    """
    import stage_bench

    @stage_bench.register_llm(name="plugged", summary="from a file", dimension=2)
    class Encoder:
        def encode(self, texts):
            raise NotImplementedError
    """
)


def test_a_plugin_file_is_run_once(own_registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    registry.load_plugin(path)
    monkeypatch.chdir(tmp_path)
    registry.load_plugin(Path("plugin.py"))  # the same file: nothing is registered twice
    assert registry.get("llms", "plugged").encoder.__name__ == "Encoder"
    assert registry.plugins() == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import nothing_of_that_name", "failed: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def (", "failed: SyntaxError: invalid syntax"),
        ("raise ValueError('two\\nlines')", "failed: ValueError: two lines"),
        ("raise SystemExit(3)", "failed: SystemExit: 3"),
        ("from stage_bench import *\nregister_llm(name='minilm', hub_id='x')", ": llm 'minilm' is registered already"),
        ("from stage_bench import *\nregister_llm(nam='a', hub_id='x')", ": register_llm: "),
        (None, " does not exist"),
    ],
)
def test_a_plugin_that_fails_is_one_line(own_registry, tmp_path: Path, content: str | None, message: str):
    path = tmp_path / "plugin.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StageBenchError) as caught:
        registry.load_plugin(path)
    said = str(caught.value)
    assert said.startswith(f"plug-in {path}")
    assert message in said
    assert "\n" not in said
    assert not registry.plugins()


def test_plugin_on_the_command_line_and_in_a_suite(stage_bench, tiny_folder, suite_file):
    plugin = suite_file(PLUGIN, "plugins/plugin.py")
    assert "plugged" not in stage_bench("ls", "llms")[1]
    code, out, err = stage_bench("ls", "llms", "--plugin", plugin)
    assert (code, err) == (0, "")
    assert "  plugged                      from a file\n" in out
    tiny_folder()
    suite = {
        "name": "plugged",
        "plugins": ["plugins/plugin.py"],
        "datasets": [{"name": "tiny", "path": "tiny"}],
        "llms": ["plugged"],
        "backbones": ["mlp"],
        "seeds": 2,
    }
    code, out, err = stage_bench("validate", suite_file(suite))
    assert (code, err) == (0, "")
    assert out.endswith("is valid: 3 jobs\n")
    plugin.write_text("raise RuntimeError('no')\n")
    code, out, err = stage_bench("validate", suite_file(suite))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {suite_file(suite)}:1:")
    assert err.endswith(f"plug-in {plugin} failed: RuntimeError: no\n")
    assert err.count("\n") == 1


def install(path: Path, entry_points: str) -> Path:
    """A package as pip leaves it: a module, and a *.dist-info with its entry points."""
    info = path / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(dedent(entry_points))
    (path / "mine.py").write_text(
        dedent(
            """
            from stage_bench.datasets.spec import DatasetSpec
            from stage_bench.llms.spec import LLMSpec

            LLM = LLMSpec(name="installed-llm", hub_id="me/mine")
            SAME = LLMSpec(name="minilm", hub_id="me/mine")
            DATASET = DatasetSpec(name="installed-dataset", summary="from a package")
            """
        )
    )
    return path


def test_entry_points(stage_bench, tmp_path: Path):
    where = install(
        tmp_path / "site",
        """
        [stage_bench.llms]
        any = mine:LLM
        [stage_bench.datasets]
        any = mine:DATASET
        """,
    )
    code, out, err = stage_bench("ls", path=[where])
    assert (code, err) == (0, "")
    assert "installed-llm" in out
    assert "from a package" in out
    assert "installed-llm" not in stage_bench("ls")[1]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mine:SAME", "an installed package registers llms 'minilm', a name that exists already"),
        ("mine:DATASET", "entry point mine:DATASET of group stage_bench.llms is not a spec of that kind"),
        ("mine:ABSENT", "entry point mine:ABSENT of group stage_bench.llms: AttributeError: module 'mine' has no"),
        ("absent:LLM", "entry point absent:LLM of group stage_bench.llms: ModuleNotFoundError: No module named"),
    ],
)
def test_a_wrong_entry_point_is_one_line(stage_bench, tmp_path: Path, target: str, message: str):
    where = install(tmp_path / "site", f"[stage_bench.llms]\nany = {target}\n")
    code, out, err = stage_bench("ls", "llms", path=[where])
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
