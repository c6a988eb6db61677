"""Whether the package index and the model hub can be reached. A machine without a network is no worse for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from stage_bench.checks import Line

SECONDS = 3.0
"""Until a server counts as one that cannot be reached."""


@dataclass
class Asked:
    """A server that was asked whether it is there; why: empty once it answered."""

    what: str
    host: str
    advice: str
    thread: threading.Thread | None = None
    why: str = "no answer in time"


def ask() -> list[Asked]:
    """Ask both, each in a thread of its own: looking up a name may take longer than any timeout."""
    index = os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple/"
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    found = [_begun("package index", index, "set PIP_INDEX_URL for a mirror")]
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        found.append(Asked("model hub", _host(hub), "unset it to fetch weights", why="HF_HUB_OFFLINE is set"))
    else:
        found.append(_begun("model hub", hub, "set HF_ENDPOINT for a mirror, or use weights that are here"))
    return found


def lines(asked: list[Asked]) -> Iterator[Line]:
    """What came of it, at most SECONDS from now."""
    end = time.monotonic() + SECONDS
    for each in asked:
        if each.thread is not None:
            each.thread.join(max(0.0, end - time.monotonic()))
        said = "can be reached" if not each.why else f"cannot be reached ({each.why}); {each.advice}"
        yield Line(f"{each.what} {each.host} {said}")


def _begun(what: str, url: str, advice: str) -> Asked:
    asked = Asked(what, _host(url), advice)

    def wait() -> None:
        import requests

        try:
            requests.head(url, timeout=SECONDS, allow_redirects=False).close()
            asked.why = ""
        except Exception as error:  # whatever it is, the server cannot be reached by it
            asked.why = type(error).__name__

    asked.thread = threading.Thread(target=wait, name=what, daemon=True)
    asked.thread.start()
    return asked


def _host(url: str) -> str:
    """Without a user's name and password, which a URL may hold."""
    try:
        return urlsplit(url).hostname or "without a name"
    except ValueError:
        return "without a name"
