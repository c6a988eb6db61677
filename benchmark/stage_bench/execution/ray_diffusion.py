"""Diffusion of a graph in files over the nodes of a Ray cluster: each takes columns, and nothing is exchanged.

Every node has the whole graph and the features in files of its own, or on a disk that all see. A task diffuses a panel
of columns, which goes to `<folder>/parts`, straight or by way of Ray's store; the driver puts panels side by side. A
panel whose node is lost is given out again, and one that is there already is not done again, also by a later call.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench import fingerprint
from stage_bench.diffusion import documents, neighbours, out_of_core
from stage_bench.diffusion.columns import Progress, silent
from stage_bench.diffusion.recipe import Recipe
from stage_bench.errors import JobError, StageBenchError
from stage_bench.execution import parcels, ray_worker
from stage_bench.execution.parcels import Parcel
from stage_bench.execution.ray_nodes import Cluster, shared_token
from stage_bench.execution.ray_worker import Token
from stage_bench.execution.scratch import Scratch


def diffuse_over(
    folder: Path,
    graph: Path,
    features: Path,
    recipe: Recipe,
    budget: int,
    address: str | None = None,
    shared: bool = True,
    retries: int = 3,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> np.memmap:
    """`out_of_core.diffuse_to` by the nodes of a cluster; called by a driver on one of its machines.

    graph: a folder with `indptr.npy` and `indices.npy`. features: `.npy`, float32 [num_nodes, dim]. Both are at this
    path on every node.
    budget: bytes that a process may hold, on every node.
    address: of the head; None: a cluster of this machine's own. shared: whether nodes that see `folder` write there.
    retries: how often a panel is given out again whose node was lost.

    Raises:
        StageBenchError: a node has another stage-bench, or not these files.
        JobError: as `out_of_core.diffuse_to`.
    """
    folder, graph, features = folder.absolute(), graph.absolute(), features.absolute()
    with contextlib.ExitStack() as held:
        folder.mkdir(parents=True, exist_ok=True)
        cluster = held.enter_context(Cluster(address, folder / "ray.log"))
        token = held.enter_context(shared_token(folder)) if shared else None
        _spread(cluster, token, folder, graph, features, recipe, budget, retries, progress, say)
    edges, matrix = neighbours.of_files(graph), np.load(features, mmap_mode="r", allow_pickle=False)
    made = out_of_core.diffuse_to(folder, edges, matrix, recipe, budget, progress, say)
    (folder / "ray.log").unlink(missing_ok=True)
    return made


def _spread(
    cluster: Cluster,
    token: Token | None,
    folder: Path,
    graph: Path,
    features: Path,
    recipe: Recipe,
    budget: int,
    retries: int,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Every panel's parts are in the folder at the end."""
    import ray

    nodes = cluster.nodes()
    cluster.look(token, None, "cpu")
    matrix = np.load(features, mmap_mode="r", allow_pickle=False)
    count = out_of_core.begin(folder, neighbours.of_files(graph), matrix, recipe, budget, len(nodes))
    plan = (folder / documents.PLAN).read_bytes()
    cores = max(1, int(min(node.room.cpus for node in nodes if node.room.cpus >= 1)))
    task: Any = ray.remote(num_cpus=cores, max_retries=0)(panel)
    lost = dict.fromkeys(range(count), 0)

    def give(number: int) -> Any:
        return task.remote(token, str(folder), plan, str(graph), str(features), recipe, budget, number, cores)

    given = {give(number): number for number in range(count)}
    done = 0
    while given:
        progress(done, count, "panels diffused")
        (ready,), _ = ray.wait(list(given), num_returns=1)
        number = given.pop(ready)
        try:
            for parcel in ray.get(ready):
                parcels.unpack(parcel, folder, lambda part: ray_worker.had(part, ray.get))
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, StageBenchError) else error
            raise JobError(f"panel {number}: {' '.join(str(cause).split())}") from None
        except ray.exceptions.RayError as error:
            lost[number] += 1
            if lost[number] > retries:
                raise JobError(f"panel {number} was lost {lost[number]} times; {type(error).__name__}") from None
            say(f"panel {number}: its process or node was lost; it is done again ({lost[number]} of {retries})")
            given[give(number)] = number
        else:
            done += 1


def panel(
    token: Token | None,
    folder: str,
    plan: bytes,
    graph: str,
    features: str,
    recipe: Recipe,
    budget: int,
    number: int,
    cores: int,
) -> list[Parcel]:
    """On a node: one panel. What comes back is empty where it was written into the driver's folder.

    Raises:
        JobError: the graph or the features are not here, or the budget is too small.
    """
    import ray
    import torch

    torch.set_num_threads(cores)
    for path in (Path(graph) / "indptr.npy", Path(graph) / "indices.npy", Path(features)):
        if not path.is_file():
            raise JobError(f"{path} is not on node {ray.get_runtime_context().get_node_id()[:6]}: copy it there")
    edges, matrix = neighbours.of_files(Path(graph)), np.load(features, mmap_mode="r", allow_pickle=False)
    if token is not None and token.look()[0]:
        out_of_core.diffuse_panels(Path(folder), edges, matrix, recipe, budget, [number])
        return []
    scratch = Scratch(fingerprint.of_json(folder) + fingerprint.of_json(plan.hex()))
    try:
        with tempfile.TemporaryDirectory(dir=scratch.folder) as place:
            here = Path(place) / Path(folder).name  # what is sealed in a folder goes by its name
            here.mkdir()
            (here / documents.PLAN).write_bytes(plan)
            made = out_of_core.diffuse_panels(here, edges, matrix, recipe, budget, [number])
            names = [str(path.relative_to(here)) for path in made]
            return [parcels.pack(here, "diffusion", "parts", names, "", ray_worker.kept(ray.put))]
    finally:
        scratch.close()
