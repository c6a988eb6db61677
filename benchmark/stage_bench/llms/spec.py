"""What the registry knows of an embedding model before its weights are loaded."""

from dataclasses import dataclass
from pathlib import Path

POOLINGS = ("mean", "mean-text", "last-token", "cls")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class LLMSpec:
    """One embedding model: facts only; a field is left empty rather than guessed.

    `prompt` is the template with `{instruction}` and `{text}`, `"{text}"` where the model takes no instruction. With
    `instruction: none` the text alone is sent. `encoder` is empty for the built-in loaders, which read `hub_id`;
    a plug-in puts a class there that encodes by itself: `encode(texts) -> float32 [len(texts), dimension]`.
    """

    name: str
    summary: str = ""
    hub_id: str = ""
    revision: str = ""
    loader: str = "transformers"  # or "sentence-transformers"
    encoder: object = ""
    dimension: int | None = None
    parameters: int | None = None
    pooling: str = "mean"
    normalize: bool = True
    prompt: str = "{text}"
    max_length: int = 512  # tokens
    dtype: str = "float32"
    licence: str = ""
    released: str = ""  # YYYY-MM
    remote_code: bool = False  # the repository's own code must run; only if the suite says so
    weights_package: str = ""  # a registry package that holds the weights, found without running its code
    weights_extra: str = ""  # pip extra that installs it
    weights_sha256: str = ""  # of model.safetensors in it
    version: int = 1  # raise when the same options would give other embeddings
    needs: str = ""  # what to get before it can be used; empty: ready

    @property
    def takes_instruction(self) -> bool:
        return "{instruction}" in self.prompt


@dataclass(frozen=True)
class LLMChoice:
    """An LLM as a suite wants it, every option settled.

    `label` is what the leaderboard shows; `instruction` is a variant, `none`, or the instruction itself.
    """

    spec: LLMSpec
    label: str
    instruction: str
    pooling: str
    max_length: int | None
    dtype: str
    normalize: bool
    path: Path | None
    trust_remote_code: bool
