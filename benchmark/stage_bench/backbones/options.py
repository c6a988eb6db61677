"""The hyperparameters of every backbone: strict, bounded, described; nothing here imports torch.

A recipe (`baselines/default.yaml`) gives the values that a run uses; the defaults here are the same.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Normalization = Literal["symmetric", "row", "column", "none"]


class BackboneOptions(BaseModel):
    """What all options have in common: unknown keys, numbers written as strings and infinities are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class LayeredOptions(BackboneOptions):
    """Options of the backbones that stack layers."""

    num_layers: int = Field(2, ge=1, description="Layers, the output layer included.")
    hidden: int = Field(128, ge=1, description="Width of the hidden layers.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Probability of dropping a hidden activation.")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="Probability of dropping an input feature.")
    batch_norm: bool = Field(True, description="Batch normalisation before each activation.")


class MLPOptions(LayeredOptions):
    """A multilayer perceptron on the node features; the graph is not used."""


class GCNOptions(LayeredOptions):
    """A graph convolutional network."""


class SAGEOptions(LayeredOptions):
    """GraphSAGE."""

    aggregator: Literal["mean", "pool"] = Field(
        "mean", description="What summarises the neighbours: their mean, or the maximum after a dense layer."
    )


class GATOptions(LayeredOptions):
    """A graph attention network; `hidden` is the width of one head."""

    heads: int = Field(3, ge=1, description="Attention heads: concatenated in hidden layers, averaged in the last.")
    edge_dropout: float = Field(0.0, ge=0, lt=1, description="Probability of leaving an edge out of the attention.")


class RevGATOptions(LayeredOptions):
    """A graph attention network with reversible middle layers; `hidden` is the width of one head."""

    num_layers: int = Field(
        4,
        description="Layers, at least 3: the first and the last are not reversible.",
        json_schema_extra={"minimum": 3},  # checked below, with a message that says why
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="Probability of dropping a hidden activation; all reversible layers share a mask."
    )
    input_dropout: float = Field(0.25, ge=0, lt=1, description="Probability of dropping an input feature.")
    heads: int = Field(3, ge=1, description="Attention heads, concatenated; the last layer has one.")
    groups: int = Field(2, ge=2, description="Groups of channels in the reversible coupling; they divide `hidden`.")
    edge_dropout: float = Field(
        0.3, ge=0, lt=1, description="Probability of leaving an edge out of the attention, drawn per layer and group."
    )
    use_attn_dst: bool = Field(False, description="Let the receiving node take part in the attention score.")
    symmetric_norm: bool = Field(
        False, description="Scale messages by sqrt(d_i / d_j), so that degrees count as in GCN."
    )
    activation: Literal["mish", "relu"] = Field("mish", description="Activation before the last layer.")
    reversible: bool = Field(
        False, description="Rebuild activations in the backward pass: memory flat in depth, more time, same gradients."
    )

    @model_validator(mode="after")
    def _shapes(self) -> "RevGATOptions":
        if self.num_layers < 3:
            raise ValueError(
                f"num_layers is {self.num_layers}: RevGAT needs at least 3, with a reversible one in the middle"
            )
        if self.hidden % self.groups:
            raise ValueError(f"hidden is {self.hidden}: it must be divisible by groups, which is {self.groups}")
        return self


class APPNPOptions(LayeredOptions):
    """A multilayer perceptron whose logits are propagated by personalised PageRank."""

    alpha: float = Field(0.1, gt=0, le=1, description="Teleport probability: the share of a node's own logits.")
    k: int = Field(10, ge=0, description="Iterations of personalised PageRank in every forward pass.")
    edge_dropout: float = Field(
        0.0, ge=0, lt=1, description="Probability of leaving an edge out, drawn anew in each iteration; slower."
    )


class DiffusionOptions(BackboneOptions):
    """Options of the operator S that diffusion backbones apply to the features."""

    self_loops: bool = Field(True, description="Add a self loop to every node before normalising.")
    normalization: Normalization = Field(
        "symmetric", description="symmetric: D^-1/2 A D^-1/2; row: D^-1 A; column: A D^-1; none: A."
    )
    standardize: bool = Field(
        True, description="Give every diffused column zero mean and unit variance over all nodes, without labels."
    )
    storage: Literal["float32", "float16"] = Field(
        "float32", description="How diffused features are stored; they are summed up in float32 in any case."
    )


class SimpleGCNOptions(DiffusionOptions):
    """S^k X and one linear layer."""

    k: int = Field(2, ge=0, description="How often the operator is applied.")


