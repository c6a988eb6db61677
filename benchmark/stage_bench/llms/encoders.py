"""Encoders: prompts in, one vector each out; which class serves a model follows from its spec and the options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stage_bench import registry
from stage_bench.errors import JobError, StageBenchError
from stage_bench.llms import weights

if TYPE_CHECKING:
    from stage_bench.llms.spec import LLMChoice

_LOADERS = {
    "transformers": "stage_bench.llms.token_model:TokenModel",
    "sentence-transformers": "stage_bench.llms.sentence_model:SentenceModel",
    "bidirectional": "stage_bench.llms.bidirectional:Bidirectional",
    "llm2vec": "stage_bench.llms.llm2vec:LLM2Vec",
    "nv-embed": "stage_bench.llms.nv_embed:NVEmbed",
}


class Encoder(Protocol):
    """What the embedding loop needs of a model. Tokenising is apart because tokenizers are not safe in threads."""

    threads: int | None  # how many threads may be in `forward` at once; None: as many as there are cores

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> Sequence[Any]:
        """One item a prompt, for `forward`; text_starts: the character at which the node's text begins.

        An item whose attribute `cut` is true was longer than the model takes.
        """

    def lengths(self, items: Sequence[Any]) -> np.ndarray:
        """What each costs, in tokens after truncation: int64 [len(items)]."""

    def forward(self, items: Sequence[Any]) -> np.ndarray:
        """float32 [len(items), dimension]."""

    def spent(self) -> dict[str, float]:
        """What is to be added up since the last call besides seconds, such as `tokens` and `dollars`."""

    def close(self) -> None:
        """Called at the end, also after an error: stop what is still under way."""


def encode(encoder: Encoder, prompts: Sequence[str], text_starts: Sequence[int]) -> np.ndarray:
    """Prompts to vectors in one batch: float32 [len(prompts), dimension]."""
    return encoder.forward(encoder.tokenize(prompts, text_starts))


def load(choice: LLMChoice, device: str, training: bool = False) -> Encoder:
    """The encoder behind a choice, its weights in memory.

    training: whether its weights are to be trained, for which the faster layers of inference on a CPU have no use.

    Raises:
        JobError: the weights are absent or not usable.
    """
    encoder: Encoder
    if choice.endpoint is not None:
        from stage_bench.llms.endpoint import EndpointModel

        encoder = EndpointModel(choice)
    elif choice.spec.encoder:
        from stage_bench.llms.code_model import CodeModel

        encoder = CodeModel(registry.resolve(choice.spec.encoder)(), choice.normalize)
    else:
        folder = weights.find(choice.spec, choice.path, choice.allow_pickle)
        import transformers  # takes seconds: not where the weights are absent

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        from stage_bench.llms import onednn

        try:
            loaded: Any = registry.resolve(_LOADERS[_loader(choice)])(folder, choice, device)
            if device == "cpu" and not training:
                onednn.speed_up(loaded.model)
            encoder = loaded
        except StageBenchError:
            raise
        except Exception as error:
            what = " ".join(str(error).split()) or type(error).__name__
            raise JobError(f"llm '{choice.spec.name}': {folder} cannot be loaded: {what}") from error
    return encoder


def _loader(choice: LLMChoice) -> str:
    """The modules that a repository ships serve only its own pooling and normalisation."""
    as_shipped = choice.pooling == choice.spec.pooling and choice.normalize == choice.spec.normalize
    if choice.spec.loader == "sentence-transformers" and not as_shipped:
        return "transformers"
    return choice.spec.loader
