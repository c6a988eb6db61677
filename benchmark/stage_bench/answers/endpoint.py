"""A chat model behind OpenAI's chat protocol: OpenAI itself, vLLM, Ollama, llama.cpp, a proxy."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

from stage_bench.answers import store
from stage_bench.answers.choice import AnswersChoice
from stage_bench.llms.server import KEY, URL, Refused, Server

_SHORTEST_KEY = 8  # characters of a key that is one
_OF_ONE_TEXT = (400, 413, 422)  # what a server answers that refuses a text, and one that understands no request of ours


class Refusal(Exception):
    """The server will not answer one prompt, or none at all: a single reply cannot tell."""


class ChatEndpoint(Server):
    """One prompt in, one response out; safe in `threads` threads."""

    threads: int | None = 6
    timeouts = (10.0, 300.0)  # an answer comes as a whole, and may be long

    def __init__(self, choice: AnswersChoice) -> None:
        """Nothing is sent yet.

        Raises:
            JobError: as for any server.
        """
        url = choice.url or os.environ.get(URL, "").strip()
        super().__init__(f"answers of '{choice.label}'", url, "/chat/completions", "answered")
        self._fields: dict[str, Any] = {"model": choice.model, "temperature": choice.temperature}
        self._most = choice.max_tokens
        self._most_field = "max_tokens"  # what every server knows but OpenAI for its newer models
        self._learning = threading.Lock()

    def answer(self, prompt: str) -> tuple[dict[str, Any], float]:
        """The response as it came, but for the key, and the seconds it took.

        Raises:
            Refusal: the server does not take this prompt.
            JobError: the server cannot be reached, or gives no chat responses; whatever can pass was tried again.
        """
        begin = time.perf_counter()
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise Refusal("the text holds a lone surrogate, which is no character, and was not sent") from None
        try:
            reply = self._asked(prompt)
        except Refused as error:
            if error.status in _OF_ONE_TEXT:
                raise Refusal(str(error)) from None
            raise self._error(str(error)) from None
        try:
            store.understood(reply)
        except store.Damaged as problem:
            said = self._line(str(reply.get("error") or reply) if isinstance(reply, dict) else str(reply))
            raise self._error(f"the reply is none of a chat model: {problem} ({said})") from None
        try:
            json.dumps(reply, allow_nan=False)
        except ValueError:
            raise self._error("the reply holds NaN or an infinity, which no JSON file can keep") from None
        return self._without_key(reply), time.perf_counter() - begin

    def failed(self, what: str) -> Exception:
        """An error of this server's that only those who see several replies can tell."""
        return self._error(what)

    def _asked(self, prompt: str) -> Any:
        fields = {**self._fields, "messages": [{"role": "user", "content": prompt}]}
        most_field = self._most_field
        try:
            return self.ask({**fields, most_field: self._most})
        except Refused as error:
            if most_field != "max_tokens" or "max_completion_tokens" not in str(error):
                raise
        reply = self.ask({**fields, "max_completion_tokens": self._most})
        with self._learning:
            self._most_field = "max_completion_tokens"
        return reply

    def _without_key(self, value: Any) -> Any:
        """A server may send back what it was sent.

        A local server that wants no key is often given a word for one, such as `none` or `EMPTY`. That is no secret,
        and answers hold such words.
        """
        if len(self._auth.key) < _SHORTEST_KEY or self._auth.key.isalpha():
            return value
        if isinstance(value, dict):
            return {self._without_key(name): self._without_key(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._without_key(each) for each in value]
        return value.replace(self._auth.key, f"${KEY}") if isinstance(value, str) else value
