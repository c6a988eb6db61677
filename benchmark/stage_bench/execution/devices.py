"""Which device embeds and which trains, and with how many threads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stage_bench.errors import StageBenchError
from stage_bench.runs.provenance import cores, cpu

# Below this many nodes threads spend more time waiting for each other than they save.
SMALL = 20_000


@dataclass(frozen=True)
class Devices:
    """Names as torch takes them; `hardware` is what trains; `note` is empty or one line for the user.

    gpus: UUIDs, as NVML has them, of the CUDA devices that torch sees; empty where it does not tell them.
    """

    embedding: str
    training: str
    hardware: str
    note: str
    synchronize: Callable[[], None]
    gpus: tuple[str, ...] = ()

    def use_threads(self, num_nodes: int) -> str:
        """Set torch's threads for a graph of that size; the hardware as the leaderboard shows it."""
        import torch

        if self.training != "cpu":
            return self.hardware
        threads = 1 if num_nodes < SMALL else cores()
        torch.set_num_threads(threads)
        return f"{self.hardware}, {threads} thread{'s' if threads > 1 else ''}"


def choose(device: str) -> Devices:
    """`auto` takes CUDA where it is there. DGL's own CUDA build is needed to train on it.

    Raises:
        StageBenchError: CUDA was asked for and is not there.
    """
    has_cuda = device != "cpu" and _has_driver() and _torch_has_cuda()
    if device == "cuda" and not has_cuda:
        raise StageBenchError("--device cuda: torch sees no CUDA device; leave the option out to run on the CPU")
    if not has_cuda:
        return Devices("cpu", "cpu", cpu(), "", lambda: None)
    import torch

    name = torch.cuda.get_device_name()
    if _dgl_has_cuda():
        return Devices("cuda", "cuda", name, "", torch.cuda.synchronize, _gpus())
    note = f"this DGL has no CUDA: texts are embedded on {name}, models are trained on the CPU"
    return Devices("cuda", "cpu", f"{name} (embedding), {cpu()} (training)", note, torch.cuda.synchronize, _gpus())


def _has_driver() -> bool:
    """Whether a driver for GPUs is there at all; without one, torch need not be imported to be asked."""
    drivers = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA's, that of Windows' Linux, AMD's
    return sys.platform != "linux" or any(Path(driver).exists() for driver in drivers)


def _torch_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _gpus() -> tuple[str, ...]:
    """By UUID, since CUDA and NVML count devices in different orders."""
    import torch

    properties = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    if not all(hasattr(each, "uuid") for each in properties):
        return ()
    return tuple(f"GPU-{str(each.uuid).removeprefix('GPU-')}" for each in properties)


def _dgl_has_cuda() -> bool:
    from stage_bench.dgl_library import dgl

    try:
        dgl.graph(([0], [0])).to("cuda")
    except Exception:  # DGL raises DGLError for a CPU build
        return False
    return True
