"""What says a class from a text's pooled vector."""

from torch import nn


def head(kind: str, dimension: int, num_classes: int, dropout: float) -> nn.Sequential:
    """float32 [batch, dimension] -> float32 [batch, num_classes]; dropout stands before each layer.

    linear: TAPE's. mlp: STAGE's, as its paper has it (half as wide in the middle). dense: SimTeG's, which STAGE's code
    took over, and that of RoBERTa's classifiers.
    """
    if kind == "linear":
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(dimension, num_classes))
    middle = dimension // 2 if kind == "mlp" else dimension
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(dimension, middle),
        nn.Tanh(),
        nn.Dropout(dropout),
        nn.Linear(middle, num_classes),
    )
