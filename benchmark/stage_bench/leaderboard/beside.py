"""Work on a report that another process does meanwhile: what a report of many rows needs is Python's, one core's."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

ROWS = 20_000
"""Runs of a report from which on another process is worth its while."""

T = TypeVar("T")


class Beside(Generic[T]):
    """`function(*given)`, begun at once in a forked process if `rows` are many and there is a core for it.

    Else it is called when its result is asked for, as it is where that process dies or raises: then what is wrong is
    raised here. It must come to the same whenever it is called.
    """

    def __init__(self, rows: int, function: Callable[..., T], *given: Any) -> None:
        self._call = lambda: function(*given)
        self._process = None
        if rows >= ROWS and (os.cpu_count() or 1) > 1 and hasattr(os, "fork"):
            forking = multiprocessing.get_context("fork")  # what is given is there already, and is not sent
            self._received, sent = forking.Pipe(duplex=False)
            self._process = forking.Process(target=_send, args=(self._received, sent, self._call), daemon=True)
            self._process.start()
            sent.close()

    def result(self) -> T:
        """Waits for it; to be asked for once."""
        if self._process is None:
            return self._call()
        try:
            found: T = self._received.recv()
        except (EOFError, OSError):
            found = self._call()
        self._process.join()
        return found


def _send(received: Connection, sent: Connection, call: Callable[[], Any]) -> None:
    received.close()  # else it would wait forever with a large result, were the other end's process killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of whoever waits for this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        sent.send(call())
    except Exception:
        os._exit(1)  # it is called again by whoever waits, who then says what is wrong
