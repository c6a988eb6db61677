"""A model behind OpenAI's embeddings protocol: OpenAI itself, or a vLLM or TEI server.

Prompts are sent as they are: an empty text too, and where the server refuses it the job says so; another text in its
place would be another number. The server pools and truncates. `max_length` reaches it only where the suite set it, as
vLLM's `truncate_prompt_tokens`.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import math
import os
import random
import re
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import numpy as np
import requests
from urllib3.exceptions import NewConnectionError

from stage_bench.errors import JobError
from stage_bench.llms.spec import LLMChoice

KEY = "OPENAI_API_KEY"
URL = "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
MOST_TEXTS = 128  # in one request
# How OpenAI, vLLM, TEI, Ollama, Jina and Voyage say that a text or a request is too long; TEI and proxies answer 413.
_TOO_LONG = re.compile(
    r"too (long|large|many)|context length|less than \d+ (tokens|char)|exceed|reduce the length|maximum allowed"
    r"|maximum (input|length|request)|max allowed",
    re.IGNORECASE,
)


class Prompt(NamedTuple):
    """A prompt, the character at which the node's text begins, and which it is of those that came with it."""

    text: str
    start: int
    number: int


class EndpointModel:
    """Embeddings from a server. The key comes from $OPENAI_API_KEY alone and appears in no error, record or repr."""

    threads: int | None = 4  # requests at once
    timeouts = (10.0, 120.0)  # seconds: to connect; without a byte of the reply
    attempts = 6
    longest_wait = 60.0  # seconds between two attempts

    def __init__(self, choice: LLMChoice) -> None:
        """Nothing is sent yet.

        Raises:
            JobError: the URL is none to send texts to, or the key cannot be sent, or would go in clear text.
        """
        assert choice.endpoint is not None
        self.choice = choice
        self._url = ""
        key = os.environ.get(KEY, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            # Checked here: HTTP libraries quote a header they refuse.
            raise self._error(f"${KEY} holds characters that no key has, such as a space or a line break")
        self._auth = _Bearer(key)
        url = self._checked_url(choice.endpoint.url or self._usual_url())
        self._url = f"{url.geturl().rstrip('/')}/embeddings"
        self._fields: dict[str, Any] = {"model": choice.endpoint.model, "encoding_format": "float"}
        # Only vLLM knows this field; a choice has a length only where the suite asks for one.
        self._limit = choice.max_length
        if self._limit is not None:
            self._fields["truncate_prompt_tokens"] = self._limit
        self._session = requests.Session()
        self._session.auth = self._auth  # without one, requests sends what ~/.netrc holds
        self._session.trust_env = not _is_loopback(url)  # no proxy between this machine and itself
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=self.threads or 1)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._lock = threading.Lock()
        self._most = MOST_TEXTS
        self._dimension = choice.spec.dimension
        self._tokens = self._requests = 0
        self._random = random.Random()  # the seeded one belongs to what is measured
        self._answered = False  # has the server ever answered?
        self._gave_up = threading.Event()  # a request ran out of attempts, and none has succeeded since

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
                before = _shortened(prompt[max(0, error.start - 60) : error.start], 60)
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
            return self._read(self._ask([prompt.text for prompt in prompts]), len(prompts))
        except _Refused as error:
            if len(prompts) == 1 or not error.too_long:
                raise self._error(f"{error}{_advice(prompts, error.too_long)}") from None
        half = (len(prompts) + 1) // 2
        vectors = np.concatenate([self._embed(prompts[:half]), self._embed(prompts[half:])])
        self._most = min(self._most, half)  # each half was taken, so the number was too much
        return vectors

    def _ask(self, texts: list[str]) -> Any:
        """The reply's JSON, after as many attempts as that takes."""
        body = json.dumps({**self._fields, "input": texts}, ensure_ascii=False).encode()
        attempt = 1
        while True:
            try:
                reply = self._send(body)
            except _Passing as error:
                wait = min(2.0**attempt, self.longest_wait) * self._random.uniform(0.5, 1)
                # One that gave up wakes the others: else every batch in the queue would wait as long again.
                if attempt == self.attempts or self._pause(min(max(wait, error.wait), self.longest_wait)):
                    self._gave_up.set()
                    tries = f" ({attempt} attempts)" if attempt > 1 else ""
                    raise self._error(f"{error}{tries}; what was embedded stays, so run again later") from None
                attempt += 1
            else:
                self._gave_up.clear()
                return reply

    def _pause(self, seconds: float) -> bool:
        """Wait; True as soon as another request has given up."""
        return self._gave_up.wait(seconds)

    def _send(self, body: bytes) -> Any:
        """One attempt: the reply's JSON, or _Passing, _Refused or JobError."""
        with self._lock:
            self._requests += 1
        try:
            response = self._session.post(
                self._url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=self.timeouts,
                allow_redirects=False,  # the texts go where the suite says
            )
        except requests.ConnectTimeout:
            raise _Passing(f"no connection within {self.timeouts[0]:g} seconds") from None
        except requests.Timeout:
            raise _Passing(f"no answer within {self.timeouts[1]:g} seconds") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            reason = getattr(error.args[0], "reason", None) if error.args else None
            unreachable = isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError)
            if not unreachable and not isinstance(reason, NewConnectionError):
                raise _Passing("the connection broke off") from None
            why = f"no connection ({self._line(str(reason or error).rpartition(': ')[2])})"
            if self._answered:
                raise _Passing(why) from None
            # A server that never answered is not there, or the URL is wrong: waiting mends neither.
            raise self._error(f"{why}; is the server running, and the URL right?") from None
        except requests.RequestException as error:
            raise self._error(self._line(str(error))) from None
        self._answered = True
        return self._json(response)

    def _json(self, response: requests.Response) -> Any:
        """The JSON of a good reply; _Passing, _Refused or JobError for any other."""
        content, status = response.content, response.status_code
        if status == 200:
            try:
                return json.loads(content)
            except ValueError:
                if content.lstrip().startswith(b"{"):
                    raise _Passing("the reply broke off") from None
                raise self._error(f"the reply is no JSON ({self._line(_text(content))}); is the URL right?") from None
        message = self._line(_message(content)) or response.reason or "nothing more"
        if status in (401, 403) and not self._auth.key:
            raise self._error(f"the server wants a key ({status}), and ${KEY} is not set")
        if status == 401:  # its message may quote the key, whole or in part
            raise self._error(f"the server does not accept the key in ${KEY} (401)")
        # Used-up credit is a 429 as well, and does not come back by waiting.
        if (status in (408, 429) and b"insufficient_quota" not in content) or status >= 500:
            raise _Passing(f"the server answered {status}: {message}", _retry_after(response.headers))
        if 300 <= status < 400:
            place = self._line(response.headers.get("Location", "?"))
            raise self._error(f"the server sends on to {place}; write the `url` that is meant")
        too_long = status == 413 or (status in (400, 422) and _TOO_LONG.search(message) is not None)
        raise _Refused(f"the server answered {status}: {message}", too_long)

    def _read(self, reply: Any, count: int) -> np.ndarray:
        """The vectors of a reply, float32 [count, dimension], in the order of the texts; its cost is noted."""
        data = reply.get("data") if isinstance(reply, dict) else None
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise self._error(f"the reply has no `data`: {self._line(_message(json.dumps(reply).encode()))}")
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

    def close(self) -> None:
        """Whoever waits for another attempt stops waiting, and none is made."""
        self._gave_up.set()

    # --- checks and words ---

    def _usual_url(self) -> str:
        """Where a suite names no server: the environment's, and for OpenAI's own models OpenAI's."""
        url = os.environ.get(URL, "").strip() or (OPENAI if self.choice.spec.loader == "endpoint" else "")
        if not url:
            raise self._error(f"${URL} is not set; set it, or write the base URL in the suite: endpoint: URL")
        return url

    def _checked_url(self, url: str) -> SplitResult:
        """Raises JobError; what it says quotes neither credentials nor a query, which may hold a key."""
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            _ = parts.port  # raises for one that is no number
        except ValueError:
            raise self._error("the endpoint is no URL") from None
        if "@" in url:  # also where a mistake in the password hides it from urlsplit
            raise self._error(f"the endpoint's URL holds credentials; the key belongs in ${KEY}")
        if parts.query or parts.fragment:
            raise self._error("the endpoint's URL goes on after a `?` or `#`; write the base, such as https://host/v1")
        if parts.scheme not in ("http", "https") or not host:
            raise self._error("the endpoint's URL must begin with https:// or http://")
        if parts.scheme == "http" and not _is_loopback(parts):
            if self._auth.key:
                raise self._error(f"the key in ${KEY} would go to '{url}' in clear text; use https, or unset ${KEY}")
            if not _is_private(host):
                raise self._error(f"the texts would go to '{url}' in clear text; use https")
        return parts

    def _error(self, what: str) -> JobError:
        return JobError(f"llm '{self.choice.label}'{self._url and ' at '}{self._url}: {what}")

    def _line(self, text: str) -> str:
        """What a server said, on one line, shortened, and never with the key in it."""
        if self._auth.key:
            text = text.replace(self._auth.key, f"${KEY}")
        return _shortened(text, 200)


