"""What the registry knows of an embedding model before its weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stage_bench.errors import StageBenchError

POOLINGS = ("mean", "mean-text", "last-token", "cls")
DTYPES = ("float32", "bfloat16", "float16")
LOADERS = ("transformers", "sentence-transformers", "bidirectional", "llm2vec", "nv-embed", "endpoint")
PACKINGS = ("zip", "gguf", "static")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Weights inside registry packages that must be made ready once (packaged.py); none of the packages' code runs."""

    kind: str  # of PACKINGS; zip: a model's folder, gguf: a language model, static: a table of vectors, its tokenizer
    files: tuple[str, ...]  # `package/path/in/it`; in their order they are the zip or the GGUF file
    sha256: str  # of what they hold, one after the other
    install: str  # the command that gets them and what reads them

    @property
    def as_published(self) -> bool:
        """Whether the hub's repository has the same weights: a zip holds its folder, a GGUF file is quantised."""
        return self.kind == "zip"


@dataclass(frozen=True, kw_only=True)
class LLMSpec:
    """One embedding model: facts only; a field is left empty rather than guessed.

    `prompt` is the template with `{instruction}` and `{text}`, `"{text}"` where the model takes no instruction;
    `plain_prompt` is the one for `instruction: none`. `encoder` is empty for the built-in loaders, which read `hub_id`;
    a plug-in puts a class there that encodes by itself: `encode(texts) -> float32 [len(texts), dimension]`.
    """

    name: str
    summary: str = ""
    hub_id: str = ""
    revision: str = ""
    base: tuple[str, str] = ("", "")  # hub id and revision of what an adapter is put on
    loader: str = "transformers"  # one of LOADERS
    encoder: object = ""
    dimension: int | None = None
    matryoshka: bool = False  # trained so that its first dimensions are an embedding too
    parameters: int | None = None
    pooling: str = "mean"
    normalize: bool = True
    prompt: str = "{text}"
    plain_prompt: str = "{text}"
    max_length: int | None = 512  # tokens; None: what the model or its server takes
    dtype: str = "float32"
    licence: str = ""
    released: str = ""  # YYYY-MM
    trained_on: str = ""  # what is known of the benchmark's texts in its training data, and from where
    remote_code: bool = False  # the repository's own code must run; only if the suite says so
    weights_package: str = ""  # a registry package that holds the weights, found without running its code
    weights_extra: str = ""  # pip extra that installs it
    weights_sha256: str = ""  # of model.safetensors in it
    packed: Packed | None = None  # where the weights lie in packages, but not as a folder that can be read
    price: float | None = None  # US dollars for a million tokens at the vendor's endpoint
    version: int = 1  # raise when the same options would give other embeddings
    needs: str = ""  # what to get before it can be used; empty: ready

    def __post_init__(self) -> None:
        for key in ("prompt", "plain_prompt"):
            if "{text}" not in getattr(self, key):
                raise StageBenchError(
                    f"llm '{self.name}': {key} has no {{text}}, so every node would get the same prompt"
                )

    @property
    def takes_instruction(self) -> bool:
        return "{instruction}" in self.prompt


@dataclass(frozen=True)
class Reduction:
    """Fewer dimensions, made from an embedding: `truncate` (Matryoshka), `pca` or `svd`."""

    kind: str
    dimensions: int


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks OpenAI's embeddings protocol. The key comes from the environment, never from here."""

    url: str  # the base, such as http://localhost:8000/v1
    model: str  # as the server calls it


@dataclass(frozen=True, kw_only=True)
class LLMChoice:
    """An LLM as a suite wants it, every option settled.

    `label` is what the leaderboard shows; `instruction` is a variant, `none`, or the instruction itself. `batch_tokens`
    and `device` change how fast embeddings come, not what they are.
    """

    spec: LLMSpec
    label: str
    instruction: str
    pooling: str
    max_length: int | None
    dtype: str
    normalize: bool
    path: Path | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    reduction: Reduction | None = None
    endpoint: Endpoint | None = None
    batch_tokens: int | None = None
    device: str | None = None
