"""`check`: does one entry do what the runner will ask of it? May a report be published?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stage_bench.checks import Line
from stage_bench.errors import StageBenchError


def check(kind: str, name: str, data: Path, device: str) -> Iterator[Line]:
    """One line for each thing that was tried. Raises StageBenchError: it cannot be tried at all."""
    if kind == "llms":
        from stage_bench.execution import devices
        from stage_bench.llms import checking as llms

        yield from llms.check(name, devices.choose(device).embedding)
    elif kind == "backbones":
        from stage_bench.backbones import checking as backbones

        yield from backbones.check(name)
    elif kind == "datasets":
        from stage_bench.datasets import checking as datasets
        from stage_bench.datasets.folder import FolderProblems
        from stage_bench.execution.describing import dataset

        try:
            graph = dataset(name, data)
        except FolderProblems as error:
            yield from (Line(problem, False) for problem in error.problems)
            return
        yield from datasets.check(graph)
    elif kind == "reports":
        from stage_bench.execution import publishing

        yield from publishing.examine(Path(name)).lines
    else:
        raise StageBenchError(f"there is no check for {kind}; `stage-bench run` a small suite with it")
