"""Scores of classes that are no logits, as logits."""

import torch
from torch import Tensor

LEAST = 1e-12  # probability of what is held to be impossible: a logarithm has to be finite


def log_probabilities(scores: Tensor) -> Tensor:
    """Rows divided by their sum, then the logarithm: float32 [num_nodes, num_classes] as `scores`.

    What is below 0 counts as 0, and no probability is below 1e-12.
    """
    shares = scores.clamp(min=0)
    return torch.log((shares / shares.sum(dim=1, keepdim=True)).clamp(min=LEAST))
