"""`doctor`: what this installation has, and what to do where something is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from stage_bench import registry
from stage_bench.checks import Line
from stage_bench.errors import StageBenchError
from stage_bench.runs import provenance


def examine(data: Path) -> Iterator[Line]:
    """One line for each thing looked at."""
    yield Line(", ".join(f"{name} {version}" for name, version in provenance.versions().items()))
    yield Line(provenance.cpu())
    try:
        from stage_bench.dgl_library import dgl

        yield Line(f"dgl {dgl.__version__} can be imported")
        from stage_bench.execution import devices

        chosen = devices.choose("auto")
        yield Line(
            f"embeds on {chosen.embedding}, trains on {chosen.training}{'; ' + chosen.note if chosen.note else ''}"
        )
    except StageBenchError as error:
        yield Line(str(error), False)
    names = registry.specs("datasets")
    there = [name for name in names if (data / name / "dataset.yaml").is_file()]
    yield Line(f"data folder {data}: {', '.join(['api-docs (built in)', *there])}")
    from stage_bench.llms import weights

    try:
        yield Line(f"weights of minilm: {weights.find(registry.get('llms', 'minilm')).name}")
    except StageBenchError as error:
        yield Line(str(error), False)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Line(f"{free:.0f} GiB free here" + ("" if free > 2 else ": make room before a large suite"), free > 2)
