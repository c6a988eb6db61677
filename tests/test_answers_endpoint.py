"""Asking a chat server on this machine that answers well, badly or not at all; what is kept, and what it cost."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_server import ChatServer, error, raw, response, right, say, serving
from stage_bench import fingerprint
from stage_bench.answers import choice as choices
from stage_bench.answers import source, store
from stage_bench.answers.choice import AnswersChoice
from stage_bench.answers.endpoint import ChatEndpoint
from stage_bench.answers.source import Answers
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features import gpt_predictions
from stage_bench.features.options import PredictionOptions
from stage_bench.features.spec import Setting
from stage_bench.llms.server import Server
from tiny import carry_out, records, text_graph, write_folder

NODES = 24
SECRET = "sk-Zq81secretXv"
HERE = Path(__file__).parent


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving() as server:
        server.answer = say(right)
        yield server


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    """The seconds that would have been waited; and no key or address that this machine may have."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    waited: list[float] = []
    monkeypatch.setattr(ChatEndpoint, "_pause", lambda self, seconds: waited.append(seconds))
    return waited


def chat(server: ChatServer, **changes: Any) -> AnswersChoice:
    return AnswersChoice(**{"label": "m", "kind": "endpoint", "url": server.url, "model": "m", **changes})


def setting(
    place: Path, graph: TextGraph, chosen: AnswersChoice, step: Callable[[int, int, str], None] = lambda *_: None
) -> Setting:
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
        step=step,
    )


def load(place: Path, chosen: AnswersChoice, graph: TextGraph | None = None) -> Answers:
    return source.load(setting(place, graph or text_graph(NODES), chosen))


def kept(place: Path, chosen: AnswersChoice, graph: TextGraph | None = None) -> Path:
    identity = choices.identity(graph or text_graph(NODES), chosen)
    return place / "results" / "answers" / fingerprint.of_json(identity["asked"])


def refusal(place: Path, chosen: AnswersChoice, graph: TextGraph | None = None) -> str:
    with pytest.raises(JobError) as caught:
        load(place, chosen, graph)
    message = str(caught.value)
    assert "\n" not in message
    return message


def about(node: int) -> str:
    return f"number {node}\n"


def only_for(node: int, answer: Callable[[str], Any], otherwise: Callable[[str], Any] | None = None) -> Any:
    return lambda prompt: (answer if about(node) in prompt else otherwise or say(right))(prompt)


# --- what is asked, and what is kept ---


def test_each_node_is_asked_about_once_and_kept(server, tmp_path):
    steps: list[tuple[int, int, str]] = []
    said: list[str] = []
    graph, chosen = text_graph(NODES), chat(server, temperature=0.5, max_tokens=99)
    told = setting(tmp_path, graph, chosen, lambda *step: steps.append(step))
    answers = source.load(dataclasses.replace(told, say=said.append))
    assert answers.ranked[:, 0].tolist() == graph.labels.tolist()
    assert all(text.endswith("Explanation: its words say so.") for text in answers.explanations)
    assert sorted(server.prompts) == sorted(
        f"{text}\n\nWhich of these classes does the text above belong to?\n- nn\n- ga\n- rl\n\nName up to 3 of them, "
        "the most likely first. Write each on a line of its own that begins with `Class:`, with its name as it stands "
        "in the list. Then write a line that begins with `Explanation:`, and explain for each class you named how it "
        "shows in the text."
        for text in graph.texts
    )
    request = server.seen[0]
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("m", 0.5, 99)
    assert [message["role"] for message in request["messages"]] == ["user"]
    assert "Authorization" not in request["headers"]
    assert [step[0] for step in steps] == list(range(NODES + 1))
    assert said == [f"{graph.name}: answers: 24 answered of 24 nodes"]
    folder = kept(tmp_path, chosen)
    assert {path.name for path in folder.glob("[0-9]*.json")} == {f"{node}.json" for node in range(NODES)}
    told = json.loads((folder / "3.json").read_text())
    assert told["choices"][0]["message"]["content"] == answers.explanations[3]
    assert told["usage"]["total_tokens"] > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["answered"] == NODES
    assert manifest["answer_tokens"] == answers.spent["answer_tokens"]


