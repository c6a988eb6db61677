"""A Ray cluster of two nodes on this machine for the tests, on the loopback alone; a driver is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
from ray.cluster_utils import Cluster

import tiny
from stage_bench.runs.record import RunRecord

OBJECTS = 200 << 20  # bytes of a node's object store
HEAD, OTHER = "127.0.0.2", "127.0.0.3"
# So that a dead node is noticed within seconds.
HEALTH = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 4}

PLUGIN = '''
    """Backbones that take their time, fail or die, and leave a line for each time that they are built."""
    import os
    import signal
    import time
    from pathlib import Path

    import stage_bench
    from stage_bench.backbones.mlp import MLP
    from stage_bench.backbones.options import MLPOptions

    BUILT = Path({built!r})


    class Noted(MLP):
        name, seconds = "", 0.0

        def __init__(self, in_dim, num_classes, options):
            with BUILT.open("a") as file:
                file.write(f"{{self.name}} {{options.hidden}} {{os.getpid()}} {{time.time()}}\\n")
            super().__init__(in_dim, num_classes, options)
            time.sleep(self.seconds)


    @stage_bench.register_backbone(name="slow", summary="takes a second", options=MLPOptions)
    class Slow(Noted):
        name, seconds = "slow", 1.0


    @stage_bench.register_backbone(name="endless", summary="takes an hour", options=MLPOptions)
    class Endless(Noted):
        name, seconds = "endless", 3600.0


    @stage_bench.register_backbone(name="failing", summary="raises", options=MLPOptions)
    class Failing(Noted):
        name = "failing"

        def forward(self, graph, x):
            raise ValueError("no such thing")


    @stage_bench.register_backbone(name="deadly", summary="kills its process", options=MLPOptions)
    class Deadly(Noted):
        name = "deadly"

        def forward(self, graph, x):
            os.kill(os.getpid(), signal.SIGKILL)


    @stage_bench.register_features(name="counted")
    def counted(graph, options):
        import numpy as np

        with BUILT.open("a") as file:
            file.write(f"counted 0 {{os.getpid()}} {{time.time()}}\\n")
        return np.random.RandomState(0).randn(graph.num_nodes, 6)
'''


@contextmanager
def cluster(**variables: str) -> Iterator[Cluster]:
    """A head with one core; at the end nothing of it is left."""
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": OBJECTS,
            "include_dashboard": False,
            "node_ip_address": HEAD,
            "env_vars": variables,
            "_system_config": HEALTH,
        },
    )
    try:
        yield made
    finally:
        processes = [process for node in made.list_all_nodes() for process in tree(node)]
        made.shutdown()
        _, alive = psutil.wait_procs(processes, timeout=20)
        for process in alive:
            process.kill()
        assert not alive, "Ray left processes behind"


@contextmanager
def second_node(made: Cluster, num_cpus: int = 1, **variables: str) -> Iterator[Any]:
    node = made.add_node(num_cpus=num_cpus, object_store_memory=OBJECTS, node_ip_address=OTHER, env_vars=variables)
    try:
        yield node
    finally:
        if node in made.list_all_nodes():
            made.remove_node(node, allow_graceful=False)


def tree(node: Any) -> list[psutil.Process]:
    """The processes of a node, workers among them."""
    found = []
    for infos in node.all_processes.values():
        for info in infos:
            if info.process.poll() is None:
                process = psutil.Process(info.process.pid)
                found += [process, *process.children(recursive=True)]
    return found


def kill(node: Any) -> None:
    """As when its machine goes: the raylet and everything that it had started, at once."""
    processes = tree(node)
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()


class Place:
    """A folder with a suite, a dataset and a plug-in, and the drivers that are started in it."""

    def __init__(self, folder: Path, address: str = "", data: str = "data") -> None:
        self.folder, self.address, self.data = folder, address, data
        self.built = folder / "built"
        self.drivers: list[subprocess.Popen[str]] = []
        tiny.write_folder(folder / data)
        (folder / "plugin.py").write_text(dedent(PLUGIN).format(built=str(self.built)))

    def suite(self, **content: Any) -> None:
        standard = {
            "name": "tiny",
            "datasets": [{"name": "tiny", "path": self.data}],
            "features": ["counted"],
            "plugins": ["plugin.py"],
            "training": {"epochs": 5},
            "seeds": 3,
        }
        (self.folder / "suite.yaml").write_text(json.dumps({**standard, **content}))

    def start(self, *options: str, executor: str = "ray") -> subprocess.Popen[str]:
        script = Path(sysconfig.get_path("scripts")) / "stage-bench"
        where = ["--executor", "ray", "--address", self.address] if executor == "ray" else []
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        driver = subprocess.Popen(
            [str(script), "run", "suite.yaml", *where, *options],
            cwd=self.folder,
            env={**environment, "COLUMNS": "300", "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.drivers.append(driver)
        return driver

    def run(self, *options: str, executor: str = "ray") -> tuple[int, str]:
        """The exit code, and what was said."""
        driver = self.start(*options, executor=executor)
        return self.end(driver)

    def end(self, driver: subprocess.Popen[str], timeout: float = 240) -> tuple[int, str]:
        try:
            out, err = driver.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            driver.kill()
            out, err = driver.communicate()
            raise AssertionError(f"it does not end:\n{out}\n{err}") from None
        return driver.returncode, out + err

    def close(self) -> None:
        for driver in self.drivers:
            if driver.poll() is None:
                driver.send_signal(signal.SIGKILL)
                driver.communicate()

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def records(self) -> dict[tuple[str, int | None], RunRecord]:
        return {(record.backbone, record.init_seed): record for record in tiny.records(self.folder)}

    def builds(self, name: str) -> list[list[str]]:
        """A row for each time that it was built: its width, the process, the time."""
        if not self.built.exists():
            return []
        rows = [line.split() for line in self.built.read_text().splitlines()]
        return [row[1:] for row in rows if row[0] == name]


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came to this")
