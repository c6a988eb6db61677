"""Reading a suite: what its entries stand for, includes, and a place for every mistake."""

from pathlib import Path
from typing import Any

import pytest

from stage_bench import registry
from stage_bench.errors import StageBenchError
from stage_bench.suite import bundle
from stage_bench.suite.choices import Choices, choose
from stage_bench.suite.folders import published_names, recipe_names
from stage_bench.suite.jobs import TrainJob
from stage_bench.suite.reading import read

SUITE = {
    "name": "name: mistakes",
    "recipe": "recipe: stage",
    "datasets": "datasets: [{name: tiny, path: tiny}]",
    "features": "features: [{name: shallow, dimension: 4}]",
    "backbones": "backbones: [mlp, gcn]",
}


@pytest.fixture
def chosen(tiny_folder, suite_file):
    """What a suite's entries stand for; `changes` replace or add keys."""

    def make(**changes: Any) -> Choices:
        suite = {
            "name": "small",
            "recipe": "stage",
            "datasets": ["api-docs"],
            "llms": ["sfr-embedding-mistral"],
            "backbones": ["mlp"],
        }
        return choose(*read(suite_file({**suite, **changes})))

    return make


@pytest.fixture
def mistake(tiny_folder, suite_file, make_plan):
    """What is said of a suite with that line: it takes the place of the line with its key, or comes sixth."""
    tiny_folder()

    def make(line: str) -> str:
        text = "\n".join({**SUITE, line.partition(":")[0]: line}.values())
        path = suite_file(text)
        with pytest.raises(StageBenchError) as caught:
            make_plan(path)
        said = str(caught.value)
        assert said.startswith(f"{path}:")
        return said.removeprefix(f"{path}:")

    return make


def test_a_model_with_code_of_its_own_needs_a_permission(mistake, own_registry):
    registry.register_llm(name="coded", hub_id="someone/coded", remote_code=True)
    said = "6:8: llm 'coded' runs code of its repository; allow it with trust_remote_code: true"
    assert mistake("llms: [coded]") == said


def test_a_model_that_lacks_something_says_what(mistake, own_registry):
    registry.register_llm(name="half", hub_id="someone/half", needs="a loader")
    assert mistake("llms: [half]") == "6:8: llm 'half' needs a loader"