def test_nothing_is_asked_again(server, tmp_path):
    first = load(tmp_path, chat(server))
    asked = len(server.seen)
    again = load(tmp_path, chat(server, label="other", most_tokens=1))
    assert len(server.seen) == asked == NODES
    assert np.array_equal(first.ranked, again.ranked)
    assert first.explanations == again.explanations
    assert first.spent == again.spent, "as long as it took when they were given"


def test_a_folder_asked_for_here_can_be_used_as_upstream(server, tmp_path):
    asked = load(tmp_path, chat(server))
    folder = kept(tmp_path, chat(server))
    read = load(tmp_path, AnswersChoice(label="x", kind="upstream", folder=folder))
    assert np.array_equal(read.ranked, asked.ranked)
    assert read.explanations == asked.explanations
    assert read.spent == asked.spent


def test_identical_texts_are_asked_once(server, tmp_path):
    graph = text_graph(NODES)
    graph = dataclasses.replace(graph, texts=[graph.texts[node % 4] for node in range(NODES)])
    answers = load(tmp_path, chat(server, price_prompt=1.0, price_completion=1.0), graph)
    assert len(server.seen) == 4
    assert len(set(answers.explanations)) <= 4
    assert all(answers.explanations[node] == answers.explanations[node % 4] for node in range(NODES))
    tokens = sum(sum(store.understood(response(right(prompt), prompt)).usage.values()) for prompt in server.prompts)
    assert answers.spent["answer_tokens"] == tokens
    assert answers.spent["answer_dollars"] == pytest.approx(tokens / 1e6)


def test_several_requests_are_on_their_way_at_once(server, tmp_path):
    together = threading.Barrier(6, timeout=20)

    def meet(prompt: str) -> Any:
        together.wait()
        return say(right)(prompt)

    server.steps.append(say(right))  # the first goes alone: what is wrong with all of them costs one
    server.steps.extend([meet] * together.parties)
    load(tmp_path, chat(server))
    assert not together.broken


