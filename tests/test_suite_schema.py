"""`suites/schema.json`, which editors read: refresh it with `stage-bench schema > suites/schema.json`."""

from pathlib import Path
from typing import Any

import pytest

from stage_bench import located_yaml, registry
from stage_bench.suite.recipe import option_names
from stage_bench.suite.schema import Suite, json_schema

SUITES = Path(__file__).parents[1] / "suites"
SUITE = {"name": "a", "datasets": ["api-docs"], "llms": ["minilm"], "backbones": ["mlp"]}


def entry_keys(kind: str, name: str) -> set[str]:
    """The keys that the schema allows in a mapping entry of that name."""
    branches = json_schema()["properties"][kind]["items"]["anyOf"]
    return next(
        set(branch["properties"]) for branch in branches if branch.get("properties", {}).get("name") == {"const": name}
    )


def test_the_file_is_what_the_command_prints(stage_bench):
    code, out, err = stage_bench("schema")
    assert (code, err) == (0, "")
    assert (SUITES / "schema.json").read_text(encoding="utf-8") == out, (
        "stage-bench schema > suites/schema.json brings it up to date"
    )


def test_it_knows_every_key():
    schema = json_schema()
    assert set(schema["properties"]) == {*Suite.model_fields, "include"}
    for backbone in registry.ready("backbones"):
        assert entry_keys("backbones", backbone) == {"name", "recipe", "tuning", "resources", *option_names(backbone)}
    options = registry.resolve(registry.get("features", "shallow").options)
    assert entry_keys("features", "shallow") == {"name", "resources", *options.model_fields}


def test_it_offers_what_can_be_used():
    items = {kind: json_schema()["properties"][kind]["items"]["anyOf"][0] for kind in ("llms", "features", "backbones")}
    for kind, first in items.items():
        assert first == {"enum": registry.ready(kind)}


def problems(suite: dict[str, Any]) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema")
    return [error.message for error in jsonschema.Draft202012Validator(json_schema()).iter_errors(suite)]


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_suites_that_come_with_stage_bench_are_valid(path: Path):
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    assert not problems(located_yaml.load(path).value)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [3, 4]},
        {"seeds": {"split": 2, "initialisation": [7]}},
        {"training": {"lr": 0.1}},
        {"tuning": {"trials": 3, "space": {"lr": {"low": 0.1, "high": 0.2, "log": True}}}},
        {"backbones": [{"name": "gcn", "hidden": 64, "lr": 0.1, "recipe": "stage", "tuning": {"trials": 3}}]},
        {"features": ["shallow", {"name": "shallow", "dimension": 4}]},
        {"datasets": [{"name": "mine", "path": "../mine", "optional": True}]},
        {"ensembles": [{"name": "e", "members": ["mlp", "gcn"]}]},
        {"include": ["base.yaml"]},
    ],
)
def test_valid(changes: dict[str, Any]):
    assert not problems({**SUITE, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"sedes": 3},
        {"seeds": 0},
        {"seeds": {"split": 2}},
        {"training": {"lrr": 0.1}},
        {"tuning": {"trials": 0}},
        {"backbones": ["gnc"]},
        {"backbones": [{"name": "mlp", "aggregator": "mean"}]},
        {"features": [{"name": "shallow", "dimensions": 4}]},
        {"llms": ["minlm"]},
        {"compare": ["tap"]},
        {"recipe": "stge"},
        {"include": 3},
    ],
)
def test_invalid(changes: dict[str, Any]):
    assert len(problems({**SUITE, **changes})) == 1


def test_an_including_suite_need_not_say_it_again():
    assert not problems({"include": "base.yaml", "seeds": 3})
    assert problems({"seeds": 3})