def test_the_suite_that_the_mistakes_are_made_in_is_right(tiny_folder, suite_file, make_plan):
    tiny_folder()
    plan = make_plan(suite_file("\n".join(SUITE.values())))
    assert [job.kind for job in plan.jobs] == ["embed", *["train"] * 20]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # keys
        ("sedes: 3", "6:1: unknown key 'sedes'; did you mean 'seeds'? (valid: backbones, compare, "),
        ("datasets: [{name: tiny, pth: tiny}]", "3:25: unknown key 'pth'; did you mean 'path'? (valid: name, "),
        ("datasets: [{path: tiny}]", "3:12: key 'name' is missing"),
        ("features: [{name: shallow, dimensions: 4}]", "4:28: unknown key 'dimensions'; did you mean 'dimension'?"),
        ("llms: [{name: minilm, poling: cls}]", "6:23: unknown key 'poling'; did you mean 'pooling'?"),
        ("backbones: [mlp, {name: gcn, hiden: 9}]", "5:30: unknown key 'hiden'; did you mean 'hidden'?"),
        ("backbones: [mlp, {name: gcn, aggregator: mean}]", "5:30: unknown key 'aggregator' (valid: "),
        ("training: {lrr: 0.1}", "6:12: unknown key 'lrr'; did you mean 'lr'? (valid: batch_size, "),
        ("seeds: {split: 2, initialisation: 2, init: 3}", "6:38: unknown key 'init'"),
        ("tuning: {trials: 3, sede: [1]}", "6:21: unknown key 'sede'; did you mean 'seeds'?"),
        # names
        ("datasets: [api-doc]", "3:12: unknown dataset 'api-doc'; did you mean 'api-docs'? (valid: api-docs, "),
        ("llms: [minlm]", "6:8: unknown llm 'minlm'; did you mean 'minilm'? (valid: all-mpnet-base-v2, "),
        ("features: [{name: shalow}]", "4:19: unknown feature source 'shalow'; did you mean 'shallow'?"),
        ("backbones: [mlp, {name: gnc}]", "5:25: unknown backbone 'gnc'; did you mean 'gcn'? (valid: "),
        ("recipe: stge", "2:9: unknown recipe 'stge'; did you mean 'stage'? (valid: default, "),
        ("backbones: [{name: gcn, recipe: stge}]", "5:33: unknown recipe 'stge'; did you mean 'stage'?"),
        ("compare: [stage, tap]", "6:18: unknown published numbers 'tap'; did you mean 'tape'? (valid: "),
        ("splits: public", "6:9: unknown split 'public' (valid: random-60-20-20, or other percentages)"),
        ("datasets: [{name: tiny, path: tiny, split: public}]", "3:44: tiny has no split 'public' (valid: random-60"),
        ("llms: [{name: minilm, pooling: men}]", "6:32: unknown pooling 'men'; did you mean 'mean'? (valid: cls, "),
        ("training: {optimizer: adm}", "6:23: unknown optimizer 'adm'; did you mean 'adam'? (valid: adam, adamw, "),
        # an instruction is not guessed at
        (
            "llms: [{name: sfr-embedding-mistral, instruction: graph_aware}]",
            "6:51: unknown instruction 'graph_aware'; did you mean 'graph-aware'? (valid: dataset, default, "
            "graph-aware, none); an instruction of your own is a sentence",
        ),
        (
            "llms: [{name: sfr-embedding-mistral, instruction: ' '}]",
            "6:51: an empty instruction; write instruction: none",
        ),
        (
            "llms: [{name: minilm, instruction: default}]",
            "6:36: llm 'minilm' takes no instruction; write instruction: none, or leave it out",
        ),
        (
            "llms: [{name: sfr-embedding-mistral, instruction: dataset}]",
            "6:8: dataset 'tiny' has no instruction 'dataset'; write the instruction itself, or put it under",
        ),
        # types
        ("name: 3", "1:7: name: input should be a valid string (here: 3)"),
        ("name: ../up", "1:7: name: string should match pattern"),
        ("datasets: tiny", "3:11: datasets: write a list (here: 'tiny')"),
        ("datasets: []", "3:11: datasets: list should have at least 1 item"),
        ("backbones:", "5:11: backbones: write a list (here: null)"),
        ("llms: [3]", "6:8: llms: write `key: value` pairs (here: 3)"),
        ("llms: [{name: minilm, max_length: 0}]", "6:35: llms.max_length: input should be greater than or equal to 1"),
        ("llms: [{name: minilm, normalize: no}]", "6:34: llms.normalize: write true or false (here: 'no')"),
        (
            "datasets: [{name: tiny, path: tiny, optional: no}]",
            "3:47: datasets.optional: write true or false (here: 'no')",
        ),
        ("training: 3", "6:11: training: write `key: value` pairs (here: 3)"),
        ("training: {lr: '0.1'}", "6:16: lr: input should be a valid number (here: '0.1')"),
        ("training: {lr: true}", "6:16: lr: input should be a valid number (here: true)"),
        ("training: {lr: .inf}", "6:16: lr: input should be a finite number"),
        ("training: {lr: 0}", "6:16: lr: input should be greater than 0 (here: 0)"),
        ("training: {epochs: 1e2}", "6:20: epochs: input should be a valid integer (here: 100.0)"),
        ("backbones: [mlp, {name: gcn, hidden: '64'}]", "5:38: hidden: input should be a valid integer (here: '64')"),
        ("backbones: [mlp, {name: gcn, dropout: 1}]", "5:39: dropout: input should be less than 1 (here: 1)"),
        ("backbones: [mlp, {name: revgat, num_layers: 2}]", "5:18: num_layers is 2: RevGAT needs at least 3"),
        ("backbones: [{name: sign, s: 0, p: 0, identity: false}]", "5:13: s, p and t are 0 and identity is false"),
        ("features: [{name: shallow, dimension: 0}]", "4:39: dimension: input should be greater than or equal to 1"),
        # seeds
        ("seeds: -1", "6:8: seeds: input should be greater than or equal to 1 (here: -1)"),
        ("seeds: 0", "6:8: seeds: input should be greater than or equal to 1 (here: 0)"),
        ("seeds: no", "6:8: seeds: input should be a valid integer (here: 'no')"),
        ("seeds: true", "6:8: seeds: input should be a valid integer (here: true)"),
        ("seeds: []", "6:8: seeds: list should have at least 1 item"),
        ("seeds: [3, 4, 3]", "6:15: seed 3 stands here twice"),
        ("seeds: [3, -4]", "6:12: seeds: input should be greater than or equal to 0 (here: -4)"),
        ("seeds: [4294967296]", "6:9: seeds: input should be less than 4294967296 (here: 4294967296)"),
        ("seeds: {split: 2}", "6:8: key 'initialisation' is missing"),
        ("seeds: {split: [5, 5], initialisation: 1}", "6:20: seed 5 stands here twice"),
        # what stands twice
        ("datasets: [{name: tiny, path: tiny}, {name: tiny, path: tiny}]", "3:38: 'tiny' stands in datasets twice"),
        (
            "datasets: [{name: tiny, path: tiny}, {name: copy, path: tiny}]",
            "3:38: 'copy' holds the same data as 'tiny'; keep one of them",
        ),
        ("llms: [minilm, {name: minilm, instruction: none}]", "6:16: 'minilm (none)' stands in llms twice"),
        ("features: [shallow, {name: shallow, dimension: 256}]", "4:21: 'shallow' stands in features twice"),
        ("backbones: [mlp, {name: mlp, hidden: 128}]", "5:18: 'mlp' stands in backbones twice"),
        ("compare: [tape, tape]", "6:17: 'tape' stands in compare twice"),
        # ensembles
        ("ensembles: [{name: e, members: [mlp, gnc]}]", "6:38: unknown ensemble member 'gnc'; did you mean 'gcn'?"),
        ("ensembles: [{name: e, members: [mlp, mlp]}]", "6:32: a member stands here twice"),
        ("ensembles: [{name: e, members: [mlp]}]", "6:32: an ensemble needs two members"),
        ("ensembles: [{name: mlp, members: [mlp, gcn]}]", "6:13: 'mlp' stands in ensembles twice"),
        ("ensembles: [{name: e, members: [mlp, gcn], combine: mean}]", "6:53: unknown combine 'mean'; did you mean"),
        # what needs something first
        ("features: [simteg]", "4:12: dataset 'tiny' has no folder answers/"),
        ("features: [tape]", "4:12: dataset 'tiny' has no folder answers/"),
        ("backbones: [{name: gcn, recipe: ogb-revgat}]", "5:13: recipe 'ogb-revgat' has no values for gcn; give this"),
        ("features: []", "1:1: a suite needs `llms` or `features`"),
        ("datasets: [cora]", "3:12: dataset 'cora' is not in the data folder "),
        ("datasets: [{name: x, path: absent, optional: true}]", "3:11: no dataset is left: x is left out: "),
        ("splits: random-98-1-1", "3:12: split 'random-98-1-1' of 40 labelled nodes leaves the val part empty"),
        ("llms: [{name: minilm, path: absent}]", "6:8: "),
        ("memory: 8", "6:9: memory: input should be a valid string (here: 8)"),
        ("memory: 8 apples", "6:9: memory: '8 apples' is no size of memory: write a number and one of "),
        (f"memory: {'9' * 400}GB", "6:9: memory: '9999999999999999999999999999999999999999…' is no size of memory: "),
        # what is endless, or no name at all
        ("seeds: {split: 101, initialisation: 100}", "6:8: 101 splits times 100 initialisations are more than 10,000"),
        (
            f"seeds: {list(range(10_001))}",
            "6:8: seeds: list should have at most 10000 items after validation, not 10001",
        ),
        (
            f"splits: random-{'9' * 5000}-20-20",
            f"6:9: unknown split 'random-{'9' * 193}…' (valid: random-60-20-20, or ",
        ),
        ("datasets: [{name: x, path: ~nobody-here/x}]", "3:28: '~nobody-here/x' is no path: Could not determine home"),
        (f"datasets: [{{name: x, path: {'x' * 300}}}]", f"3:28: '{'x' * 200}…': File name too long"),
        ("features: [{name: simteg, answers: {upstream: ~nobody-here/x}}]", "4:47: '~nobody-here/x' is no path: "),
        ("llms: [{name: minilm, path: ~nobody-here/x}]", "6:29: '~nobody-here/x' is no path: Could not determine home"),
        ("plugins: [~nobody-here/x.py]", "6:11: '~nobody-here/x.py' is no path: Could not determine home directory"),
        (f"compare: [{'x' * 5000}]", f"6:11: unknown published numbers '{'x' * 200}…' (valid: "),
        (f"description: [{'x' * 5000}]", "6:14: description: input should be a valid string"),
        (f"recipe: 12{'3' * 15}", f"2:9: recipe: input should be a valid string (here: 12{'3' * 15})"),
        ('compare: ["a\\nb\\u2028c"]', r"6:11: unknown published numbers 'a\nb\u2028c' (valid: "),
        ('"na\\nme": x', r"6:1: unknown key 'na\nme'; did you mean 'name'? (valid: "),
        ("ensembles: [{name: e, members: [mlp, gcn], inputs: x}]", "6:52: unknown inputs 'x' (valid: all, each)"),
        ("llms: [{name: minilm, endpoint: 7}]", "6:33: llms.endpoint: input should be a valid string (here: 7)"),
        (
            "ensembles: [{name: e, members: [mlp, gcn], weights: [1, x]}]",
            "6:57: ensembles.weights: input should be a valid number (here: 'x')",
        ),
        # what nothing would read, and what cannot be
        ("training: {fanout: 3}", "6:12: fanout is read only with batching: neighbor"),
        (
            "backbones: [{name: gcn, label_iterations: 1}]",
            "5:25: label_iterations is read only with label_inputs: true",
        ),
        ("training: {distillation_temperature: 2.0}", "6:12: distillation_temperature is read only with distillation "),
        ("backbones: [{name: sign, label_inputs: true}]", "5:13: label_inputs needs a backbone of message passing"),
        ("backbones: [{name: gcn, label_inputs: true, batching: neighbor}]", "5:13: label_inputs needs batching: full"),
        ("backbones: [{name: revgat, reversible: true, batching: neighbor}]", "5:13: reversible: true needs batching"),
        # tuning
        ("tuning: {}", "6:9: key 'trials' is missing"),
        ("tuning: {trails: 2}", "6:10: unknown key 'trails'; did you mean 'trials'? (valid: metric, pruner, sampler, "),
        ("tuning: {trials: 0}", "6:18: tuning.trials: input should be greater than or equal to 1 (here: 0)"),
        (
            "tuning: {trials: 2, sampler: tpee}",
            "6:30: unknown sampler 'tpee'; did you mean 'tpe'? (valid: gp, grid, random, tpe)",
        ),
        ("tuning: {trials: 2, seeds: [7, 7]}", "6:28: tuning.seeds: a seed stands here twice"),
        ("tuning: {trials: 2, space: {}}", "6:9: mlp: nothing is left to search"),
        ("tuning: {trials: 2, space: {lr: {low: 1, high: 0.1}}}", "6:28: tuning.space: lr: low must be a number below"),
        (
            "tuning: {trials: 2, space: {lr: {low: 0, high: 1, log: true}}}",
            "6:28: tuning.space: lr: a logarithmic range",
        ),
        ("tuning: {trials: 2, space: {lr: {low: 0.1}}}", "6:28: tuning.space: lr: a range is {low, high}"),
        ("tuning: {trials: 2, space: {lr: []}}", "6:28: tuning.space: lr: a list of choices must not be empty"),
        ("tuning: {trials: 2, space: {lr: 0.1}}", "6:28: tuning.space: lr: give a list of choices or a range"),
        ("tuning: {trials: 2, space: {drpout: [0.1]}}", "6:29: unknown option 'drpout'; did you mean 'dropout'?"),
        ("tuning: {trials: 2, space: {heads: [1, 2]}}", "6:29: unknown option 'heads'"),
        ("tuning: {trials: 2, space: {lr: [0.1, -1]}}", "6:33: lr: input should be greater than 0 (here: -1)"),
        ("tuning: {trials: 2, space: {hidden: {low: 8, high: 16.5}}}", "6:37: hidden: input should be a valid integer"),
        ("tuning: {trials: 2, space: {optimizer: [adm]}}", "6:40: unknown optimizer 'adm'; did you mean 'adam'?"),
        (
            "backbones: [mlp, {name: gcn, tuning: {trials: 2, space: {drpout: [0.1]}}}]",
            "5:58: unknown option 'drpout'; did you mean 'dropout'?",
        ),
    ],
)
def test_one_line_for_one_mistake(mistake, line: str, message: str):
    said = mistake(line)
    assert said.startswith(message)
    assert "\n" not in said