def test_what_it_costs(server, tmp_path):
    server.answer = say("Class: nn", usage={"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110})
    began = time.perf_counter()
    answers = load(tmp_path, chat(server, price_prompt=2.0, price_completion=10.0))
    passed = time.perf_counter() - began
    assert answers.spent["answer_tokens"] == 110 * NODES
    assert answers.spent["answer_dollars"] == pytest.approx(NODES * (100 * 2 + 10 * 10) / 1e6)
    assert 0 < answers.spent["answer_seconds"] <= passed


@pytest.mark.parametrize("usage", [None, {}, "x", {"prompt_tokens": "9"}, {"prompt_tokens": -1}])
def test_tokens_that_nobody_counted_are_left_out(server, tmp_path, usage):
    server.answer = say("Class: nn", usage=usage)
    assert set(load(tmp_path, chat(server, price_prompt=1.0, price_completion=1.0)).spent) == {"answer_seconds"}


# --- trouble that passes ---


@pytest.mark.parametrize(
    "trouble",
    [
        error(500, "worker died"),
        error(503, "starting"),
        error(429, "slow down", Retry_After="7"),
        lambda prompt: (0, {}, b""),
        raw(b'{"choices": [{"message": {"content": "Cla'),
        raw(response("Class: nn"), Content_Length="100000"),
    ],
)
def test_what_passes_is_tried_again(server, tmp_path, pauses, trouble):
    server.steps.extend([trouble, trouble])
    answers = load(tmp_path, chat(server))
    assert answers.counts["answered"] == NODES
    assert len(server.seen) == NODES + 2
    assert len(pauses) == 2
    if trouble("")[0] == 429:
        assert pauses == [7, 7]


def test_a_server_that_gives_out_leaves_what_was_answered(server, tmp_path, pauses):
    server.steps.extend([say(right)] * 10)
    server.answer = error(503, "gone home")
    message = refusal(tmp_path, chat(server))
    assert message.startswith(f"answers of 'm' at {server.url}/chat/completions: the server answered 503: gone home")
    assert "what was answered stays, so run again later" in message
    there = len(list(kept(tmp_path, chat(server)).glob("[0-9]*.json")))
    assert there == 10
    server.answer = say(right)
    server.seen.clear()
    load(tmp_path, chat(server))
    assert len(server.seen) == NODES - 10


def test_a_timeout_after_all_attempts(server, tmp_path, monkeypatch):
    monkeypatch.setattr(ChatEndpoint, "timeouts", (5.0, 0.2))
    monkeypatch.setattr(ChatEndpoint, "attempts", 2)
    slow = threading.Event()

    def late(prompt: str) -> Any:
        slow.wait(20)
        return say(right)(prompt)

    server.answer = only_for(20, late)
    assert "no answer within 0.2 seconds (2 attempts)" in refusal(tmp_path, chat(server))
    slow.set()
    assert not (kept(tmp_path, chat(server)) / "20.json").exists()
    server.answer, seen = say(right), Counter(server.prompts)
    assert load(tmp_path, chat(server)).counts["answered"] == NODES
    again = Counter(server.prompts) - seen
    assert any(about(20) in prompt for prompt in again)
    assert sum(again.values()) < NODES


# --- refusals, and answers that are none ---


FILTERED = response(None)
FILTERED["choices"][0]["finish_reason"] = "content_filter"
REFUSED = response(None)
REFUSED["choices"][0]["message"]["refusal"] = "I will not."


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (error(400, "content management policy"), "the server answered 400: content management policy"),
        (error(400, "maximum context length is 9"), "the server answered 400: maximum context length is 9"),
        (error(413, "large"), "the server answered 413: large"),
        (raw(FILTERED), "filtered by the server"),
        (raw(REFUSED), "I will not."),
    ],
)
@pytest.mark.parametrize("node", [0, 7, NODES - 1])
def test_a_refusal_is_kept_with_its_reason(server, tmp_path, answer, why, node):
    server.answer = only_for(node, answer)
    answers = load(tmp_path, chat(server))
    assert (answers.ranked[node] == -1).all()
    assert answers.explanations[node] == ""
    assert (answers.ranked[:, 0] >= 0).sum() == NODES - 1
    assert answers.counts["refused"] == 1
    known = store.read(kept(tmp_path, chat(server)), node)
    assert known is not None
    assert known.refused == why
    asked = len(server.seen)
    assert asked == NODES
    load(tmp_path, chat(server))
    assert len(server.seen) == asked, "not asked again"
    (kept(tmp_path, chat(server)) / f"{node}.json").unlink()
    server.answer = say(right)
    assert load(tmp_path, chat(server)).counts["refused"] == 0
    assert len(server.seen) == asked + 1


def test_an_empty_answer_is_kept_as_none(server, tmp_path):
    server.answer = only_for(3, say(""))
    answers = load(tmp_path, chat(server))
    assert answers.counts["empty"] == 1
    assert (answers.ranked[3] == -1).all()
    load(tmp_path, chat(server))
    assert len(server.seen) == NODES


def test_a_text_with_half_a_character_is_refused_here(server, tmp_path):
    graph = text_graph(NODES)
    graph = dataclasses.replace(graph, texts=[*graph.texts[:-1], "half a \ud83e"])
    answers = load(tmp_path, chat(server), graph)
    assert len(server.seen) == NODES - 1
    assert answers.counts["refused"] == 1


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_everything_does_not_understand_the_request(server, tmp_path, status):
    server.answer = error(status, "unknown field `temperature`")
    message = refusal(tmp_path, chat(server))
    assert f"the server answered {status}: unknown field `temperature` (3 prompts in a row)" in message
    assert len(server.seen) == 3
    assert not list(kept(tmp_path, chat(server)).glob("[0-9]*.json"))


