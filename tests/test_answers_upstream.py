"""Responses that are there already, in TAPE's form: read, counted, and refused where a node has none."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_server import response, right
from stage_bench.answers import choice as choices
from stage_bench.answers import source
from stage_bench.answers.choice import AnswersChoice
from stage_bench.answers.source import Answers
from stage_bench.datasets import folder as folders
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features import gpt_predictions
from stage_bench.features import source as features
from stage_bench.features.options import PredictionOptions
from stage_bench.features.spec import FeatureChoice, Setting
from stage_bench.llms.cache import EmbeddingCache
from tiny import text_graph, write_folder

NODES = 12


def setting(place: Path, graph: TextGraph, chosen: AnswersChoice | None, said: list[str] | None = None) -> Setting:
    nothing = np.empty(0, dtype=np.int64)
    return Setting(
        graph=graph,
        train=nothing,
        val=nothing,
        split_seed=0,
        folder=place / "work",
        results=place / "results",
        device="cpu",
        answers=chosen,
        say=(said if said is not None else []).append,
    )


def write(place: Path, graph: TextGraph, **changes: Any) -> Path:
    """TAPE's files for a graph; changes: `n3="..."` is what the file of node 3 holds instead."""
    place.mkdir(parents=True, exist_ok=True)
    for node, text in enumerate(graph.texts or ()):
        content = changes.get(f"n{node}", response(right(text), "one two"))
        (place / f"{node}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return place


@pytest.fixture
def graph() -> TextGraph:
    return text_graph(NODES)


def load(tmp_path: Path, graph: TextGraph, said: list[str] | None = None) -> Answers:
    chosen = AnswersChoice(label="gpt", kind="upstream", folder=tmp_path / "gpt")
    return source.load(setting(tmp_path, graph, chosen, said))


def test_every_form_of_a_response_is_read(tmp_path, graph):
    said: list[str] = []
    old = {"choices": [{"text": "rl, nn\n\nThis is what old completions look like.", "index": 0}]}
    filtered = response(None)
    filtered["choices"][0]["finish_reason"] = "content_filter"
    cut = response("Class: ga\nExplanation: and th")
    cut["choices"][0]["finish_reason"] = "length"
    write(tmp_path / "gpt", graph, n1=old, n2=filtered, n3=response(""), n4=response("Sociology, ga"), n5=cut)
    answers = load(tmp_path, graph, said)
    assert answers.ranked.dtype == np.int64
    assert answers.ranked[:6, 0].tolist() == [0, 2, -1, -1, 1, 1]
    assert answers.ranked[1, :2].tolist() == [2, 0]
    assert answers.ranked[:, 0].tolist()[6:] == graph.labels[6:].tolist()
    assert answers.explanations[1] == "rl, nn\n\nThis is what old completions look like."
    assert answers.explanations[2] == ""
    assert answers.counts == {
        **{"answered": NODES - 2, "named_no_class": 0, "named_unknown": 1, "refused": 1, "empty": 1, "cut": 1}
    }
    assert said[-1] == f"{graph.name}: answers: 10 answered, 1 named unknown, 1 refused, 1 empty, 1 cut of 12 nodes"
    # Two tokens of each prompt; the answers' own, where a file counts them.
    words = sum(len(text.split()) for node, text in enumerate(answers.explanations) if node != 1)
    assert answers.spent == {"answer_tokens": words + 2 * (NODES - 5)}


def test_the_datasets_own_folder(tmp_path):
    path = write_folder(tmp_path / "tiny", NODES)
    assert folders.load(path).answers_path is None
    graph = folders.load(path)
    chosen = AnswersChoice(label="upstream", kind="upstream")
    with pytest.raises(StageBenchError, match="dataset 'tiny' has no folder answers/"):
        choices.identity(graph, chosen)
    write(path / "answers", graph)
    graph = folders.load(path)
    assert graph.answers_path == path / "answers"
    with pytest.raises(StageBenchError, match=r"no gpt_preds.csv, .*; answers: \{\} reads those in its folder"):
        features.identity(graph, FeatureChoice("gpt-predictions", "P", {}))
    answers = source.load(setting(tmp_path, graph, chosen))
    assert (answers.ranked[:, 0] == graph.labels).all()


def test_other_files_do_not_matter_and_neither_does_the_place(tmp_path, graph):
    write(tmp_path / "gpt", graph)
    write(tmp_path / "elsewhere", graph)
    for name in ("manifest.json", "lock", "README.md", ".3.json.tmp"):
        (tmp_path / "gpt" / name).write_text("x")
    chosen = AnswersChoice(label="gpt", kind="upstream", folder=tmp_path / "gpt")
    identity = choices.identity(graph, chosen)
    assert identity == choices.identity(graph, dataclasses.replace(chosen, folder=tmp_path / "elsewhere", label="e"))
    assert str(tmp_path) not in json.dumps(identity)
    write(tmp_path / "third", graph, n3=response("ga"))
    assert identity != choices.identity(graph, dataclasses.replace(chosen, folder=tmp_path / "third"))


def test_a_missing_file_is_an_error_with_the_count(tmp_path, graph):
    write(tmp_path / "gpt", graph)
    for node in (3, 7, 8):
        os.remove(tmp_path / "gpt" / f"{node}.json")
    with pytest.raises(StageBenchError, match=r"gpt: 3 of 12 nodes have no response; the first is 3\.json"):
        load(tmp_path, graph)


def test_a_file_of_a_node_that_there_is_not(tmp_path, graph):
    write(tmp_path / "gpt", graph)
    (tmp_path / "gpt" / "12.json").write_text("{}")
    with pytest.raises(
        StageBenchError, match=r"holds 12\.json and 0 more of nodes that are not among the dataset's 12"
    ):
        load(tmp_path, graph)


def test_a_folder_without_responses(tmp_path, graph):
    (tmp_path / "gpt" / "Cora").mkdir(parents=True)
    with pytest.raises(StageBenchError, match=r"holds no responses named 0\.json"):
        load(tmp_path, graph)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        ('{"choices": [{"message": {"content": "nn', "not JSON"),
        ("\x80", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "no JSON object"),
        ("{}", "no `choices`"),
        ('{"choices": []}', "no `choices`"),
        ('{"error": {"message": "quota"}}', "no `choices`"),
        ('{"choices": [{"message": {}}]}', "no text in"),
        ('{"choices": [{"message": {"content": 3}}]}', "no text in"),
        ('{"choices": [{"text": null}]}', "no text in"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, graph, content, says):
    write(tmp_path / "gpt", graph)
    (tmp_path / "gpt" / "5.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(StageBenchError) as caught:
        load(tmp_path, graph)
    assert f"gpt/5.json: no response of a chat model: {says}" in str(caught.value)


def test_what_is_no_file_is_named(tmp_path, graph):
    write(tmp_path / "gpt", graph)
    (tmp_path / "gpt" / "5.json").unlink()
    (tmp_path / "gpt" / "5.json").mkdir()
    with pytest.raises(StageBenchError, match=r"gpt/5\.json cannot be read: Is a directory"):
        load(tmp_path, graph)


def test_answers_that_name_hardly_any_class(tmp_path, graph):
    wrong = {f"n{node}": response("Sociology") for node in range(NODES // 2)}
    write(tmp_path / "gpt", graph, **wrong)
    assert load(tmp_path, graph).counts["named_no_class"] == NODES // 2
    write(tmp_path / "gpt2", graph, **wrong, n6=response("Sociology\n" + "x" * 500))
    chosen = AnswersChoice(label="gpt", kind="upstream", folder=tmp_path / "gpt2")
    with pytest.raises(JobError) as caught:
        source.load(setting(tmp_path, graph, chosen))
    expected = (
        "answers of 'gpt': 7 of 12 name no class of the dataset (0 refused, 0 empty); for node 0 it said: 'Sociology'"
    )
    assert str(caught.value) == expected


# --- as features ---


def test_predictions_from_answers_through_the_cache(tmp_path):
    path = write_folder(tmp_path / "tiny", NODES)
    graph = folders.load(path)
    write(path / "answers", graph, n0=response("Sociology"), n1=response("rl, ga"))
    (path / "gpt_preds.csv").write_text("2\n" * NODES)  # not read where answers are named
    graph = folders.load(path)
    chosen = AnswersChoice(label="upstream", kind="upstream")
    feature = FeatureChoice("gpt-predictions", "P", {"k": 2}, answers=chosen)
    cache = EmbeddingCache(tmp_path / "results" / "embeddings")
    matrix, manifest = features.load(graph, feature, cache, "cpu")
    expected = np.zeros((NODES, 2, 3), dtype=np.float32)
    scores = np.zeros((NODES, 3), dtype=np.float32)
    for node, label in enumerate(graph.labels):
        named = {0: [], 1: [2, 1]}.get(node, [label])
        for rank, number in enumerate(named):
            expected[node, rank, number] = 1
            scores[node, number] = 1 / (rank + 1)
    assert np.array_equal(matrix, expected.reshape(NODES, -1))
    assert np.array_equal(features.load_predictions(graph, feature, cache), scores)
    assert manifest["answer_tokens"] > 0
    identity = features.identity(graph, feature)
    assert identity["answers"] == choices.identity(graph, chosen)
    assert "reads" not in identity


def test_predictions_from_the_file_are_what_they_were(tmp_path):
    path = write_folder(tmp_path / "tiny", 6)
    (path / "gpt_preds.csv").write_text("0\n1,2\n\n2,0,1\n1,7\n2\n")
    graph = folders.load(path)
    said: list[str] = []
    built = gpt_predictions.run(setting(tmp_path, graph, None, said), PredictionOptions(k=2))
    assert built.matrix.tobytes() == gpt_predictions.build(graph, PredictionOptions(k=2)).tobytes()
    assert built.spent == {}
    assert built.logits is not None
    third = np.float32(1 / 3)
    assert built.logits.tolist() == [[1, 0, 0], [0, 1, 0.5], [0, 0, 0], [0.5, third, 1], [0, 1, 0], [0, 0, 1]]
    assert said == [f"{graph.name}: 1 of 6 nodes have no prediction, which by itself counts as the first class"]


def test_more_ranks_than_classes(tmp_path):
    path = write_folder(tmp_path / "tiny", 6)
    (path / "gpt_preds.csv").write_text("0\n" * 6)
    graph = folders.load(path)
    with pytest.raises(StageBenchError, match="k: 6 ranks, but dataset 'tiny' has 3 classes"):
        features.identity(graph, FeatureChoice("gpt-predictions", "P", {"k": 6}))
    features.identity(graph, FeatureChoice("gpt-predictions", "P", {"k": 5}))


def test_tapes_predictions_for_cora_from_files_in_tapes_form(real_data, tmp_path):
    """What TAPE read from GPT's answers, written as answers: the same features, and GPT's known accuracy."""
    graph = folders.load(real_data / "cora")
    assert graph.predictions is not None
    (tmp_path / "gpt").mkdir()
    for node, row in enumerate(graph.predictions):
        named = ", ".join(graph.label_names[number].replace("_", " ") for number in row if number >= 0)
        content = f"{named}\n\nThe paper is about {graph.label_names[node % 7]}."
        (tmp_path / "gpt" / f"{node}.json").write_text(json.dumps(response(content, "one two three")))
    chosen = AnswersChoice(label="gpt", kind="upstream", folder=tmp_path / "gpt")
    built = gpt_predictions.run(setting(tmp_path, graph, chosen), PredictionOptions())
    assert np.array_equal(built.matrix, gpt_predictions.build(graph, PredictionOptions()))
    assert built.logits is not None
    assert round(float((built.logits.argmax(axis=1) == graph.labels).mean()), 4) == 0.6769