@pytest.mark.parametrize(
    "entry", ["llms: [{name: minilm, endpoint: '%s'}]", "features: [{name: tape, answers: {model: m, endpoint: '%s'}}]"]
)
@pytest.mark.parametrize(
    "url", ["https://host/v1?api_key=hunter2", "https://host/v1#hunter2", "https://me:hunter2@host/v1"]
)
def test_a_key_in_an_address_is_refused_before_it_is_written_anywhere(mistake, entry: str, url: str):
    said = mistake(entry % url)
    assert "hunter2" not in said
    assert "write the base" in said or "a key belongs in $OPENAI_API_KEY" in said


def test_more_runs_than_a_plan_can_hold(mistake):
    backbones = ", ".join(f"{{name: mlp, hidden: {size}}}" for size in range(1, 103))
    said = mistake(f"backbones: [{backbones}]\nseeds: 10000")
    assert "1,020,000 runs, and a suite may have 1,000,000; divide it into several" in said


def test_one_line_for_each_mistake(mistake, tmp_path: Path):
    first, second = mistake("seeds: -1\nsedes: 3").splitlines()
    assert first == "6:8: seeds: input should be greater than or equal to 1 (here: -1)"
    assert second.startswith(f"{tmp_path / 'suite.yaml'}:7:1: unknown key 'sedes'; did you mean 'seeds'? (valid: ")


