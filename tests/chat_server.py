"""A chat server on this machine that answers as it is told, well or badly."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]
Answer = Callable[[str], Reply]


class ChatServer:
    """`steps` are used up first, one a request; then `answer` does the rest. `seen`: every request's body."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: list[dict[str, Any]] = []
        self.steps: deque[Answer] = deque()
        self.answer: Answer = say("Class: nn\nExplanation: it is so")
        outer = self

        class Http(ThreadingHTTPServer):
            request_queue_size = 64

            def handle_error(self, *args: Any) -> None:
                pass  # a client that no longer waits

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen.append({"path": self.path, "headers": dict(self.headers), **body})
                    answer = outer.steps.popleft() if outer.steps else outer.answer
                status, headers, content = answer(body["messages"][-1]["content"])
                if status == 0:
                    return  # the connection drops
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][-1]["content"] for request in self.seen]


@contextmanager
def serving() -> Iterator[ChatServer]:
    server = ChatServer()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def response(content: str | None, prompt: str = "", **fields: Any) -> dict[str, Any]:
    """OpenAI's, with a token a word."""
    counts = {"prompt_tokens": len(prompt.split()), "completion_tokens": len((content or "").split())}
    first = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {**counts, "total_tokens": sum(counts.values())}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [first], "usage": usage, **fields}


def say(content: str | Callable[[str], str] | None, **fields: Any) -> Answer:
    """A good reply that says that."""

    def answer(prompt: str) -> Reply:
        said = content(prompt) if callable(content) else content
        return 200, {}, json.dumps(response(said, prompt, **fields)).encode()

    return answer


def raw(body: Any, status: int = 200, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda prompt: (status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def error(status: int, message: str, **headers: str) -> Answer:
    return raw({"error": {"message": message, "type": "t", "param": None, "code": None}}, status, **headers)


def right(prompt: str) -> str:
    """What a model says that knows the three classes of tiny.texts."""
    from tiny import WORDS

    scores = [sum(word in prompt.split() for word in words) for words in WORDS[:3]]
    order = sorted(range(3), key=lambda label: -scores[label])
    names = ["nn", "ga", "rl"]
    named = "\n".join(f"Class: {names[label]}" for label in order if scores[label])
    return f"{named or 'Class: nn'}\nExplanation: its words say so."
