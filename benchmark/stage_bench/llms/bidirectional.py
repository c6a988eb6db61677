"""A decoder in which every token attends to every other, through transformers' own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stage_bench.llms.pooling import pool
from stage_bench.llms.token_model import TokenModel, Tokens


class Bidirectional(TokenModel):
    """A causal language model trained as an encoder: no causal mask, and every text ends with the end token.

    The repositories of such models ship code of their own for this. None of it runs here: the model's own class gets
    a 4-D mask, which transformers passes on to attention as it is. gte-Qwen1.5 and gte-Qwen2 are of this kind.
    """

    def _end(self, folder: Path) -> str:
        return self._unless_added(self.tokenizer.eos_token)

    def tokenize(self, prompts: Sequence[str], text_starts: Sequence[int]) -> list[Tokens]:
        items = super().tokenize(prompts, text_starts)
        for item in items:
            item.counted[-1] = True  # the end token is the text's, whoever put it there
        return items

    def vectors(self, inputs: dict[str, torch.Tensor], counted: torch.Tensor) -> torch.Tensor:
        return pool(self._states(inputs).float(), counted, self.choice.pooling)

    def _states(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Last hidden states [batch, tokens, dimension]."""
        return states(self.model, inputs)


def states(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Last hidden states of a decoder without its causal mask: [batch, tokens, dimension], in the model's dtype."""
    mask = padding_mask(inputs["attention_mask"], model.dtype)
    output = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False)
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def padding_mask(attention_mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What attention adds to its scores, [batch, 1, tokens, tokens]: 0, and the lowest number where the key is padding.

    attention_mask: [batch, tokens], 1 for a token. Padding as a query sees the tokens too: a row without any key would
    be not a number.
    """
    batch, tokens = attention_mask.shape
    added = torch.zeros(batch, 1, 1, tokens, dtype=dtype, device=attention_mask.device)
    added.masked_fill_(attention_mask[:, None, None, :] == 0, torch.finfo(dtype).min)
    return added.expand(batch, 1, tokens, tokens)