@pytest.mark.parametrize(
    ("line", "valid"),
    [
        ("datasets: [x]", lambda: registry.specs("datasets")),
        ("llms: [x]", lambda: registry.ready("llms")),
        ("features: [x]", lambda: [*registry.ready("features"), *bundle.names()]),
        ("backbones: [x]", lambda: registry.ready("backbones")),
        ("recipe: x", recipe_names),
        ("compare: [x]", published_names),
    ],
)
def test_an_unknown_name_is_answered_with_every_valid_one(mistake, line: str, valid):
    listed = mistake(line).partition("(valid: ")[2].partition(")")[0].split(", ")
    assert listed == sorted(valid())
    assert listed


def test_other_words_for_the_same_run_are_refused(tiny_folder, suite_file, make_plan):
    """Each label would have the run in the leaderboard: one number, counted twice."""
    tiny_folder()
    suite = {
        "name": "same",
        "recipe": "stage",
        "datasets": [{"name": "tiny", "path": "tiny"}],
        "features": [{"name": "shallow", "dimension": 4}],
    }
    pairs = {
        "mlp seed 0' and 'train tiny shallow(dimension=4) mlp(lr=0.02) seed 0": {
            "training": {"lr": 0.02},
            "backbones": ["mlp", {"name": "mlp", "lr": 0.02}],
        },
        "a seed 0' and 'ensemble tiny shallow(dimension=4) b seed 0": {
            "backbones": ["mlp", "gcn"],
            "ensembles": [{"name": "a", "members": ["mlp", "gcn"]}, {"name": "b", "members": ["gcn", "mlp"]}],
        },
    }
    for titles, changes in pairs.items():
        path = suite_file({**suite, **changes})
        with pytest.raises(StageBenchError) as caught:
            make_plan(path)
        assert f"{titles}' are the same run; keep one of them" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "label"),
    [
        ("sign", "sign"),
        ({"name": "sign", "t": 1, "p": 2, "s": 4}, "sign(s=4,p=2,t=1)"),
        ({"name": "sign", "s": 3, "p": 3, "t": 0}, "sign"),
        ({"name": "gcn", "lr": 0.005, "batch_norm": False}, "gcn(batch_norm=false,lr=0.005)"),
        ({"name": "gcn", "weight_decay": 0.00012}, "gcn(weight_decay=0.00012)"),
        ({"name": "gcn", "recipe": "default"}, "gcn(recipe=default)"),
        ({"name": "gcn", "recipe": "stage"}, "gcn"),
        ({"name": "gcn", "tuning": {"trials": 7, "space": {"lr": [0.1, 0.2]}}}, "gcn(tuning=7)"),
        ({"name": "gcn", "tuning": {"trials": 7, "space": "stage"}}, "gcn(tuning=7,space=stage)"),
    ],
)
def test_backbone_labels(chosen, entry: Any, label: str):
    assert [backbone.label for backbone in chosen(backbones=[entry]).backbones] == [label]


