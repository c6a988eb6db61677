"""Which device embeds and which trains, and with how many threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stage_bench.errors import StageBenchError
from stage_bench.runs.provenance import cores, cpu

# Below this many nodes threads spend more time waiting for each other than they save.
SMALL = 20_000


@dataclass(frozen=True)
class Devices:
    """Names as torch takes them; `hardware` is what trains; `note` is empty or one line for the user."""

    embedding: str
    training: str
    hardware: str
    note: str
    synchronize: Callable[[], None]

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
    import torch

    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise StageBenchError("--device cuda: torch sees no CUDA device; leave the option out to run on the CPU")
    if device == "cpu" or not has_cuda:
        return Devices("cpu", "cpu", cpu(), "", lambda: None)
    name = torch.cuda.get_device_name()
    if _dgl_has_cuda():
        return Devices("cuda", "cuda", name, "", torch.cuda.synchronize)
    note = f"this DGL has no CUDA: texts are embedded on {name}, models are trained on the CPU"
    return Devices("cuda", "cpu", f"{name} (embedding), {cpu()} (training)", note, torch.cuda.synchronize)


def _dgl_has_cuda() -> bool:
    from stage_bench.dgl_library import dgl

    try:
        dgl.graph(([0], [0])).to("cuda")
    except Exception:  # DGL raises DGLError for a CPU build
        return False
    return True
