"""What a diffusion backbone wants of the features, said before anything is computed; nothing here imports torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Normalization = Literal["symmetric", "row", "column", "none"]
Kind = Literal["identity", "adjacency", "pagerank", "triangles"]
Storage = Literal["float32", "float16"]


@dataclass(frozen=True)
class Block:
    """One diffused copy of the features: an operator to a power; power 0 is the features as they are."""

    operator: Kind
    power: int = 1

    def __post_init__(self) -> None:
        if self.power < 0 or (self.operator == "identity" and self.power > 0):
            raise ValueError(f"{self.operator} to the power {self.power}: no such block")


IDENTITY = Block("identity", 0)


def powers_of(operator: Kind, k: int) -> tuple[Block, ...]:
    """The powers 1 to `k`; none where k is 0."""
    return tuple(Block(operator, power) for power in range(1, k + 1))


@dataclass(frozen=True)
class Recipe:
    """Blocks side by side, and how they are made.

    normalization, self_loops: of the adjacency, and of the matrix under personalised PageRank.
    alpha, iterations: of personalised PageRank.
    standardize: every column of every block gets zero mean and unit variance over all nodes.
    svd: before diffusing, at most this many dimensions are kept (of the standardised features, with `standardize`).
    storage: the result's dtype; sums are float32 in any case.
    """

    blocks: tuple[Block, ...]
    normalization: Normalization = "symmetric"
    self_loops: bool = True
    alpha: float = 0.15
    iterations: int = 50
    standardize: bool = False
    svd: int | None = None
    storage: Storage = "float32"

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("a diffusion without blocks")

    def dim(self, dim: int) -> int:
        """Columns of a block, for features of `dim` columns."""
        return dim if self.svd is None else min(self.svd, dim)

    def width(self, dim: int) -> int:
        """Columns of the result, for features of `dim` columns."""
        return len(self.blocks) * self.dim(dim)

    def origin(self, number: int) -> tuple[int | None, int]:
        """Where block `number` starts from, the block before it or (None) the features, and how many products on."""
        block = self.blocks[number]
        before = self.blocks[number - 1] if number else IDENTITY
        if before.operator == block.operator and 0 < before.power <= block.power:
            return number - 1, block.power - before.power
        return None, block.power

    def uses(self, operator: Kind) -> bool:
        """Whether some block takes a product with it."""
        return any(block.operator == operator and block.power > 0 for block in self.blocks)

    @property
    def item_bytes(self) -> int:
        """Bytes of a number of the result."""
        return 2 if self.storage == "float16" else 4

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "blocks": [[block.operator, block.power] for block in self.blocks]}