@pytest.mark.parametrize(
    ("entry", "label", "instruction"),
    [
        ("minilm", "minilm", "none"),
        ("sfr-embedding-mistral", "sfr-embedding-mistral", "default"),
        ({"name": "sfr-embedding-mistral", "instruction": "none"}, "sfr-embedding-mistral", "none"),
        ({"name": "sfr-embedding-mistral", "instruction": "Sort this."}, "sfr-embedding-mistral", "Sort this."),
        ({"name": "minilm", "normalize": False, "max_length": 99}, "minilm(max_length=99,normalize=false)", "none"),
        ({"name": "minilm", "pooling": "mean", "dtype": "float32"}, "minilm", "none"),
        ({"name": "e5-mistral-7b-instruct", "trust_remote_code": True}, "e5-mistral-7b-instruct", "default"),
    ],
)
def test_llm_labels(chosen, entry: Any, label: str, instruction: str):
    assert [(llm.label, llm.instruction) for llm in chosen(llms=[entry]).llms] == [(label, instruction)]


def test_feature_labels(chosen):
    features = ["shallow", {"name": "shallow", "normalize": False, "weighting": "counts"}]
    labels = [feature.label for feature in chosen(features=features).features]
    assert labels == ["shallow", "shallow(weighting=counts,normalize=false)"]


