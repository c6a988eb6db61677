"""Endpoints: a real server on this machine that answers as it is told, well or badly."""

import base64
import dataclasses
import hashlib
import json
import logging
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from stage_bench.errors import JobError
from stage_bench.llms import encoders, encoding
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.endpoint import EndpointModel
from stage_bench.llms.spec import Endpoint, LLMChoice, LLMSpec
from tiny import choice, text_graph

DIMENSION = 5
SECRET = "sk-Zq81secretXv"
TEXTS = ["one", "zwei Wörter", "trois mots ici 🦜"]
wait_for_real = EndpointModel._pause


def vector(text: str) -> list[float]:
    return [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSION]]


def vectors(texts: list[str]) -> np.ndarray:
    return np.array([vector(text) for text in texts], dtype=np.float32)


def good(texts: list[str]) -> dict[str, Any]:
    data = [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(texts)]
    words = sum(len(text.split()) for text in texts)
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": words, "total_tokens": words}}


Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Embeds texts by their hashes. `steps` are used up first, one a request; then `answer` does the rest."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: list[dict[str, Any]] = []
        self.steps: deque[Callable[[list[str]], Answer]] = deque()
        self.answer: Callable[[list[str]], Answer] = say()
        self.port = 0
        self.start()

    def start(self) -> None:
        outer = self

        class Http(ThreadingHTTPServer):
            request_queue_size = 64  # the default of 5 makes the sixth wait a second

            def handle_error(self, *args: Any) -> None:
                pass  # a client that no longer waits

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen.append({"path": self.path, "headers": dict(self.headers), **body})
                    answer = outer.steps.popleft() if outer.steps else outer.answer
                status, headers, content = answer(body["input"])
                if status == 0:
                    return  # the connection drops
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = Http(("127.0.0.1", self.port), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def texts(self) -> list[str]:
        return [text for request in self.seen for text in request["input"]]


def say(status: int = 200, content: Any = None, **headers: str) -> Callable[[list[str]], Answer]:
    """An answer; content: bytes, something for JSON, a function of the good answer, or the good answer itself."""

    def answer(texts: list[str]) -> Answer:
        made = good(texts) if content is None else content(good(texts)) if callable(content) else content
        data = made if isinstance(made, bytes) else json.dumps(made).encode()
        return status, {name.replace("_", "-"): value for name, value in headers.items()}, data

    return answer


def error(status: int, message: str, **headers: str) -> Callable[[list[str]], Answer]:
    return say(status, {"error": {"message": message, "type": "t", "param": None, "code": None}}, **headers)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    """The seconds that would have been waited; and no key that this machine may have."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    waited: list[float] = []
    monkeypatch.setattr(EndpointModel, "_pause", lambda self, seconds: waited.append(seconds))
    return waited


def served(url: str, **changes: Any) -> LLMChoice:
    names = LLMSpec.__dataclass_fields__
    facts = {"name": "served", "loader": "endpoint", "max_length": None, "normalize": False}
    spec = LLMSpec(**{**facts, **{name: changes.pop(name) for name in list(changes) if name in names}})
    return choice(spec, endpoint=Endpoint(url, "some/model"), **changes)


def embed(model: EndpointModel, texts: list[str] = TEXTS) -> np.ndarray:
    return encoders.encode(model, texts, [0] * len(texts))


def refusal(model: EndpointModel, texts: list[str] = TEXTS) -> str:
    """The error, one line."""
    with pytest.raises(JobError) as caught:
        embed(model, texts)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"llm 'served' at {model._url}: ")
    return message.removeprefix(f"llm 'served' at {model._url}: ")


# --- what is sent, and what comes back ---


def test_a_request_is_openais(server):
    model = EndpointModel(served(server.url + "/"))
    assert not server.seen, "nothing is sent before there are texts"
    matrix = embed(model)
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix, vectors(TEXTS))
    (request,) = server.seen
    headers = request.pop("headers")
    assert request == {"path": "/v1/embeddings", "model": "some/model", "input": TEXTS, "encoding_format": "float"}
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


def test_the_key_is_sent_as_bearer(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")  # as `$(cat key.txt)` may leave it
    embed(EndpointModel(served(server.url)))
    assert server.seen[0]["headers"]["Authorization"] == f"Bearer {SECRET}"


def permuted(reply: dict[str, Any]) -> dict[str, Any]:
    return {**reply, "data": reply["data"][::-1]}


def in_base64(reply: dict[str, Any]) -> dict[str, Any]:
    for item in reply["data"]:
        item["embedding"] = base64.b64encode(np.array(item["embedding"], dtype="<f4").tobytes()).decode()
    return reply


@pytest.mark.parametrize("change", [permuted, in_base64])
def test_replies_that_are_right_in_another_form(server, change):
    server.answer = say(content=change)
    assert np.array_equal(embed(EndpointModel(served(server.url))), vectors(TEXTS))


def test_normalised_where_the_choice_says_so(server):
    matrix = embed(EndpointModel(served(server.url, normalize=True)))
    raw = vectors(TEXTS)
    assert matrix.dtype == np.float32
    assert np.allclose(matrix, raw / np.linalg.norm(raw, axis=1, keepdims=True))


def test_a_request_has_128_texts_at_most(server):
    texts = [f"text {number}" for number in range(300)]
    assert np.array_equal(embed(EndpointModel(served(server.url)), texts), vectors(texts))
    assert [len(request["input"]) for request in server.seen] == [128, 128, 44]


def test_lengths_are_estimated_from_bytes(server):
    def lengths(choice: LLMChoice) -> list[int]:
        model = EndpointModel(choice)
        return model.lengths(model.tokenize(["", "abcd", "abcde", "ää", "🦜" * 3], [0] * 5)).tolist()

    registered = served(server.url)
    assert lengths(registered) == [1, 2, 3, 2, 4]
    assert lengths(dataclasses.replace(registered, max_length=2)) == [1, 2, 2, 2, 2]


def test_max_length_is_sent_only_where_the_suite_set_it(server):
    """A choice has one only then: test_llm_options.py."""
    embed(EndpointModel(dataclasses.replace(served(server.url), max_length=None)))
    embed(EndpointModel(dataclasses.replace(served(server.url), max_length=4)))
    assert [request.get("truncate_prompt_tokens") for request in server.seen] == [None, 4]


def test_a_server_that_ignores_max_length_is_found_out(server):
    model = EndpointModel(dataclasses.replace(served(server.url), max_length=2))
    embed(model, ["two words", "two more"])
    assert "counts 5 tokens in 2 texts, so it ignores `max_length: 2`" in refusal(model, ["two words", "three of them"])


def test_empty_texts_and_control_characters_are_sent_as_they_are(server):
    texts = ["", " ", "a\x00b", "line\nbreak", "\x7f\u2028"]
    assert np.array_equal(embed(EndpointModel(served(server.url)), texts), vectors(texts))
    assert server.texts == texts


@pytest.mark.parametrize("status", [400, 413, 422])  # 413: TEI
def test_a_server_that_takes_no_empty_text(server, status):
    server.answer = lambda texts: (say() if all(texts) else error(status, "'$.input' is invalid"))(texts)
    model = EndpointModel(served(server.url))
    message = refusal(model, ["a", "", "b"])
    assert f"the server answered {status}: '$.input' is invalid; a text is empty, which many servers refuse" in message
    assert "too long" not in message
    server.answer = error(status, "no model")
    assert "empty" not in refusal(model, ["a"])


def test_a_lone_surrogate_is_refused_before_anything_is_sent(server):
    message = refusal(EndpointModel(served(server.url)), ["fine", "the instruction\nthen \ud83e here"])
    assert message.startswith("text 2 of its part cannot be sent: after 'the instruction then' comes a lone surrogate")
    assert not server.seen


# --- what passes is tried again ---


def hang_up(texts: list[str]) -> Answer:
    return 0, {}, b""


@pytest.mark.parametrize(
    "trouble",
    [
        error(500, "worker died"),
        error(502, "bad gateway"),
        error(503, "starting up"),
        error(429, "slow down"),
        error(408, "too slow"),
        hang_up,
        say(Content_Length="100000"),  # the body ends before that
        say(content=lambda reply: json.dumps(reply).encode()[:-20]),
    ],
)
def test_what_passes_is_tried_again(server, pauses, trouble):
    server.steps.extend([trouble, trouble])
    model = EndpointModel(served(server.url))
    assert np.array_equal(embed(model), vectors(TEXTS))
    assert len(server.seen) == 3
    assert 1 <= pauses[0] <= 2 <= pauses[1] <= 4
    assert model.spent() == {"tokens": 7, "requests": 3}


def test_a_slow_answer_is_tried_again(server, monkeypatch):
    monkeypatch.setattr(EndpointModel, "timeouts", (5.0, 0.3))
    slow = threading.Event()

    def late(texts: list[str]) -> Answer:
        slow.wait(20)
        return say()(texts)

    server.steps.append(late)
    model = EndpointModel(served(server.url))
    assert np.array_equal(embed(model), vectors(TEXTS))
    server.answer = late
    assert "no answer within 0.3 seconds (6 attempts)" in refusal(model)
    slow.set()


@pytest.mark.parametrize("seconds", [7, 45, 3600])
def test_the_server_says_how_long_to_wait(server, pauses, seconds):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    server.steps.extend([error(429, "wait", Retry_After=str(seconds)), error(503, "wait", Retry_After=date)])
    embed(EndpointModel(served(server.url)))
    expected = min(seconds, 60)
    assert pauses[0] == expected
    assert expected - 2 <= pauses[1] <= expected


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "inf", "1e999", "Mon, 99 Foo 2020", ""])
def test_a_retry_after_that_says_nothing(server, pauses, value):
    server.steps.append(error(429, "wait", Retry_After=value))
    embed(EndpointModel(served(server.url)))
    assert 1 <= pauses[0] <= 2


def test_it_gives_up(server, pauses):
    server.answer = say(503, b"<html><body><h1>503</h1>\n<p>No \x1b[31mserver</p></body></html>")
    message = refusal(EndpointModel(served(server.url)))
    assert "the server answered 503: 503 No [31mserver (6 attempts); what was embedded stays" in message
    assert len(server.seen) == 6
    assert len(pauses) == 5
    assert all(low <= pause <= 2 * low for low, pause in zip([1, 2, 4, 8, 16], pauses, strict=True))


def test_one_that_gives_up_wakes_those_that_wait(server, monkeypatch):
    """Else every batch in the queue would wait its minutes before the job ends."""
    monkeypatch.setattr(EndpointModel, "_pause", lambda self, s: s > 15 and wait_for_real(self, s))
    monkeypatch.setattr(EndpointModel, "longest_wait", 20.0)
    monkeypatch.setattr(EndpointModel, "attempts", 2)
    waiting = threading.Event()

    def answer(texts: list[str]) -> Answer:
        if texts == ["patient"]:
            waiting.set()
            return error(429, "later", Retry_After="60")(texts)
        return error(503, "no")(texts) if texts == ["hasty"] else say()(texts)

    server.answer = answer
    model = EndpointModel(served(server.url))
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(refusal, model, ["patient"])
        assert waiting.wait(20)
        refusal(model, ["hasty"])
        assert "the server answered 429: later" in patient.result(timeout=10)
    seen = len(server.seen)
    refusal(model, ["patient"])
    assert len(server.seen) == seen + 1, "still down: one attempt says it"
    embed(model)
    assert not model._gave_up.is_set(), "up again: all attempts are made again"


def test_a_server_that_was_never_there(pauses):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = refusal(EndpointModel(served(f"http://127.0.0.1:{port}/v1")))
    assert re.fullmatch(r"no connection \(\[Errno \d+\] Connection refused\); is the server running, .*", message)
    assert not pauses


def test_a_server_that_goes_is_waited_for(server, pauses):
    model = EndpointModel(served(server.url))
    embed(model)
    server.stop()
    message = refusal(model)
    assert "Connection refused" in message
    assert "(6 attempts)" in message
    assert len(pauses) == 5
    server.start()
    assert np.array_equal(embed(model), vectors(TEXTS))


# --- what does not pass is said at once ---


def with_data(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[list[str]], Answer]:
    def changed(reply: dict[str, Any]) -> dict[str, Any]:
        data = reply["data"]
        change(data)
        return reply

    return say(content=changed)


def first(value: Any) -> Callable[[list[str]], Answer]:
    return with_data(lambda data: data[0].update(embedding=value))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (error(400, "no such\n  parameter"), "the server answered 400: no such parameter"),
        (error(404, "The model `some/model` does not exist."), "404: The model `some/model` does not exist."),
        (say(404, b""), "the server answered 404: Not Found"),
        (say(422, {"detail": [{"loc": ["body"], "msg": "bad"}]}), '422: [{"loc": ["body"], "msg": "bad"}]'),
        (say(424, {"message": "flat", "code": 424, "type": "Backend"}), "the server answered 424: flat"),
        (say(400, {"error": "a string"}), "the server answered 400: a string"),
        (error(400, "x" * 1000), "400: " + "x" * 200 + "…"),
        (say(429, {"error": {"message": "no credit", "code": "insufficient_quota"}}), "429: no credit"),
        (say(307, b"", Location="http://127.0.0.1:1/v2"), "sends on to http://127.0.0.1:1/v2; write the `url`"),
        (say(content=b"<html><title>Welcome</title>"), "the reply is no JSON (Welcome); is the URL right?"),
        (say(content=b""), "the reply is no JSON (); is the URL right?"),
        (say(content=[1, 2]), "the reply has no `data`: [1, 2]"),
        (say(content={"error": {"message": "in a 200"}}), "the reply has no `data`: in a 200"),
        (say(content={"data": [1, 2, 3]}), "the reply has no `data`"),
        (with_data(lambda data: data.pop()), "the server gave 2 embeddings for 3 texts"),
        (with_data(lambda data: data.append(dict(data[0]))), "the server gave 4 embeddings for 3 texts"),
        (with_data(lambda data: data[0].update(index=1)), "the reply's `index` does not say which text"),
        (with_data(lambda data: data[0].update(index=3)), "the reply's `index` does not say which text"),
        (with_data(lambda data: data[0].pop("index")), "the reply's `index` does not say which text"),
        (first([1.0, 2.0]), "the server gave 5 dimensions, before it gave 2"),
        (first([float("nan")] * 5), "numbers that are not finite"),
        (first([None] * 5), "numbers that are not finite"),
        (first([1e39] * 5), "numbers that are not finite"),
        (first([10**400] * 5), "an embedding that is no list of numbers"),
        (first([[1.0] * 5] * 2), "an embedding that is no list of numbers"),
        (first([]), "an embedding that is no list of numbers"),
        (first(None), "an embedding that is no list of numbers"),
        (first(3.0), "an embedding that is no list of numbers"),
        (first("AAAA"), "an embedding that is no list of numbers"),
        (first("AACAPwAA!gD8AAIA/"), "an embedding that is no list of numbers"),
    ],
)
def test_said_at_once(server, pauses, answer, says):
    server.steps.append(answer)
    assert says in refusal(EndpointModel(served(server.url)))
    assert len(server.seen) == 1
    assert not pauses


def test_the_dimension_stays_what_it_was(server):
    model = EndpointModel(served(server.url))
    embed(model)
    server.answer = with_data(lambda data: [item.update(embedding=[1.0, 2.0]) for item in data])
    assert "gave 2 dimensions, before it gave 5" in refusal(model)
    assert "gave 2 dimensions, registered are 7" in refusal(EndpointModel(served(server.url, dimension=7)))


# --- too long ---


def takes(characters: int, texts_at_once: int, status: int, message: str) -> Callable[[list[str]], Answer]:
    def answer(texts: list[str]) -> Answer:
        if len(texts) > texts_at_once or any(len(text) > characters for text in texts):
            return error(status, message)(texts)
        return say()(texts)

    return answer


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model's maximum context length is 8192 tokens, however you requested 51435 tokens. Please reduce"),
        (400, "You passed 600 input tokens. However, the model's context length is only 512 tokens"),
        (400, "the input length exceeds the context length"),
        (413, "Input validation error: `inputs` must have less than 512 tokens. Given: 534"),
        (413, "nothing known"),
        (422, "Input text exceeds maximum length of 8194 tokens"),
    ],
)
def test_a_text_that_is_too_long_is_named(server, pauses, status, message):
    server.answer = takes(1000, 1000, status, message)
    instruction, long = "Instruct: all prompts begin so\nQuery: ", "A survey of\nlong   texts " + "x" * 1000
    prompts = [f"{instruction}{text}" for text in ["a", "b", long, "c", "d", "e", "f"]]
    model = EndpointModel(served(server.url))
    with pytest.raises(JobError) as caught:
        encoders.encode(model, prompts, [len(instruction)] * len(prompts))
    said = str(caught.value)
    shown = "A survey of long texts " + "x" * (60 - len("A survey of long texts ")) + "…"
    assert f"text 3 of its part ({len(long)} characters, '{shown}') is too long" in said
    assert message in said
    assert "lower `max_length`" in said
    assert "--auto-truncate" in said
    assert not pauses
    assert len(server.seen) <= 7


def test_a_request_that_is_too_big_is_sent_in_parts(server):
    """TEI takes 32 texts unless it is told otherwise; what it took once is kept to."""
    server.answer = takes(1000, 32, 413, "batch size 128 > maximum allowed batch size 32")
    texts = [f"text {number}" for number in range(200)]
    model = EndpointModel(served(server.url))
    assert np.array_equal(embed(model, texts), vectors(texts))
    sizes = [len(request["input"]) for request in server.seen]
    assert sizes == [128, 64, 32, 32, 64, 32, 32, 32, 32, 8]
    embed(model, texts)
    assert max(len(request["input"]) for request in server.seen[len(sizes) :]) == 32


# --- the key ---


def test_a_missing_key_is_named(server, monkeypatch, pauses):
    server.answer = error(401, "who are you?")
    assert refusal(EndpointModel(served(server.url))) == "the server wants a key (401), and $OPENAI_API_KEY is not set"
    server.answer = error(403, "who are you?")
    assert refusal(EndpointModel(served(server.url))) == "the server wants a key (403), and $OPENAI_API_KEY is not set"
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server.answer = error(401, f"Incorrect API key provided: {SECRET[:4]}***{SECRET[-4:]}.")
    message = refusal(EndpointModel(served(server.url)))
    assert message == "the server does not accept the key in $OPENAI_API_KEY (401)"
    server.answer = error(403, "not in your country")
    assert refusal(EndpointModel(served(server.url))) == "the server answered 403: not in your country"
    assert not pauses
    assert len(server.seen) == 4


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 413, 422, 429, 500])
def test_the_key_is_in_no_error_log_or_repr(server, monkeypatch, caplog, capfd, status):
    """A server that echoes the key, also where the message is cut."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    model = EndpointModel(served(server.url, normalize=True))
    embed(model)
    for content in (
        SECRET.encode(),
        {"error": {"message": f"key {SECRET} is bad"}},
        {"error": {"message": "x" * (200 - len(SECRET) // 2) + SECRET}},
    ):
        server.answer = say(status, content, Location=f"/?key={SECRET}")
        refusal_text = refusal(model)
        said = " ".join([refusal_text, repr(model), str(vars(model)), caplog.text, *capfd.readouterr()])
        assert not [part for part in (SECRET, SECRET[:6], SECRET[-6:]) if part in said]
    assert server.seen[-1]["headers"]["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("key", ["sk-Zq81\nsecretXv", "sk-Zq81 secretXv", "sk-Zq81é", "sk-Zq81\x00"])
def test_a_key_that_cannot_be_sent(monkeypatch, key):
    """HTTP libraries quote a header they refuse: this one must not come that far."""
    if "\0" in key:
        monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": key})
    else:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(JobError, match=r"\$OPENAI_API_KEY holds characters") as caught:
        EndpointModel(served("http://localhost:1/v1"))
    assert "Zq81" not in str(caught.value)


def test_neither_netrc_nor_a_proxy_comes_between(server, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password hidden\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    embed(EndpointModel(served(server.url)))
    assert "Authorization" not in server.seen[0]["headers"]


# --- URLs ---


@pytest.mark.parametrize(
    ("url", "key", "says"),
    [
        ("http://user:hunter2@host/v1", "", "holds credentials; the key belongs in $OPENAI_API_KEY"),
        ("https://hunter2@host/v1", "", "holds credentials"),
        ("https://user:hun/ter2@host/v1", "", "no URL|holds credentials"),
        ("user:hunter2@host/v1", "", "holds credentials"),
        ("https://host/v1?key=hunter2", "", "goes on after a `?` or `#`"),
        ("https://host/v1#hunter2", "", "goes on after a `?` or `#`"),
        ("https://host:port/v1", "", "no URL"),
        ("https://[::1/v1", "", "no URL"),
        ("host:8000/v1", "", "must begin with https:// or http://"),
        ("ftp://host/v1", "", "must begin with https:// or http://"),
        ("https:///v1", "", "must begin with https:// or http://"),
        ("http://api.example.com/v1", "", "the texts would go to 'http://api.example.com/v1' in clear text"),
        ("http://8.8.8.8/v1", "", "the texts would go to 'http://8.8.8.8/v1' in clear text"),
        ("http://api.example.com/v1", SECRET, "the key in $OPENAI_API_KEY would go to"),
        ("http://10.0.0.7:8000/v1", SECRET, "would go to 'http://10.0.0.7:8000/v1' in clear text"),
        ("http://gpu-node/v1", SECRET, "would go to 'http://gpu-node/v1' in clear text"),
        ("http://127.evil.example/v1", SECRET, "in clear text"),
        ("http://localhost.evil.example/v1", "", "in clear text"),
    ],
)
def test_urls_that_are_refused(monkeypatch, url, key, says):
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(JobError) as caught:
        EndpointModel(served(url))
    message = str(caught.value)
    assert message.startswith("llm 'served': ")
    assert any(words in message for words in says.split("|"))
    assert "hun" not in message
    assert SECRET not in message


@pytest.mark.parametrize("key", ["", SECRET])
@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "http://127.0.0.2/v1", "http://[::1]:8000/v1", "HTTPS://x.org"]
)
def test_urls_that_are_taken(monkeypatch, url, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    EndpointModel(served(url))


@pytest.mark.parametrize(
    "host", ["10.0.0.7", "192.168.1.5", "[fd00::7]", "gpu-node", "host.docker.internal", "a.local"]
)
def test_private_hosts_are_taken_in_clear_text_without_a_key(host):
    EndpointModel(served(f"http://{host}:8000/v1"))


# --- what it costs ---


def test_spent_is_summed_over_threads_and_reset(server):
    model = EndpointModel(served(server.url, price=0.13))
    batches = [[f"text {number}", "three more words"] for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda batch: embed(model, batch), batches))
    for batch, matrix in zip(batches, made, strict=True):
        assert np.array_equal(matrix, vectors(batch))
    assert model.spent() == {"tokens": 200, "requests": 40, "dollars": pytest.approx(200 * 0.13 / 1e6)}
    assert model.spent() == {"tokens": 0, "requests": 0, "dollars": 0}


@pytest.mark.parametrize(
    ("usage", "tokens"), [({"prompt_tokens": 9}, 9), (None, 0), ({}, 0), ("x", 0), ({"total_tokens": "9"}, 0)]
)
def test_tokens_as_far_as_the_server_counts_them(server, usage, tokens):
    server.answer = say(content=lambda reply: {**reply, "usage": usage})
    model = EndpointModel(served(server.url))
    embed(model)
    assert model.spent() == {"tokens": tokens, "requests": 1}


# --- through the cache ---

NODES, SHARD = 50, 16


@pytest.fixture
def cache(tmp_path, monkeypatch) -> EmbeddingCache:
    monkeypatch.setattr(encoding, "SHARD_ROWS", SHARD)
    return EmbeddingCache(tmp_path / "embeddings")


def test_embedding_a_graph(server, cache, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    graph = text_graph(NODES, texts=["", *text_graph(NODES).texts[1:]])
    llm = served(server.url, price=2.0, dimension=DIMENSION)
    matrix, manifest = encoding.embed(graph, llm, cache, "cpu")
    assert np.array_equal(matrix, vectors(graph.texts))
    assert sorted(server.texts) == sorted(graph.texts)
    kept = [path.read_bytes() for path in cache.root.rglob("*") if path.is_file()]
    assert kept
    assert not any(SECRET.encode() in content for content in kept)
    words = sum(len(text.split()) for text in graph.texts)
    assert manifest["tokens"] == words
    assert manifest["requests"] == len(server.seen)
    assert manifest["dollars"] == pytest.approx(words * 2 / 1e6)


def test_four_requests_are_on_their_way_at_once(server, cache):
    together = threading.Barrier(4, timeout=20)

    def meet(texts: list[str]) -> Answer:
        together.wait()
        return say()(texts)

    server.steps.extend([meet] * together.parties)
    graph = text_graph(SHARD, texts=[f"{number} {'word ' * 400}" for number in range(SHARD)])
    matrix, _ = encoding.embed(graph, served(server.url, batch_tokens=1000), cache, "cpu")
    assert np.array_equal(matrix, vectors(graph.texts))
    assert not together.broken


def test_a_server_that_goes_down_and_comes_back(server, cache):
    """What was embedded before stays; the next call asks for the rest alone."""
    graph, llm = text_graph(NODES), served(server.url)
    first, rest = graph.texts[: 2 * SHARD], graph.texts[2 * SHARD :]
    embedded, down = threading.Event(), threading.Event()

    def go_down(texts: list[str]) -> Answer:
        if set(texts) <= set(first):
            return say()(texts)
        embedded.wait(20)
        with server.lock:
            if not down.is_set():
                server.stop()
            down.set()
        return hang_up(texts)

    server.answer = go_down
    with pytest.raises(JobError, match=r"no connection \(.*\) \(6 attempts\); what was embedded stays"):
        encoding.embed(graph, llm, cache, "cpu", lambda done, total: done == len(first) and embedded.set())

    server.start()
    server.answer = say()
    server.seen.clear()
    matrix, _ = encoding.embed(graph, llm, cache, "cpu")
    assert np.array_equal(matrix, vectors(graph.texts))
    assert sorted(server.texts) == sorted(rest)


def test_a_refusal_in_mid_run_ends_the_job(server, cache):
    graph, llm = text_graph(NODES), served(server.url)
    last = graph.texts[-1]
    server.answer = lambda texts: (error(400, "no") if last in texts else say())(texts)
    with pytest.raises(JobError, match=r"the server answered 400: no$"):
        encoding.embed(graph, llm, cache, "cpu")
    server.answer = say()
    server.seen.clear()
    encoding.embed(graph, llm, cache, "cpu")
    assert sorted(server.texts) == sorted(graph.texts[3 * SHARD :])