class _Bearer(requests.auth.AuthBase):
    """The key, kept where no repr of the model shows it."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class _Passing(Exception):
    """What may be gone at the next attempt; `wait` is how many seconds the server asks for."""

    def __init__(self, what: str, wait: float = 0) -> None:
        super().__init__(what)
        self.wait = wait


class _Refused(Exception):
    """What the server will not take, however often it is sent."""

    def __init__(self, what: str, too_long: bool) -> None:
        super().__init__(what)
        self.too_long = too_long


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


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks for, from a number or a date; 0 where it says nothing that can be read."""
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return 0
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else 0


def _message(content: bytes) -> str:
    """The message in a server's error: OpenAI's and vLLM's, TEI's, FastAPI's; else all it sent."""
    try:
        said = json.loads(content)
    except ValueError:
        return _text(content)
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    return said if isinstance(said, str) else json.dumps(said)


def _text(content: bytes) -> str:
    """The words of a reply that is no JSON, usually a page of HTML."""
    return re.sub(r"<[^>]*>", " ", content[:10_000].decode(errors="replace"))


def _shortened(text: str, length: int) -> str:
    printable = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(printable.split())
    return line if len(line) <= length else f"{line[:length]}…"


def _named(prompt: Prompt) -> str:
    """Which text it is; what comes before the node's text is the same in all prompts and names none."""
    text = prompt.text[prompt.start :]
    return f"text {prompt.number} of its part ({len(text)} characters, '{_shortened(text, 60)}')"


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


def _is_loopback(url: SplitResult) -> bool:
    host = url.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_private(host: str) -> bool:
    """An address or a name that only a local network knows."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal"))
