"""A model behind OpenAI's embeddings protocol: OpenAI itself, or a vLLM or TEI server.

Prompts are sent as they are: an empty text too, and where the server refuses it the job says so; another text in its
place would be another number. The server pools and truncates. `max_length` reaches it only where the suite set it, as
vLLM's `truncate_prompt_tokens`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stage_bench.llms.server import OPENAI, URL, Refused, Server, message_of, shortened
from stage_bench.llms.spec import LLMChoice

MOST_TEXTS = 128  # in one request


class Prompt(NamedTuple):
    """A prompt, the character at which the node's text begins, and which it is of those that came with it."""

    text: str
    start: int
    number: int


class EndpointModel(Server):
    """Embeddings from a server. The key comes from $OPENAI_API_KEY alone and appears in no error, record or repr."""

    def __init__(self, choice: LLMChoice) -> None:
        """Nothing is sent yet.

        Raises:
            JobError: the URL is none to send texts to, or the key cannot be sent, or would go in clear text.
        """
        assert choice.endpoint is not None
        self.choice = choice
        # For OpenAI's own models OpenAI's, where a suite names no server.
        usual = os.environ.get(URL, "").strip() or (OPENAI if choice.spec.loader == "endpoint" else "")
        super().__init__(f"llm '{choice.label}'", choice.endpoint.url or usual, "/embeddings", "embedded")
        self._fields: dict[str, Any] = {"model": choice.endpoint.model, "encoding_format": "float"}
        # Only vLLM knows this field; a choice has a length only where the suite asks for one.
        self._limit = choice.max_length
        if self._limit is not None:
            self._fields["truncate_prompt_tokens"] = self._limit
        self._most = MOST_TEXTS
        self._dimension = choice.spec.dimension
        self._tokens = 0

    # --- what the embedding loop calls ---

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> list[Prompt]:
        """The prompts; the server tokenises.

        Raises:
            JobError: a text cannot be sent.
        """
        items: list[Prompt] = []
        for prompt, start in zip(prompts, text_starts, strict=True):
            items.append(Prompt(prompt, start, len(items) + 1))
            try:
                prompt.encode()
            except UnicodeEncodeError as error:
                before = shortened(prompt[max(0, error.start - 60) : error.start], 60)
                raise self._error(
                    f"text {len(items)} of its part cannot be sent: after '{before}' comes a lone surrogate, which is "
                    "no character"
                ) from None
        return items

    def lengths(self, items: Sequence[Prompt]) -> np.ndarray:
        """An estimate of each prompt's tokens, int64 [len(items)]; only the server knows its tokenizer."""
        tokens = np.array([-(-len(item.text.encode()) // 4) + 1 for item in items], dtype=np.int64)
        return tokens if self._limit is None else np.minimum(tokens, self._limit)

    def forward(self, items: Sequence[Prompt]) -> np.ndarray:
        """float32 [len(items), dimension], in one request or several.

        Raises:
            JobError: the server cannot be reached, refuses, or gives no embeddings; whatever can pass was tried again.
        """
        parts = []
        start = 0
        while start < len(items):
            stop = start + self._most
            parts.append(self._embed(items[start:stop]))
            start = stop
        vectors = np.concatenate(parts)
        if self.choice.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def spent(self) -> dict[str, float]:
        """`tokens` as far as the server counts them, `requests`, and `dollars` where the price is known."""
        with self._lock:
            tokens, requested = self._tokens, self._requests
            self._tokens = self._requests = 0
        price = self.choice.spec.price
        dollars = {} if price is None else {"dollars": tokens * price / 1e6}
        return {"tokens": tokens, "requests": requested, **dollars}

    # --- a request and its reply ---

    def _embed(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """float32 [len(prompts), dimension]; what is too much for the server at once is sent in halves."""
        try:
            return self._read(self.ask({**self._fields, "input": [prompt.text for prompt in prompts]}), len(prompts))
        except Refused as error:
            if len(prompts) == 1 or not error.too_long:
                raise self._error(f"{error}{_advice(prompts, error.too_long)}") from None
        half = (len(prompts) + 1) // 2
        vectors = np.concatenate([self._embed(prompts[:half]), self._embed(prompts[half:])])
        self._most = min(self._most, half)  # each half was taken, so the number was too much
        return vectors

    def _read(self, reply: Any, count: int) -> np.ndarray:
        """The vectors of a reply, float32 [count, dimension], in the order of the texts; its cost is noted."""
        data = reply.get("data") if isinstance(reply, dict) else None
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise self._error(f"the reply has no `data`: {self._line(message_of(json.dumps(reply).encode()))}")
        usage = reply.get("usage")
        tokens = usage.get("total_tokens", usage.get("prompt_tokens")) if isinstance(usage, dict) else None
        with self._lock:
            self._tokens += max(0, tokens) if isinstance(tokens, int) else 0
        if len(data) != count:
            raise self._error(f"the server gave {len(data)} embeddings for {count} texts")
        by_index = {item.get("index"): item.get("embedding") for item in data if isinstance(item.get("index"), int)}
        if by_index.keys() != set(range(count)):
            raise self._error("the reply's `index` does not say which text an embedding belongs to")
        if self._limit is not None and isinstance(tokens, int) and tokens > count * self._limit:
            raise self._error(
                f"the server counts {tokens} tokens in {count} texts, so it ignores `max_length: {self._limit}` "
                "(truncate_prompt_tokens, which vLLM understands); leave it out of the suite"
            )
        try:
            vectors = [_vector(by_index[index]) for index in range(count)]
        except (TypeError, ValueError, OverflowError):
            raise self._error("the server gave an embedding that is no list of numbers") from None
        with self._lock:
            self._dimension = self._dimension or len(vectors[0])
            wrong = {len(vector) for vector in vectors} - {self._dimension}
        if wrong:
            expected = "registered are" if self.choice.spec.dimension else "before it gave"
            raise self._error(f"the server gave {wrong.pop()} dimensions, {expected} {self._dimension}")
        matrix = np.stack(vectors)
        if not np.isfinite(matrix).all():
            raise self._error("the server gave numbers that are not finite")
        return matrix


def _vector(embedding: Any) -> np.ndarray:
    """float32 [dimension] from numbers, or from base64 as some servers send it whatever was asked for."""
    if isinstance(embedding, str):
        vector = np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").astype(np.float32)
    else:
        with np.errstate(over="ignore"):  # refused as not finite
            vector = np.asarray(embedding, dtype=np.float32)
    if vector.ndim != 1 or not len(vector):
        raise ValueError
    return vector


def _named(prompt: Prompt) -> str:
    """Which text it is; what comes before the node's text is the same in all prompts and names none."""
    text = prompt.text[prompt.start :]
    return f"text {prompt.number} of its part ({len(text)} characters, '{shortened(text, 60)}')"


def _advice(prompts: Sequence[Prompt], too_long: bool) -> str:
    """What to do about a refusal: the prompts that were refused together, one where it is too long."""
    if not all(prompt.text.strip() for prompt in prompts):  # TEI answers 413 to these too
        return "; a text is empty, which many servers refuse: give such nodes a text, such as their title"
    if not too_long:
        return ""
    return (
        f"; {_named(prompts[0])} is too long: lower `max_length`, which vLLM understands, or start the server so that "
        "it truncates (TEI: --auto-truncate)"
    )