class SIGNOptions(DiffusionOptions):
    """Diffused copies of the features side by side, and a small network on them."""

    s: int = Field(3, ge=0, description="Powers of the normalised adjacency.")
    p: int = Field(3, ge=0, description="Powers of personalised PageRank.")
    t: int = Field(0, ge=0, description="Powers of the triangle operator.")
    identity: bool = Field(True, description="Include the features as they are.")
    alpha: float = Field(0.15, gt=0, lt=1, description="Teleport probability of personalised PageRank.")
    iterations: int = Field(50, ge=1, description="Iterations of personalised PageRank.")
    svd: int | None = Field(
        None, ge=1, description="Before diffusing, keep at most this many dimensions by truncated SVD; null: all."
    )
    num_layers: int = Field(2, ge=2, description="Layers: one linear branch a block, then the head's.")
    hidden: int = Field(128, ge=1, description="Width of a branch and of the head's hidden layers.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Probability of dropping a hidden activation.")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="Probability of dropping a diffused feature.")
    batch_norm: bool = Field(True, description="Batch normalisation before each activation.")
    activation: Literal["relu", "prelu"] = Field(
        "relu", description="Activation; prelu is the original's, with one learnt slope for each layer."
    )

    @property
    def num_blocks(self) -> int:
        """Diffused copies of the features that `SIGN.prepare` puts side by side."""
        return int(self.identity) + self.s + self.p + self.t

    @model_validator(mode="after")
    def _some_block(self) -> "SIGNOptions":
        if self.num_blocks == 0:
            raise ValueError("s, p and t are 0 and identity is false: nothing is left to classify on")
        return self


class SAGNOptions(DiffusionOptions):
    """Attention over diffused copies of the features; `hidden` is the width of one head."""

    k: int = Field(3, ge=1, description="Hops beside the features themselves: S X, ..., S^k X.")
    heads: int = Field(1, ge=1, description="Attention heads, averaged.")
    num_layers: int = Field(2, ge=2, description="Layers: one linear encoder a hop, then the head's.")
    hidden: int = Field(128, ge=1, description="Width of an encoder's head and of the hidden layers.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Probability of dropping a hidden activation.")
    input_dropout: float = Field(0.5, ge=0, lt=1, description="Probability of dropping a diffused feature.")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="Probability of dropping a hop's weight.")
    batch_norm: bool = Field(True, description="Batch normalisation before each activation.")


class LogisticRegressionOptions(BackboneOptions):
    """Multinomial logistic regression on the node features; the graph is not used."""

    C: float = Field(1.0, gt=0, description="Inverse strength of the L2 penalty, scikit-learn's C.")
    standardize: bool = Field(
        False, description="Give every column zero mean and unit variance over all nodes, without labels."
    )
    class_weight: Literal["balanced"] | None = Field(
        None, description="balanced: nodes of rare classes count more; null: every node counts the same."
    )
    max_iter: int = Field(2000, ge=1, description="Most iterations of L-BFGS; more than it needs is an error.")


class LabelPropagationOptions(BackboneOptions):
    """Training labels spread over the edges; the features are not used."""

    alpha: float = Field(0.9, gt=0, lt=1, description="Share of a node's score that comes from its neighbours.")
    iterations: int = Field(50, ge=1, description="Iterations.")
    normalization: Literal["symmetric", "row"] = Field(
        "symmetric", description="symmetric: D^-1/2 A D^-1/2; row: D^-1 A, the mean over neighbours."
    )


class CorrectAndSmoothOptions(MLPOptions):
    """A multilayer perceptron, then two steps of label propagation on what it says."""

    correction_alpha: float = Field(
        0.8, gt=0, lt=1, description="Share of a node's error that comes from its neighbours; autoscale."
    )
    correction_iterations: int = Field(50, ge=1, description="Iterations that spread the training nodes' errors.")
    autoscale: bool = Field(
        True, description="Scale spread errors to the size of training errors; false: fixed diffusion, times `scale`."
    )
    scale: float = Field(1.0, gt=0, description="Factor of the spread errors; without autoscale.")
    smoothing_alpha: float = Field(
        0.8, gt=0, lt=1, description="Share of a node's score that comes from its neighbours."
    )
    smoothing_iterations: int = Field(50, ge=1, description="Iterations that spread the corrected scores.")


class NoneOptions(BackboneOptions):
    """There is nothing to set."""
