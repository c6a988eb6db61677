"""A Ray cluster, seen from the driver: joined or started, its nodes looked at, and left again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from stage_bench.errors import StageBenchError
from stage_bench.execution import ray_worker
from stage_bench.execution.ray_worker import Look, Token
from stage_bench.execution.reservations import Room
from stage_bench.runs import provenance

_ANSWERS_WITHIN = 5.0  # seconds in which something at an address has to answer
_LOOK_WITHIN = 180.0  # and a node to say what it is: it starts a process for that, and imports from its disk
_THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}
_ON_THIS_MACHINE_ALONE = {
    # Ray runs whatever reaches its ports, so they are the loopback's; the switch that has Ray do so is named for what
    # it is for elsewhere. And nobody is told that it was started.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Node:
    """id: Ray's. name: a host's, with the beginning of the id where several nodes are on one."""

    id: str
    name: str
    room: Room


class Cluster:
    """A connection to a cluster, from `with` to its end. address: None: one of this machine's own is started.

    log: where what Ray has to say goes.
    """

    def __init__(self, address: str | None, log: Path) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS") or None
        self._log = log
        self._names: dict[str, str] = {}
        self._leaving = contextlib.ExitStack()

    def __enter__(self) -> Cluster:
        """Raises StageBenchError: Ray is not here, nothing answers, or it is a cluster of another version."""
        if self.address is None:
            for key, value in {**_ON_THIS_MACHINE_ALONE, **_THREADS}.items():
                os.environ.setdefault(key, value)
        else:
            _check_address(self.address)
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what its C++ would print here on standard error
        import ray

        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with self._leaving as leaving:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            file = leaving.enter_context(self._log.open("a", encoding="utf-8"))
            # The raylet's messages come by way of standard output, where the report is to stand alone.
            leaving.enter_context(contextlib.redirect_stdout(file))
            leaving.callback(ray.shutdown)
            here: dict[str, Any] = {"num_cpus": provenance.cores(), "include_dashboard": False}
            try:
                ray.init(
                    address=self.address or "local",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    namespace="stage-bench",
                    **(here if self.address is None else {}),
                )
            except Exception as error:  # ConnectionError, ValueError, RuntimeError and more: whatever it is, it failed
                where = f"--address {self.address}" if self.address else "--executor ray"
                raise StageBenchError(f"{where}: {' '.join(str(error).split())}") from None
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler or signal.SIG_DFL)  # Ray has handlers of its own
            self._leaving = leaving.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.close()

    def nodes(self) -> list[Node]:
        """Those that are alive."""
        import ray

        found = [node for node in ray.nodes() if node["Alive"]]
        hosts = [node["NodeManagerHostname"] for node in found]
        for node in found:
            host, id_ = node["NodeManagerHostname"], node["NodeID"]
            self._names.setdefault(id_, host if hosts.count(host) == 1 else f"{host} ({id_[:6]})")
        return [Node(node["NodeID"], self._names[node["NodeID"]], _room(node["Resources"])) for node in found]

    def name(self, id_: str) -> str:
        """Of a node that was seen, alive or not."""
        if id_ not in self._names:
            self.nodes()
        return self._names.get(id_, id_[:6])

    def own_node(self) -> str:
        """The id of the node that this process is connected to, on its own machine."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def look(self, results: Token | None, storage: Token | None, device: str) -> dict[str, Look]:
        """What each node says of itself, by id, and whether it sees what the tokens stand for.

        Raises:
            StageBenchError: one has another stage-bench, or none, or does not answer.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        def asked(*given: Any) -> Any:
            # Not by its name in a module: where there is no such module, that is to be said.
            try:
                from stage_bench.execution.ray_worker import look
            except Exception as error:
                return f"{type(error).__name__}: {error}"
            return look(*given)

        nodes = self.nodes()
        answers = {}
        for node in nodes:
            here = NodeAffinitySchedulingStrategy(node.id, soft=False)
            has_gpu = node.room.gpus > 0 and device != "cpu"
            remote = ray.remote(num_cpus=0, num_gpus=0.001 if has_gpu else 0, max_retries=0)(asked)
            answers[node.id] = remote.options(scheduling_strategy=here).remote(results, storage, device, has_gpu)
        ray.wait(list(answers.values()), num_returns=len(answers), timeout=_LOOK_WITHIN, fetch_local=False)
        return {node.id: _checked(node, answers[node.id]) for node in nodes}


@contextlib.contextmanager
def shared_token(results: Path) -> Iterator[Token]:
    """A token in a results folder, as long as it is asked for."""
    results = results.resolve()
    path = results / f".{uuid.uuid4().hex}.seen"
    token = Token(str(path), uuid.uuid4().hex)
    results.mkdir(parents=True, exist_ok=True)
    _sweep(results)
    note = Path(f"{path}.id")
    try:
        with FileLock(path):
            note.write_text(token.content, encoding="utf-8")
            yield token
    finally:
        for each in (note, path):
            each.unlink(missing_ok=True)


def _sweep(results: Path) -> None:
    """Remove the tokens of drivers that were killed."""
    for path in results.glob(".*.seen"):
        with contextlib.suppress(Timeout, OSError), FileLock(path, timeout=0):
            Path(f"{path}.id").unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _room(resources: dict[str, float]) -> Room:
    return Room(resources.get("CPU", 0), resources.get("GPU", 0), resources.get("memory", 0))


def _check_address(address: str) -> None:
    """Raises StageBenchError at once where Ray would try for minutes."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise StageBenchError(
            f"--address {address}: stage-bench runs on a machine of the cluster, with the address of its head, "
            "HOST:PORT; a machine that is to do no jobs joins it with `ray start --address=HOST:PORT --num-cpus=0`"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise StageBenchError(f"--address {address}: write HOST:PORT, as `ray start --head` says it, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise StageBenchError(f"--address {address}: no Ray cluster answers there ({error})") from None


def _checked(node: Node, answer: Any) -> Look:
    import ray

    try:
        found = ray.get(answer, timeout=1.0)
    except ray.exceptions.GetTimeoutError:
        raise StageBenchError(f"node {node.name}: no answer within {_LOOK_WITHIN:.0f} s; is it well?") from None
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[-300:]
        raise StageBenchError(f"node {node.name} cannot be used: {reason}") from None
    if isinstance(found, str):
        raise StageBenchError(f"node {node.name}: stage-bench cannot be imported there ({found}); install it")
    assert isinstance(found, Look)
    if found.code != ray_worker.code():
        theirs, ours = found.versions.get("stage-bench", "?"), provenance.versions().get("stage-bench", "?")
        more = "of another commit, " if theirs == ours else ""
        raise StageBenchError(
            f"node {node.name} has another stage-bench than this machine ({more}{theirs} there, {ours} here): "
            "install the same on all"
        )
    return found


def unlike(look: Look) -> str:
    """Libraries of which a node has other versions than this machine; empty where there are none."""
    ours = provenance.versions()
    differing = [name for name in sorted({*ours, *look.versions}) if ours.get(name) != look.versions.get(name)]
    return ", ".join(f"{name} {look.versions.get(name, 'none')} (here {ours.get(name, 'none')})" for name in differing)
