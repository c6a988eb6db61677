"""What the registry knows of a dataset before it is read."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One dataset.

    `loader` is `load(spec, data: Path, *, undirected: bool) -> TextGraph` or `"module:function"`; the default reads
    the folder format from `<data folder>/<name>`. `instructions` maps a variant (`default`, `graph-aware`, `dataset`)
    to the sentence that instruction-following LLMs receive.
    """

    name: str
    summary: str = ""
    loader: object = "stage_bench.datasets.folder:load_named"
    nodes: int | None = None
    classes: int | None = None
    split: str = "random-60-20-20"
    licence: str = ""
    get: str = ""  # what to fetch, and where to put it, when the files are absent
    instructions: dict[str, str] = field(default_factory=dict)
