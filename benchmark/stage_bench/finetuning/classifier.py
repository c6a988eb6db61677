"""An encoder with a head: what is trained, and what embeds afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from stage_bench import out_of_memory
from stage_bench.errors import JobError
from stage_bench.finetuning.heads import head
from stage_bench.finetuning.options import FinetuningOptions
from stage_bench.llms import encoding
from stage_bench.llms.token_model import TokenModel, Tokens


class Classifier(nn.Module):
    """Classes from a text's pooled vector.

    What goes into the model and how token vectors become one is the encoder's business, as when it embeds as it is.
    The head reads vectors before they are scaled to length 1: from such short ones it would learn next to nothing.
    """

    def __init__(self, encoder: TokenModel, num_classes: int, options: FinetuningOptions) -> None:
        super().__init__()
        self.encoder = encoder
        self.body = encoder.model
        with torch.no_grad():
            dimension = encoder.vectors(*encoder.padded(encoder.tokenize(["a"], [0]))).shape[1]
        self.head = head(options.head, dimension, num_classes, options.dropout).to(encoder.device)
        self.narrow = options.precision == "bfloat16"

    def forward(self, inputs: dict[str, Tensor], counted: Tensor) -> Tensor:
        """float32 [batch, num_classes]; counted: int64 [batch, tokens], 1 where a token counts in pooling."""
        with torch.autocast(counted.device.type, torch.bfloat16, enabled=self.narrow):
            vectors = self.encoder.vectors(inputs, counted)
        logits: Tensor = self.head(vectors)
        return logits

    def batch(self, items: Sequence[Tokens]) -> dict[str, object]:
        """What `forward` takes, padded to the longest."""
        inputs, counted = self.encoder.padded(items)
        return {"inputs": inputs, "counted": counted}

    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def predict(
        self, items: Sequence[Tokens], progress: Callable[[int], None] = lambda done: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings, float32 [len(items), dimension], and class scores, float32 [len(items), num_classes].

        In full precision, and in batches as zero-shot embeddings are made: on a CPU one thread a batch, so that the
        numbers do not depend on how many cores there are.

        Raises:
            JobError: a number is not finite.
        """
        self.eval()
        kind = torch.device(self.encoder.device).type
        budget = self.encoder.choice.batch_tokens or encoding.TOKENS_PER_BATCH[kind]
        groups = list(encoding.batches(self.encoder.lengths(items), budget))
        made: tuple[np.ndarray, np.ndarray] | None = None
        done = 0
        with ExitStack() as stack:
            # What one thread says of threads holds in all: training goes on with as many as before.
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            pool = encoding.workers(self.encoder, kind)
            stack.callback(pool.shutdown, cancel_futures=True)
            futures = [pool.submit(self._infer, [items[i] for i in group]) for group in groups]
            for group, future in zip(groups, futures, strict=True):
                parts = future.result()
                if made is None:
                    vectors, scores = (np.empty((len(items), part.shape[1]), dtype=np.float32) for part in parts)
                    made = vectors, scores
                for whole, part in zip(made, parts, strict=True):
                    whole[group] = part
                done += len(group)
                progress(done)
        assert made is not None
        if not all(np.isfinite(array).all() for array in made):
            label = self.encoder.choice.label
            raise JobError(f"llm '{label}', fine-tuned, gives numbers that are not finite; try a lower lr")
        return made

    def _infer(self, items: Sequence[Tokens]) -> tuple[np.ndarray, np.ndarray]:
        """In smaller batches where there is no memory for this one."""
        parts = out_of_memory.in_parts(lambda start, stop: self._batch(items[start:stop]), len(items), "texts")
        vectors, scores = zip(*parts, strict=True)
        return np.concatenate(vectors), np.concatenate(scores)

    @torch.no_grad()  # not inference mode: what a model keeps for later, such as relative positions, training needs
    def _batch(self, items: Sequence[Tokens]) -> tuple[np.ndarray, np.ndarray]:
        vectors = self.encoder.vectors(*self.encoder.padded(items))
        logits = self.head(vectors)
        if self.encoder.choice.normalize:
            vectors = nn.functional.normalize(vectors, dim=1)
        return vectors.cpu().numpy(), logits.cpu().numpy()