def test_one_that_begins_to_refuse_everything(server, tmp_path):
    server.steps.extend([say(right)] * 10)
    server.answer = error(400, "the moon is full")
    graph = text_graph(60)
    assert "(25 prompts in a row)" in refusal(tmp_path, chat(server), graph)
    assert len(list(kept(tmp_path, chat(server), graph).glob("[0-9]*.json"))) == 10
    server.answer = say(right)
    assert load(tmp_path, chat(server), graph).counts["refused"] == 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (error(404, "The model `m` does not exist"), "404: The model `m` does not exist"),
        (raw({"error": {"message": "no credit", "code": "insufficient_quota"}}, 429), "429: no credit"),
        (error(401, "who are you"), "the server wants a key (401), and $OPENAI_API_KEY is not set"),
        (raw(b"<html>Welcome</html>"), "the reply is no JSON (Welcome); is the URL right?"),
        (raw([1, 2]), "the reply is none of a chat model: no JSON object ([1, 2])"),
        (raw({"data": []}), "the reply is none of a chat model: no `choices` ({'data': []})"),
        (raw({"error": "in a 200"}), "no `choices` (in a 200)"),
        (raw({"choices": [{"message": {"content": [1]}}]}), "no text in"),
        (raw(b'{"choices": [{"message": {"content": "nn"}, "logprobs": NaN}]}'), "the reply holds NaN or an infinity"),
        (raw(b"[" * 100_000), "the reply is nested too deeply"),
        (raw(b"", 307, Location="http://127.0.0.1:1/v2"), "sends on to http://127.0.0.1:1/v2"),
    ],
)
def test_said_at_once(server, tmp_path, pauses, answer, says):
    server.answer = answer
    assert says in refusal(tmp_path, chat(server))
    assert len(server.seen) == 1
    assert not pauses


def test_newer_models_call_the_limit_otherwise(server, tmp_path):
    def picky(prompt: str) -> Any:
        if "max_tokens" in server.seen[-1]:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")(prompt)
        return say(right)(prompt)

    server.answer = picky
    graph = text_graph(3)
    load(tmp_path, chat(server, max_tokens=77), graph)
    assert [request.get("max_completion_tokens") for request in server.seen] == [None, 77, 77, 77]
    assert [request.get("max_tokens") for request in server.seen] == [77, None, None, None]


def test_no_address(tmp_path, server, monkeypatch):
    assert "$OPENAI_BASE_URL is not set" in refusal(tmp_path, chat(server, url=""))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert load(tmp_path, chat(server, url="")).counts["answered"] == NODES


def test_clear_text_to_far_away_is_refused(tmp_path, server):
    assert "in clear text; use https" in refusal(tmp_path, chat(server, url="http://api.example.com/v1"))


# --- nonsense ---


def test_labels_that_do_not_exist_are_counted_and_never_guessed(server, tmp_path):
    server.answer = only_for(4, say("Class: quantum gravity\nExplanation: nn"), only_for(5, say("Class: x\nClass: ga")))
    answers = load(tmp_path, chat(server))
    assert (answers.ranked[4] == -1).all()
    assert answers.ranked[5].tolist()[:1] == [1]
    assert answers.counts["named_unknown"] == 2
    assert answers.counts["named_no_class"] == 1


def test_nonsense_ends_the_job_and_is_kept(server, tmp_path):
    server.answer = say("As an AI I like turtles.\nAnd so on")
    message = refusal(tmp_path, chat(server))
    assert "answers of 'm': 24 of 24 name no class of the dataset (0 refused, 0 empty)" in message
    assert "it said: 'As an AI I like turtles. And so on'" in message
    assert len(list(kept(tmp_path, chat(server)).glob("[0-9]*.json"))) == NODES
    refusal(tmp_path, chat(server))
    assert len(server.seen) == NODES, "a better parser would not have to ask again"


def test_nonsense_is_not_paid_for_to_the_end(server, tmp_path):
    server.answer = say("turtles")
    graph = text_graph(200)
    message = refusal(tmp_path, chat(server), graph)
    assert "the first 25 name no class of the dataset; for node " in message
    asked = len(server.seen)
    assert 25 <= asked <= 25 + 6
    refusal(tmp_path, chat(server), graph)
    assert len(server.seen) <= asked + 6


# --- the budget ---


