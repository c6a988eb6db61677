"""From token vectors to one vector a text."""

import torch


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector a text from its token vectors.

    hidden: float32 [batch, tokens, dimension]; mask: [batch, tokens], 1 where a token counts, padding on any side.
    Returns float32 [batch, dimension]; a text without tokens gives zeros under `mean`.
    """
    if pooling == "cls":
        return hidden[torch.arange(len(hidden)), mask.argmax(dim=1)]
    if pooling == "last-token":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return hidden[torch.arange(len(hidden)), last]
    weight = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
