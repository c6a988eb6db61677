"""How a language model is fine-tuned on the training labels; read by the suite, so nothing heavy here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

if TYPE_CHECKING:
    from stage_bench.llms.spec import LLMChoice

# An entry as under `llms:`, which the suite checks.
_LLM: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "object"}]}
_HEAD = "of d pooled numbers; linear: d -> classes; mlp: d -> d/2, tanh, -> classes; dense: d -> d, tanh, -> classes"

# SimTeG's (arXiv 2308.02565): scripts/ogbn-arxiv-tape/e5-large/main.sh of its repository. A step there is of 20 texts
# five times over, on each GPU.
_SIMTEG: dict[str, Any] = {
    "r": 4,
    "alpha": 8,
    "lora_dropout": 0.3,
    "lr": 5e-5,
    "weight_decay": 1e-5,
    "epochs": 10,
    "batch_size": 20,
    "accumulate": 5,
    "warmup": 0.15,
    "label_smoothing": 0.3,
    "head": "dense",
    "dropout": 0.6,
}
PRESETS: dict[str, dict[str, Any]] = {"stage": {}, "simteg": _SIMTEG}


class FinetuningOptions(BaseModel):
    """Of a model whose weights are all trained; the defaults are TAPE's (arXiv 2305.19523).

    Its code trains on four GPUs with 9 texts each, hence a step of 36. It passes no dropout to its head, whatever its
    configuration says.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)

    llm: Any = Field("minilm", description="the model that is trained: an entry as under llms", json_schema_extra=_LLM)
    text: Literal["node", "explanation"] = Field(
        "node", description="what it reads: the node's text, or what a chat model explained of it (answers)"
    )
    answers: Any = Field(
        None,
        description="a chat model's answers, an entry as for the source tape; text: explanation",
        json_schema_extra={"type": ["object", "null"]},
    )
    epochs: StrictInt = Field(4, ge=1, description="passes over the training texts; the one best on validation counts")
    lr: float = Field(2e-5, gt=0, description="highest learning rate; after the warm-up it falls linearly to 0")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, not of biases and normalisations")
    batch_size: StrictInt = Field(9, ge=1, description="texts in memory at once")
    accumulate: StrictInt = Field(4, ge=1, description="batches that make one step")
    warmup: float = Field(0.6, ge=0, description="epochs over which the learning rate rises")
    label_smoothing: float = Field(0.3, ge=0, lt=1, description="label smoothing of the cross-entropy")
    head: Literal["linear", "mlp", "dense"] = Field(
        "linear",
        description=_HEAD,
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="before each layer of the head")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of products while training; bfloat16 is faster where the processor has it, less exact"
    )
    gradient_checkpointing: bool = Field(False, description="compute activations twice instead of keeping them")

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup >= self.epochs:
            raise ValueError(f"a warm-up of {self.warmup:g} epochs in {self.epochs}: lr would never be reached")
        return self

    @property
    def wants_answers(self) -> bool:
        return self.text == "explanation"

    def unfit(self, llm: LLMChoice) -> str:
        """Why a model cannot be trained so; empty: it can, as far as is known before it is loaded."""
        if llm.endpoint is not None or llm.spec.encoder or llm.spec.loader == "sentence-transformers":
            return f"llm '{llm.label}' cannot be fine-tuned: only what transformers loads can be trained here"
        if llm.dtype not in self.dtypes:
            fit = " or ".join(self.dtypes)
            return (
                f"llm '{llm.label}': {llm.dtype} weights lose the small steps of this training; "
                f"say llm: {{name: {llm.spec.name}, dtype: ...}} with {fit}"
            )
        return ""


class LoraOptions(FinetuningOptions):
    """Of a model that gets low-rank adapters (LoRA, arXiv 2106.09685); the defaults are STAGE's (arXiv 2407.12860)."""

    dtypes: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")

    preset: Literal["stage", "simteg"] = Field("stage", description="values for whatever is not given here")
    epochs: StrictInt = Field(1, ge=1, description="passes over the training texts; the one best on validation counts")
    batch_size: StrictInt = Field(8, ge=1, description="texts in memory at once")
    accumulate: StrictInt = Field(1, ge=1, description="batches that make one step")
    head: Literal["linear", "mlp", "dense"] = Field("mlp", description=_HEAD)
    dropout: float = Field(0.4, ge=0, lt=1, description="before each layer of the head")
    r: StrictInt = Field(8, ge=1, description="rank of the adapters")
    alpha: StrictInt = Field(16, ge=1, description="an adapter's product counts alpha / r times")
    lora_dropout: float = Field(0.1, ge=0, lt=1, description="of what goes into an adapter")
    target_modules: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="linear layers that get an adapter, by the end of their names; null: query and value"
    )
    merge: bool = Field(True, description="add the adapters to the weights before embedding: the same but for rounding")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("preset") not in PRESETS:
            return given  # whatever is wrong with it is said where the fields are checked
        return {**PRESETS[given["preset"]], **given}
