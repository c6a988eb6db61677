"""`doctor`: what this installation has, and what to do where something is missing."""

from __future__ import annotations

import ctypes.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stage_bench import registry
from stage_bench.checks import Line, guarded
from stage_bench.errors import StageBenchError
from stage_bench.execution import reaching
from stage_bench.llms.spec import Endpoint, LLMChoice, LLMSpec
from stage_bench.runs import energy, provenance

_LEAST_GIB = 2
_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")  # that may be preloaded in place of the C library's


def examine(data: Path, results: Path = Path("results")) -> Iterator[Line]:
    """One line for each thing looked at; one that failed keeps suites from running. Nothing is fetched or changed."""
    asked = reaching.ask()  # answers come while the rest is looked at
    topics: dict[str, Callable[[], Iterator[Line]]] = {
        "versions": _versions,
        "processor": lambda: iter([Line(provenance.cpu())]),
        "dgl": _dgl,
        "devices": _devices,
        "threads": _threads,
        "allocator": _allocator,
        "data": lambda: _data(data),
        "weights": _weights,
        "disk": lambda: _disk(results),
        "energy": _energy,
        "network": lambda: reaching.lines(asked),
        "ray": _ray,
        "plots": _plots,
        "browser": _browser,
    }
    for topic, look in topics.items():
        try:
            for line in guarded(look()):
                yield replace(line, topic=topic)
        except StageBenchError as error:
            yield Line(str(error), False, topic)


def _versions() -> Iterator[Line]:
    yield Line(", ".join(f"{name} {number}" for name, number in provenance.versions().items()))


def _dgl() -> Iterator[Line]:
    from stage_bench.dgl_library import dgl

    yield Line(f"dgl {dgl.__version__} can be imported")


def _devices() -> Iterator[Line]:
    from stage_bench.execution import devices

    chosen = devices.choose("auto")
    note = f"; {chosen.note}" if chosen.note else ""
    if chosen.embedding == "cpu":
        note = "; torch sees no GPU, and none is needed for small graphs and models"
    yield Line(f"embeds on {chosen.embedding}, trains on {chosen.training}{note}")


def _threads() -> Iterator[Line]:
    import torch

    cores, machine = provenance.cores(), os.cpu_count() or 1
    said = [f"threads: {cores} of {machine} cores may be used, torch takes {torch.get_num_threads()}"]
    said += [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY") if name in os.environ]
    advice = []
    if cores < machine:
        advice.append("taskset or a container keeps it from the others")
    if (quota := _quota()) is not None and quota < cores:
        advice.append(f"this container may use {quota:g} cores' time: choose --workers {max(1, int(quota))}")
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        advice.append("unset OMP_WAIT_POLICY: threads that spin take the core from those that work")
    yield Line("; ".join([", ".join(said), *advice]))


def _quota() -> float | None:
    """How many cores' time a container may use; None where that is not limited."""
    try:
        most, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(most) / int(period)
    except (OSError, ValueError):  # "max" among them
        return None


def _allocator() -> Iterator[Line]:
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        maps = ""
    other = next((name for name in _ALLOCATORS if name in maps), None)
    if other is not None:
        yield Line(f"allocator: {other} takes the place of the C library's, and keeps freed memory by its own rules")
        return
    from stage_bench.kernels import allocator

    if allocator.keep_memory():
        allocator.keep_memory(False)
        yield Line("allocator: mallopt works: on a CPU the memory of freed tensors is kept while a model is trained")
    else:
        libc = ctypes.util.find_library("c") or "no C library"
        yield Line(f"allocator: no mallopt ({libc} is not glibc's); large graphs train faster with jemalloc preloaded")


def _data(data: Path) -> Iterator[Line]:
    there = [name for name in registry.specs("datasets") if (data / name / "dataset.yaml").is_file()]
    absent = "" if data.is_dir() else "; the folder is not there, `stage-bench prepare SUITE` makes it"
    yield Line(f"data folder {data}: {', '.join(['api-docs (built in)', *there])}{absent}")


def _weights() -> Iterator[Line]:
    """minilm is what the suites that are here by default embed with; the others are for who wants them."""
    from stage_bench.llms import weights

    try:
        yield Line(f"weights of minilm: {weights.find(registry.get('llms', 'minilm'), fetch=False).name}")
    except StageBenchError as error:
        yield Line(str(error), False)
    lacks = {name: weights.lack(_choice(registry.get("llms", name))) for name in registry.ready("llms")}
    specs = {name: registry.get("llms", name) for name in lacks}
    at_hand = [name for name, lack in lacks.items() if not lack]
    yield Line(f"weights at hand, or none needed: {', '.join(at_hand) or 'of no model'}")
    absent = [name for name, lack in lacks.items() if lack]
    servers = [name for name in absent if specs[name].loader == "endpoint"]
    packed = [name for name in absent if specs[name].packed is not None]
    others = [name for name in absent if name not in (*servers, *packed)]
    if others:
        yield Line(
            f"weights not here, which `stage-bench prepare SUITE` fetches where there is a network (or hf download; "
            f"`stage-bench show llm NAME` has the repository): {', '.join(others)}"
        )
    for name in packed:
        yield Line(f"weights of {name} not here: {lacks[name].removeprefix('its weights are not here; ')}")
    if servers:
        yield Line(f"{lacks[servers[0]]}, to embed with {', '.join(servers)}")


def _choice(spec: LLMSpec) -> LLMChoice:
    """A model as a suite that names only it would have it."""
    return LLMChoice(
        spec=spec,
        label=spec.name,
        instruction="none",
        pooling=spec.pooling,
        max_length=spec.max_length,
        dtype=spec.dtype,
        normalize=spec.normalize,
        endpoint=Endpoint("", spec.name) if spec.loader == "endpoint" else None,
    )


def _disk(results: Path) -> Iterator[Line]:
    seen = set()
    for place, name in ((Path.cwd(), "here"), (results, f"for {results}")):
        above = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
        if (device := above.stat().st_dev) in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(above).free / 2**30
        enough = free > _LEAST_GIB
        yield Line(f"{free:.0f} GiB free {name}" + ("" if enough else ": make room before a large suite"), enough)


def _energy() -> Iterator[Line]:
    from stage_bench.execution import devices

    chosen = devices.choose("auto")
    why = energy.lack(chosen.training, chosen.gpus)
    if why:
        yield Line(f"energy is not measured: {why}")
    else:
        yield Line("energy is measured, of jobs that nothing runs beside (on small graphs: --workers 1)")


def _ray() -> Iterator[Line]:
    found = _installed("ray")
    if found:
        yield Line(f"Ray {found}: suites can be shared out among the machines of a cluster")
    else:
        yield Line("Ray is not installed: jobs run on this machine; for a cluster pip install 'stage-bench[ray]'")


def _plots() -> Iterator[Line]:
    found = _installed("matplotlib")
    if found:
        yield Line(f"matplotlib {found}: reports have plots")
    else:
        yield Line("matplotlib is not installed, so reports have no plots: pip install 'stage-bench[plots]'")


def _browser() -> Iterator[Line]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if found:
        yield Line(f"Chromium is {found}: the tests of the web page can be run")
    else:
        yield Line("no Chromium, which only the tests of the web page need: apt install chromium")


def _installed(package: str) -> str:
    """Its version, empty where it is not installed. Nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
