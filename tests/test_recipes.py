"""The recipes under baselines/ hold values that their backbones take; docs/diffusion.md quotes what is published."""

import csv
from pathlib import Path

import pytest

from stage_bench import registry
from stage_bench.suite.choices import choose
from stage_bench.suite.folders import recipe_names
from stage_bench.suite.reading import read
from stage_bench.suite.recipe import load
from stage_bench.training.options import TrainingOptions

ROOT = Path(__file__).parents[1]
# training options that no paper here speaks of: recipes of papers may leave them at their defaults
SELDOM = {
    *("loss", "label_inputs", "label_input_share", "label_iterations", "distillation", "distillation_temperature"),
    *("label_smoothing", "warmup_epochs", "batching", "batch_size", "fanout", "kernels", "products", "storage"),
}


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_settles_its_backbones_and_leaves_no_gap(name):
    recipe = load(name)
    assert recipe.name == name
    for backbone, values in recipe.values.items():
        spec = registry.get("backbones", backbone)
        model = registry.resolve(spec.options)
        own = {key: value for key, value in values.items() if key in model.model_fields}
        model(**own)
        if spec.family == "direct":  # is not trained
            assert set(own) == set(values) == set(model.model_fields)
            continue
        TrainingOptions(**{key: value for key, value in values.items() if key not in own})
        needed = {*model.model_fields, *TrainingOptions.model_fields} - SELDOM
        if values.get("p") == 0:
            needed -= {"alpha", "iterations"}  # of a PageRank that is not taken
        assert needed <= set(values), f"{name}, {backbone}: a default of ours would pass for the paper's value"


def test_recipes_name_the_backbones_they_have_values_for():
    assert set(load("default").values) == set(registry.ready("backbones"))
    assert set(load("originals").values) == {"gcn", "sage", "gat", "appnp", "simplegcn", "sign", "sagn"}
    assert set(load("ogb-revgat").values) == {"revgat"}


def test_ogb_revgat_is_what_its_command_line_says(suite_file):
    """`main.py --use-norm --use-labels --n-label-iters=1 --no-attn-dst --edge-drop=0.3 --input-drop=0.25 --n-layers 5
    --dropout 0.75 --n-hidden 256 --backbone rev --group 2`, and the defaults of that script."""
    suite = {"name": "a", "datasets": ["cora"], "llms": ["minilm"], "backbones": ["revgat"], "recipe": "ogb-revgat"}
    (chosen,) = choose(*read(suite_file(suite))).backbones
    assert chosen.label == "revgat"
    said = {
        **{"symmetric_norm": True, "use_attn_dst": False, "edge_dropout": 0.3, "input_dropout": 0.25},
        **{"num_layers": 5, "dropout": 0.75, "hidden": 256, "groups": 2, "heads": 3, "activation": "relu"},
    }
    assert said.items() <= chosen.options.items()
    trained = {
        **{"label_inputs": True, "label_iterations": 1, "label_input_share": 0.5, "loss": "log-epsilon"},
        **{"lr": 0.002, "weight_decay": 0.0, "optimizer": "rmsprop", "epochs": 2000, "warmup_epochs": 50},
        **{"distillation": 0.0, "patience": 2000},
    }
    assert trained.items() <= chosen.training.items()


def test_the_diffusion_suite_has_what_stage_tried():
    suite = choose(*read(ROOT / "suites" / "diffusion.yaml"))
    signs = [chosen.options for chosen in suite.backbones if chosen.name == "sign"]
    for identity in (True, False):
        tried = {(sign["s"], sign["p"], sign["t"]) for sign in signs if sign["identity"] == identity}
        assert tried == {(3, 0, 0), (3, 0, 1), (3, 3, 0), (4, 2, 1), (5, 3, 0)}
    assert [chosen.options["k"] for chosen in suite.backbones if chosen.name == "simplegcn"] == [2, 3, 4]
    assert suite.suite.compare == ["stage"]


def test_the_page_quotes_what_is_published():
    with (ROOT / "baselines" / "published" / "stage.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == "cora" and "SFR" in row["lm"]]
    page = (ROOT / "docs" / "diffusion.md").read_text(encoding="utf-8")
    for shown, backbone in (("SimpleGCN, k = 2", "SimpleGCN(k=2)"), ("SIGN(4,2,1)", "SIGN(4,2,1)")):
        (row,) = [row for row in rows if row["backbone"] == backbone]
        assert f"| {shown} | {row['accuracy']} ± {row['std']} |" in page
        assert "selected by test accuracy" in row["note"]
        assert "inverted symmetric normalisation" in row["note"]
    assert all(float(row["accuracy"]) <= 0.8819 for row in rows if row["backbone"].startswith("SIGN")), "the best"