@pytest.mark.parametrize(
    ("seeds", "pairs"),
    [
        (2, ((0, 0), (1, 1))),
        ([5, 3], ((5, 5), (3, 3))),
        ({"split": 2, "initialisation": [7, 8]}, ((0, 7), (0, 8), (1, 7), (1, 8))),
    ],
)
def test_seeds(chosen, seeds: Any, pairs: tuple[tuple[int, int], ...]):
    assert chosen(seeds=seeds).seeds == pairs


def test_a_fixed_split_is_not_drawn_again_for_every_seed(tiny_folder, suite_file, make_plan):
    folder = tiny_folder(splits={"protocol": "file"})
    (folder / "split.json").write_text('{"train": [0, 1, 2, 3], "val": [4, 5], "test": [6]}')
    suite = {
        "name": "fixed",
        "datasets": [{"name": "tiny", "path": "tiny"}],
        "features": [{"name": "shallow", "dimension": 4}],
        "backbones": ["mlp"],
        "splits": "random-50-30-20",
        "seeds": {"split": 3, "initialisation": 2},
    }
    runs = [job for job in make_plan(suite_file(suite)).jobs if isinstance(job, TrainJob)]
    assert [(job.split, job.split_seed, job.init_seed) for job in runs] == [("file", None, 0), ("file", None, 1)]
    suite["datasets"][0]["split"] = "random-60-20-20"  # type: ignore[index]
    runs = [job for job in make_plan(suite_file(suite)).jobs if isinstance(job, TrainJob)]
    assert [(job.split, job.split_seed) for job in runs] == [("random-60-20-20", seed) for seed in (0, 0, 1, 1, 2, 2)]


def test_an_optional_dataset_that_is_absent_is_left_out_with_a_word(tiny_folder, suite_file, make_plan, tmp_path: Path):
    tiny_folder()
    entries = "{name: tiny, path: tiny}, {name: cora, optional: true}, {name: mine, path: absent, optional: true}"
    plan = make_plan(suite_file("\n".join({**SUITE, "datasets": f"datasets: [{entries}]"}.values())))
    assert {job.dataset for job in plan.jobs} == {"tiny"}
    cora, mine = plan.left_out
    assert cora.startswith("cora is left out: it is not in the data folder (--data or $STAGE_BENCH_DATA); fetch it ")
    assert mine == "mine is left out: there is no dataset.yaml in absent"


def test_every_suite_that_comes_with_stage_bench_is_right():
    folder = Path(__file__).parents[1] / "suites"
    paths = sorted(folder.glob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        choices = choose(*read(path))  # raises where anything but a dataset's files is missing
        assert choices.suite.name == path.stem
        assert choices.suite.description
