"""A process that does one job at a time for the one that started it, and ends with it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stage_bench import registry
from stage_bench.suite.jobs import Job, TrainJob, TuneJob

if TYPE_CHECKING:
    from stage_bench.execution.local import Setting

_STEP_EVERY = 0.2  # seconds between reports about one job
_FIRST_TO_GO = "500"  # where memory runs out, the kernel takes a worker and not its parent, which notes what happened
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Worker:
    """job: what it does now. alone: nothing else is to be done meanwhile. began: whether the job has been begun."""

    def __init__(self, setting: Setting) -> None:
        self.job: Job | None = None
        self.alone = False
        context = multiprocessing.get_context("spawn")  # a forked torch may hang
        self.connection, theirs = context.Pipe()
        self.process: Any = context.Process(
            target=_work, args=(theirs, registry.plugins(), os.getpid()), daemon=True, name="stage-bench worker"
        )
        with _deaf_to_interrupts():
            self.process.start()
        theirs.close()
        with suppress(OSError):  # that it died is found out when it is listened to
            self.connection.send(setting)

    def send(self, job: Job, side_by_side: int, alone: bool) -> None:
        self.job, self.alone = job, alone
        with suppress(OSError):
            self.connection.send((job, side_by_side))

    def kill(self) -> None:
        """At once; whatever it writes is whole or not there."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def ended(self) -> str:
        """How a process whose connection is closed came to its end."""
        self.process.join()
        code = self.process.exitcode
        if code == -signal.SIGTERM:
            time.sleep(0.5)  # sent to the whole group, most likely: then ours is about to stop us
        if code >= 0:
            return f"its process ended with {code}"
        return f"its process was killed by signal {-code}" + ("; out of memory?" if code == -signal.SIGKILL else "")


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C goes to the whole group, but it is the parent that ends its workers: they are born deaf to it.

    Held back, not ignored: one that comes now is delivered afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it is started with the first worker, and would undo this
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _work(connection: Connection, plugins: list[Path], parent: int) -> None:
    """Jobs in, steps and results out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with(parent)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    for path in plugins:
        registry.load_plugin(path)
    from stage_bench.execution import devices
    from stage_bench.execution.local import make_runner
    from stage_bench.training import loop

    setting: Setting = connection.recv()
    runner = make_runner(setting, devices.choose(setting.device), lambda line: connection.send(("line", line)))
    last = 0.0

    def step(done: int, total: int, what: str) -> None:
        nonlocal last
        if os.getppid() != parent:
            os._exit(1)  # where the system does not see to it: nobody waits for this job
        if time.perf_counter() - last > _STEP_EVERY:
            last = time.perf_counter()
            connection.send(("step", done, total, what))

    runner.on_step = step
    while True:
        try:
            job, runner.side_by_side = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(job, (TrainJob, TuneJob)):
            loop.warm_up()  # on no job's clock, and within no job's limit
        connection.send(("begun",))
        connection.send(("done", runner.do(job)))


def _end_with(parent: int) -> None:
    """Be killed when the parent dies, whatever it dies of and whatever goes on here (Linux)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)  # it died before that was asked for
