"""What every backbone is: fixed work once (`prepare`), then a module from graph and features to logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from stage_bench.backbones.options import BackboneOptions, LayeredOptions
from stage_bench.dgl_library import dgl
from stage_bench.diffusion.engine import diffuse
from stage_bench.diffusion.recipe import Recipe
from stage_bench.kernels.activation import dropout, norm_relu_dropout

if TYPE_CHECKING:
    from stage_bench.training.task import Task

Options = TypeVar("Options", bound=BackboneOptions)
StackOptions = TypeVar("StackOptions", bound=LayeredOptions)

# From a graph, or a block of one, and the rows of its sending nodes to the rows of its receiving nodes.
Hop = Callable[[dgl.DGLGraph, Tensor], Tensor]


class Backbone(nn.Module, Generic[Options]):
    """A node classifier. `in_dim` is the number of columns that `prepare` returned, not that of the raw features.

    `prepare_options` names the options that `prepare` reads: runs that agree in them share its work.
    `rowwise` says that a node's logits depend on its own row of features alone: then `forward` is given the rows of
    the nodes that count (in training the training nodes), and the graph is not looked at.
    """

    prepare_options: ClassVar[tuple[str, ...]] = ()
    rowwise: ClassVar[bool] = False

    def __init__(self, in_dim: int, num_classes: int, options: Options) -> None:
        super().__init__()
        self.options = options

    @classmethod
    def recipe(cls, options: Options) -> Recipe | None:
        """What is to be diffused beforehand, which can then be done under a memory budget; None: nothing."""
        return None

    @classmethod
    def prepare_graph(cls, graph: dgl.DGLGraph, options: Options) -> dgl.DGLGraph:
        """A graph with what the forward pass needs: self loops, scales of an operator. The argument is not changed."""
        return graph

    @classmethod
    def prepare(cls, graph: dgl.DGLGraph, features: Tensor, options: Options) -> tuple[dgl.DGLGraph, Tensor]:
        """Work that is done once and shared by seeds and trials: `prepare_graph`, and the diffusion of `recipe`.

        It must not depend on labels or seeds. `features`: float32 [num_nodes, dim]; the second result may have
        another number of columns, and be float16 where `rowwise` (the rows that `forward` is given are float32). The
        arguments are not changed.
        """
        recipe = cls.recipe(options)
        inputs = features if recipe is None else diffuse(graph, features, recipe)
        return cls.prepare_graph(graph, options), inputs if cls.rowwise else inputs.float()

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        """Logits [num_nodes, num_classes] from prepared features [num_nodes, in_dim], both float32."""
        raise NotImplementedError

    def refine(self, logits: Tensor, task: Task) -> Tensor:
        """What is done once to the logits [num_nodes, num_classes]; `task` has training labels alone."""
        return logits


class Direct(Generic[Options]):
    """A method that is solved at once, without epochs: no TrainingOptions are read, and no kernels of ours.

    `prepare_options`, `recipe` and `prepare` are those of Backbone.
    """

    prepare_options: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def recipe(cls, options: Options) -> Recipe | None:
        return None

    @classmethod
    def prepare_graph(cls, graph: dgl.DGLGraph, options: Options) -> dgl.DGLGraph:
        return graph

    @classmethod
    def prepare(cls, graph: dgl.DGLGraph, features: Tensor, options: Options) -> tuple[dgl.DGLGraph, Tensor]:
        return cls.prepare_graph(graph, options), features

    @classmethod
    def solve(cls, task: Task, options: Options, seed: int) -> Solution:
        """Class scores of every node; of labels, the task has those of training nodes alone."""
        raise NotImplementedError


@dataclass(frozen=True)
class Solution:
    """logits: float32 [num_nodes, num_classes], on any device; parameters: how many numbers were fitted."""

    logits: Tensor
    parameters: int


class MessagePassing(Backbone[Options]):
    """A backbone that is some work on each row (`start`), then hops, each over the edges of a graph or of a block."""

    def start(self, x: Tensor) -> Tensor:
        """What is done to the rows before the first hop."""
        return x

    def hops(self) -> list[Hop]:
        """The hops of one forward pass; what is random in all of them alike is drawn here."""
        raise NotImplementedError

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        hops = self.hops()
        return self._go([graph] * len(hops), self.start(x), hops)

    def forward_blocks(self, blocks: Sequence[dgl.DGLGraph], x: Tensor) -> Tensor:
        """Logits of the last block's receiving nodes; one block a hop, `x`: the rows of the first one's senders."""
        return self._go(blocks, self.start(x), self.hops())

    @staticmethod
    def _go(graphs: Sequence[dgl.DGLGraph], x: Tensor, hops: list[Hop]) -> Tensor:
        for graph, hop in zip(graphs, hops, strict=True):
            x = hop(graph, x)
        return x


class LayeredBackbone(MessagePassing[StackOptions]):
    """Input dropout, then layers with batch norm, ReLU and dropout between them, and none after the last.

    A subclass says what a layer is (`build_layer`) and, where that is not `layer(graph, x)`, how it is applied. Layers
    before `first_hop` are applied to rows.
    """

    first_hop = 0

    def __init__(self, in_dim: int, num_classes: int, options: StackOptions) -> None:
        super().__init__(in_dim, num_classes, options)
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        width = in_dim
        for i in range(options.num_layers):
            last = i == options.num_layers - 1
            layer, width = self.build_layer(i, width, num_classes if last else options.hidden)
            self.layers.append(layer)
            if not last:
                self.norms.append(nn.BatchNorm1d(width) if options.batch_norm else nn.Identity())

    def build_layer(self, i: int, in_dim: int, out_dim: int) -> tuple[nn.Module, int]:
        """Layer `i`, and the number of columns it returns (`num_classes` if it is the last)."""
        raise NotImplementedError

    def apply_layer(self, i: int, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        """[num_src, in_dim] -> [num_dst, columns]; before `first_hop` the graph is None, and all is by rows."""
        out: Tensor = self.layers[i](graph, x)
        return out

    def start(self, x: Tensor) -> Tensor:
        x = dropout(x, self.options.input_dropout, self.training)
        for i in range(self.first_hop):
            x = self._hop(i, None, x)
        return x

    def hops(self) -> list[Hop]:
        return [partial(self._hop, i) for i in range(self.first_hop, len(self.layers))]

    def _hop(self, i: int, graph: dgl.DGLGraph | None, x: Tensor) -> Tensor:
        return self._activated(i, self.apply_layer(i, graph, x))

    def _activated(self, i: int, x: Tensor) -> Tensor:
        if i == len(self.layers) - 1:
            return x
        norm = self.norms[i]
        return norm_relu_dropout(
            x, norm if isinstance(norm, nn.BatchNorm1d) else None, self.options.dropout, self.training
        )


def with_self_loops(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """A copy of the graph in which every node has exactly one self loop."""
    return dgl.add_self_loop(dgl.remove_self_loop(graph))
