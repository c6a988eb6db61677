"""What the registry knows of a dataset before it is read."""

from dataclasses import dataclass, field

_MEBI = 1 << 20
_GIBI = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Source:
    """One upstream file.

    file: its name in `<data folder>/upstream/<dataset>/`; a person may put it there instead of having it fetched.
    sha256: of the file as it was published, where that is known.
    max_bytes, max_unpacked: no more than this is fetched, or written in unpacking it.
    unpack: it is an archive (zip, tar, tar.gz) or a single file under gzip.
    optional: the dataset is complete without it.
    """

    file: str
    url: str
    sha256: str = ""
    max_bytes: int = 512 * _MEBI
    max_unpacked: int = 8 * _GIBI
    unpack: bool = False
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One dataset.

    `loader` is `load(spec, data: Path, *, undirected: bool) -> TextGraph` or `"module:function"`; the default reads
    the folder format from `<data folder>/<name>`. `instructions` maps a variant (`default`, `graph-aware`, `dataset`)
    to the sentence that instruction-following LLMs receive. `sources` are the upstream files that the folder is made
    of, and `reader` is `read(upstream: Path) -> Table` or `"module:function"`, which reads them.
    """

    name: str
    summary: str = ""
    loader: object = "stage_bench.datasets.folder:load_named"
    nodes: int | None = None
    classes: int | None = None
    split: str = "random-60-20-20"
    licence: str = ""
    get: str = ""  # where it is to be had, when stage-bench cannot fetch it
    instructions: dict[str, str] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    reader: object = ""

    @property
    def how_to_get(self) -> str:
        """What to do when it is not in the data folder."""
        if not self.sources:
            return self.get
        files = " and ".join(source.file for source in self.sources if not source.optional)
        return (
            f"fetch it with `stage-bench prepare SUITE`, or put {files} into <data folder>/upstream/{self.name}/ and do"
            " the same"
        )
