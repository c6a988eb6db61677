"""Ctrl-C and SIGTERM: the first ends the work in order, a second one ends the process at once.

Python looks at signals between two steps of its own, and a product of large matrices is one step. So a thread is woken
by the system itself: where the process has not ended some seconds after the first signal, the thread ends it. What is
on disk by then is kept: files are whole or not there.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

GRACE = 10.0  # seconds from the first signal to the end of the process, at most
EXIT_CODE = 130

_asked = threading.Event()


def install() -> None:
    """To be called once, in the main thread of a command."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is for a job in a shell's background
        signal.signal(signal.SIGINT, _interrupt)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(ours,), name="signals", daemon=True).start()


def asked() -> bool:
    """Whether this process was told to stop."""
    return _asked.is_set()


def check() -> None:
    """Raises KeyboardInterrupt where this process was told to stop, and something in between has swallowed that."""
    if _asked.is_set():
        raise KeyboardInterrupt


def leave() -> NoReturn:
    """The end of a process that was told to stop. To take torch apart would take longer than anybody waits."""
    atexit._run_exitfuncs()  # others than those of modules have something to tidy up
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(EXIT_CODE)


def _interrupt(number: int, frame: Any) -> None:
    _asked.set()
    raise KeyboardInterrupt


def _listen(signals: socket.socket) -> None:
    """Each byte is the number of a signal."""
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([signals], [], [], left)[0]:
            _end("still at work some seconds after it was told to stop")
        for number in signals.recv(64):
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            _asked.set()
            if deadline is not None:
                _end("told to stop twice")
            deadline = time.monotonic() + GRACE


def _end(why: str) -> None:
    """Now, from whatever thread."""
    for child in multiprocessing.active_children():
        child.kill()
    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # bars hide it
    os.write(2, f"{cursor}stopped at once ({why}); what is done is kept\n".encode())
    os._exit(EXIT_CODE)