def test_the_budget_in_tokens_is_never_exceeded(server, tmp_path):
    server.answer = say("Class: nn", usage={"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110})
    chosen = chat(server, max_tokens=50, most_tokens=1000)
    message = refusal(tmp_path, chosen)
    assert "one more request could exceed most_tokens: 1000" in message
    asked = len(server.seen)
    assert 110 * asked <= 1000
    assert asked >= 7
    assert f"{110 * asked:,} tokens spent); {NODES - asked} prompts are still to be asked" in message
    assert "what was answered is kept: raise the limit and run again" in message
    refusal(tmp_path, chosen)
    assert len(server.seen) == asked, "earlier sessions count"
    answers = load(tmp_path, dataclasses.replace(chosen, most_tokens=100_000))
    assert len(server.seen) == NODES
    assert answers.spent["answer_tokens"] == 110 * NODES


def test_the_budget_in_dollars_is_never_exceeded(server, tmp_path):
    server.answer = say("Class: nn", usage={"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500})
    each = (1000 * 1 + 500 * 4) / 1e6
    chosen = chat(server, max_tokens=500, price_prompt=1.0, price_completion=4.0, most_dollars=5.5 * each)
    message = refusal(tmp_path, chosen)
    assert f"could exceed most_dollars: {5.5 * each:g} (7,500 tokens and {5 * each:.4g} dollars spent)" in message
    assert len(server.seen) == 5


def test_a_budget_that_no_request_fits_in(server, tmp_path):
    assert "(0 tokens spent); 24 prompts are still" in refusal(tmp_path, chat(server, most_tokens=500))
    assert not server.seen


def test_a_budget_cannot_be_kept_with_a_server_that_does_not_count(server, tmp_path):
    server.answer = say(right, usage=None)
    assert "does not say how many tokens it used" in refusal(tmp_path, chat(server, most_tokens=100_000))
    assert len(server.seen) == 1
    assert len(list(kept(tmp_path, chat(server)).glob("[0-9]*.json"))) == 1, "it is kept all the same"


# --- the key ---


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
def test_the_key_leaks_nowhere(server, tmp_path, monkeypatch, caplog, capfd, status):
    """Not even from a server that sends it back."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    server.steps.extend([say(lambda prompt: f"Class: nn\nExplanation: {SECRET}", **{SECRET: SECRET})] * 3)
    server.steps.append(raw({"choices": [], "error": f"key {SECRET}"}, status))
    server.steps.append(raw({"choices": [], "error": f"key {SECRET}"}, status))
    server.answer = say(right)
    try:
        said = " ".join(load(tmp_path, chat(server)).explanations)
    except JobError as problem:
        said = str(problem)
    assert server.seen[0]["headers"]["Authorization"] == f"Bearer {SECRET}"
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    for text in (said, caplog.text, *capfd.readouterr(), *files):
        assert not [part for part in (SECRET, SECRET[:6], SECRET[-6:]) if part in text]


@pytest.mark.parametrize("word", ["none", "EMPTY", "x", "test"])
def test_a_word_in_the_place_of_a_key_is_left_in_the_answers(server, tmp_path, monkeypatch, word):
    """Servers that want no key are given one; what a model says of such words is no leak."""
    monkeypatch.setenv("OPENAI_API_KEY", word)
    said = f"Class: nn\nExplanation: {word} of the test texts is EMPTY, none"
    server.answer = say(said)
    assert load(tmp_path, chat(server)).explanations == [said] * NODES


def test_whoever_was_told_to_stop_makes_no_other_attempt(server, monkeypatch):
    """Not even where another request that was on its way then comes back well."""
    monkeypatch.setattr(ChatEndpoint, "_pause", Server._pause)
    monkeypatch.setattr(ChatEndpoint, "longest_wait", 0.01)
    endpoint = ChatEndpoint(chat(server))
    endpoint.close()
    endpoint.answer("on its way")
    server.answer = error(503, "busy")
    with pytest.raises(JobError, match="503"):
        endpoint.answer("on its way as well")
    assert len(server.seen) == 2


def test_what_cannot_be_had_is_not_asked_for(server, tmp_path):
    with pytest.raises(StageBenchError, match="k: 6 ranks"):
        gpt_predictions.run(setting(tmp_path, text_graph(NODES), chat(server)), PredictionOptions(k=6))
    assert not server.seen


# --- interruptions ---

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_answers_endpoint import chat, load
class Server: url = sys.argv[2]
print(load(Path(sys.argv[3]), chat(Server)).counts["answered"])
"""


def child(server: ChatServer, place: Path) -> subprocess.Popen[str]:
    env = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    arguments = [sys.executable, "-c", CHILD, str(HERE), server.url, str(place)]
    return subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_in_the_middle_nothing_kept_is_asked_again(server, tmp_path):
    enough, never = threading.Event(), threading.Event()

    def stall(prompt: str) -> Any:
        if len(server.seen) > 10:
            enough.set()
            never.wait(30)
            return 0, {}, b""
        return say(right)(prompt)

    server.answer = stall
    process = child(server, tmp_path)
    assert enough.wait(60), process.communicate()
    folder = kept(tmp_path, chat(server))
    for _ in range(500):
        if len(list(folder.glob("[0-9]*.json"))) == 10:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    never.set()
    there = {int(path.stem) for path in folder.glob("[0-9]*.json")}
    assert len(there) == 10
    before = {node: (folder / f"{node}.json").read_bytes() for node in there}
    server.answer = say(right)
    server.seen.clear()
    answers = load(tmp_path, chat(server))
    assert len(server.seen) == NODES - 10
    assert not [node for node in there if any(about(node) in prompt for prompt in server.prompts)]
    assert all((folder / f"{node}.json").read_bytes() == content for node, content in before.items())
    walls = [json.loads((folder / f"{node}.json").read_text())["stage_bench"]["wall"] for node in range(NODES)]
    assert answers.spent["answer_seconds"] == pytest.approx(sum(walls), abs=1e-5)


def test_two_processes_ask_each_node_once(server, tmp_path):
    def slow(prompt: str) -> Any:
        time.sleep(0.02)
        return say(right)(prompt)

    server.answer = slow
    processes = [child(server, tmp_path) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert out.strip() == str(NODES), err
    assert Counter(server.prompts).most_common(1)[0][1] == 1
    assert len(server.seen) == NODES


def test_a_damaged_file_is_asked_for_again_with_a_word(server, tmp_path):
    load(tmp_path, chat(server))
    folder = kept(tmp_path, chat(server))
    (folder / "5.json").write_bytes((folder / "5.json").read_bytes()[:40])
    (folder / "6.json").write_text("{}")
    said: list[str] = []
    server.seen.clear()
    graph = text_graph(NODES)
    answers = source.load(setting(tmp_path, graph, chat(server), lambda done, total, what: said.append(what)))
    assert {prompt for prompt in server.prompts if about(5) in prompt or about(6) in prompt} == set(server.prompts)
    assert len(server.seen) == 2
    assert "answers (2 damaged files are asked for again)" in said
    assert answers.counts["answered"] == NODES


# --- from a suite to a run ---


def test_a_suite_that_asks(server, tmp_path):
    """Predictions by themselves and under a model, over two seeds: asked once, paid for once."""
    write_folder(tmp_path / "data", NODES * 2)
    asked = {"endpoint": server.url, "model": "m", "price_prompt": 1, "price_completion": 2}
    suite = {
        "features": [{"name": "gpt-predictions", "answers": asked}],
        "backbones": ["none", "mlp"],
        "seeds": 2,
        "training": {"epochs": 3},
    }
    assert carry_out(tmp_path, suite) == []
    assert len(server.seen) == NODES * 2
    runs = records(tmp_path)
    assert len(runs) == 4
    assert {run.features for run in runs} == {"gpt-predictions(answers=m)"}
    assert [run.metrics["test_accuracy"] for run in runs if run.backbone == "none"] == [1.0, 1.0]
    assert len({run.answers_id for run in runs}) == 1
    assert all(run.answers["tokens"] > 0 and run.answers["dollars"] > 0 for run in runs)
    assert all(run.seconds["answer"] > 0 for run in runs)
    for folder in ("runs", "embeddings", "answers"):
        for path in (tmp_path / "results" / folder).rglob("*.json"):
            assert server.url not in path.read_text(), "an address is nobody else's business"


def test_a_suite_whose_server_is_gone_has_a_failed_job(server, tmp_path):
    write_folder(tmp_path / "data", NODES)
    gone = server.url.replace("127.0.0.1", "127.0.0.2")
    asked = {"endpoint": gone, "model": "m"}
    suite = {"features": [{"name": "gpt-predictions", "answers": asked}], "backbones": ["mlp"], "seeds": 1}
    failures = carry_out(tmp_path, suite)
    assert any("is the server running, and the URL right?" in line for line in failures)
