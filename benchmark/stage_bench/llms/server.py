"""A server that speaks one of OpenAI's protocols: how it is reached, asked again, and not believed.

The key comes from $OPENAI_API_KEY alone and appears in no error, record or repr.
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import random
import re
import threading
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from urllib3.exceptions import NewConnectionError

from stage_bench.errors import JobError

KEY = "OPENAI_API_KEY"
URL = "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
# How OpenAI, vLLM, TEI, Ollama, Jina and Voyage say that a text or a request is too long; TEI and proxies answer 413.
_MOST_BYTES = 1 << 28  # of a reply; 128 embeddings of 8,192 numbers are 30 million, written out
_TOO_LONG = re.compile(
    r"too (long|large|many)|context length|less than \d+ (tokens|char)|exceed|reduce the length|maximum allowed"
    r"|maximum (input|length|request)|max allowed",
    re.IGNORECASE,
)


class Server:
    """One address of a server, such as `/embeddings`; safe in `threads` threads."""

    threads: int | None = 4  # requests at once
    timeouts = (10.0, 120.0)  # seconds: to connect; without a byte of the reply
    attempts = 6
    longest_wait = 60.0  # seconds between two attempts

    def __init__(self, who: str, url: str, path: str, done: str) -> None:
        """Nothing is sent yet.

        who: how errors begin, such as "llm 'x'". url: the base; empty: $OPENAI_BASE_URL. path: below the base.
        done: what stays when it gives up, such as "embedded".

        Raises:
            JobError: the URL is none to send texts to, or the key cannot be sent, or would go in clear text.
        """
        self._who, self._done = who, done
        self._url = ""
        key = os.environ.get(KEY, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            # Checked here: HTTP libraries quote a header they refuse.
            raise self._error(f"${KEY} holds characters that no key has, such as a space or a line break")
        self._auth = _Bearer(key)
        if not url:
            raise self._error(f"${URL} is not set; set it, or write the base URL in the suite: endpoint: URL")
        parts = self._checked_url(url)
        self._url = f"{parts.geturl().rstrip('/')}{path}"
        self._session = requests.Session()
        self._session.auth = self._auth  # without one, requests sends what ~/.netrc holds
        self._session.trust_env = not _is_loopback(parts)  # no proxy between this machine and itself
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=self.threads or 1)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._lock = threading.Lock()
        self._requests = 0
        self._random = random.Random()  # the seeded one belongs to what is measured
        self._answered = False  # has the server ever answered?
        self._gave_up = threading.Event()  # a request ran out of attempts, and none has succeeded since
        self._closed = False

    def close(self) -> None:
        """Whoever waits for another attempt stops waiting, and none is made."""
        self._closed = True
        self._gave_up.set()

    def ask(self, fields: dict[str, Any]) -> Any:
        """The reply's JSON, after as many attempts as that takes."""
        body = json.dumps(fields, ensure_ascii=False).encode()
        attempt = 1
        while True:
            try:
                reply = self._send(body)
            except Passing as error:
                wait = min(2.0**attempt, self.longest_wait) * self._random.uniform(0.5, 1)
                # One that gave up wakes the others: else every batch in the queue would wait as long again.
                if attempt == self.attempts or self._pause(min(max(wait, error.wait), self.longest_wait)):
                    self._gave_up.set()
                    tries = f" ({attempt} attempts)" if attempt > 1 else ""
                    raise self._error(f"{error}{tries}; what was {self._done} stays, so run again later") from None
                attempt += 1
            else:
                if not self._closed:  # what was on its way then must not send the others on theirs
                    self._gave_up.clear()
                return reply

    def _pause(self, seconds: float) -> bool:
        """Wait; True as soon as another request has given up."""
        return self._gave_up.wait(seconds)

    def _send(self, body: bytes) -> Any:
        """One attempt: the reply's JSON, or Passing, Refused or JobError."""
        with self._lock:
            self._requests += 1
        try:
            response = self._session.post(
                self._url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=self.timeouts,
                allow_redirects=False,  # the texts go where the suite says
                stream=True,
            )
            with closing(response):
                content = self._content(response)
        except requests.ConnectTimeout:
            raise Passing(f"no connection within {self.timeouts[0]:g} seconds") from None
        except requests.Timeout:
            raise Passing(f"no answer within {self.timeouts[1]:g} seconds") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            reason = getattr(error.args[0], "reason", None) if error.args else None
            unreachable = isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError)
            if not unreachable and not isinstance(reason, NewConnectionError):
                raise Passing("the connection broke off") from None
            why = f"no connection ({self._line(str(reason or error).rpartition(': ')[2])})"
            if self._answered:
                raise Passing(why) from None
            # A server that never answered is not there, or the URL is wrong: waiting mends neither.
            raise self._error(f"{why}; is the server running, and the URL right?") from None
        except requests.RequestException as error:
            raise self._error(self._line(str(error))) from None
        self._answered = True
        return self._json(response, content)

    def _content(self, response: requests.Response) -> bytes:
        """All that comes, unpacked, and not without end. Raises JobError."""
        parts: list[bytes] = []
        size = 0
        for part in response.iter_content(1 << 16):
            size += len(part)
            if size > _MOST_BYTES:
                raise self._error(f"the reply has more than {_MOST_BYTES:,} bytes, and was not read further")
            parts.append(part)
        return b"".join(parts)

    def _json(self, response: requests.Response, content: bytes) -> Any:
        """The JSON of a good reply; Passing, Refused or JobError for any other."""
        status = response.status_code
        if status == 200:
            try:
                return json.loads(content)
            except RecursionError:
                raise self._error("the reply is nested too deeply to be read") from None
            except ValueError:
                if content.lstrip().startswith(b"{"):
                    raise Passing("the reply broke off") from None
                raise self._error(f"the reply is no JSON ({self._line(_text(content))}); is the URL right?") from None
        message = self._line(message_of(content)) or self._line(response.reason or "") or "nothing more"
        if status in (401, 403) and not self._auth.key:
            raise self._error(f"the server wants a key ({status}), and ${KEY} is not set")
        if status == 401:  # its message may quote the key, whole or in part
            raise self._error(f"the server does not accept the key in ${KEY} (401)")
        # Used-up credit is a 429 as well, and does not come back by waiting.
        if (status in (408, 429) and b"insufficient_quota" not in content) or status >= 500:
            raise Passing(f"the server answered {status}: {message}", _retry_after(response.headers))
        if 300 <= status < 400:
            place = self._line(response.headers.get("Location", "?"))
            raise self._error(f"the server sends on to {place}; write the `url` that is meant")
        too_long = status == 413 or (status in (400, 422) and _TOO_LONG.search(message) is not None)
        raise Refused(f"the server answered {status}: {message}", status, too_long)

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
        return JobError(f"{self._who}{self._url and ' at '}{self._url}: {what}")

    def _line(self, text: str) -> str:
        """What a server said, on one line, shortened, and never with the key in it."""
        if self._auth.key:
            text = text.replace(self._auth.key, f"${KEY}")
        return shortened(text, 200)


class _Bearer(requests.auth.AuthBase):
    """The key, kept where no repr of the model shows it."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class Passing(Exception):
    """What may be gone at the next attempt; `wait` is how many seconds the server asks for."""

    def __init__(self, what: str, wait: float = 0) -> None:
        super().__init__(what)
        self.wait = wait


class Refused(Exception):
    """What the server will not take, however often it is sent."""

    def __init__(self, what: str, status: int, too_long: bool) -> None:
        super().__init__(what)
        self.status, self.too_long = status, too_long


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


def message_of(content: bytes) -> str:
    """The message in a server's error: OpenAI's and vLLM's, TEI's, FastAPI's; else all it sent."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return _text(content)
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    return said if isinstance(said, str) else json.dumps(said)


def _text(content: bytes) -> str:
    """The words of a reply that is no JSON, usually a page of HTML."""
    return re.sub(r"<[^>]*>", " ", content[:10_000].decode(errors="replace"))


def shortened(text: str, length: int) -> str:
    printable = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(printable.split())
    return line if len(line) <= length else f"{line[:length]}…"


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
