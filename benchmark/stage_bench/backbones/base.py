"""What every backbone is: fixed work once (`prepare`), then a module from graph and features to logits."""

from typing import ClassVar, Generic, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.backbones.options import BackboneOptions, LayeredOptions
from stage_bench.dgl_library import dgl

Options = TypeVar("Options", bound=BackboneOptions)
StackOptions = TypeVar("StackOptions", bound=LayeredOptions)


class Backbone(nn.Module, Generic[Options]):
    """A node classifier. `in_dim` is the number of columns that `prepare` returned, not that of the raw features.

    `prepare_options` names the options that `prepare` reads: runs that agree in them share its work.
    """

    prepare_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, in_dim: int, num_classes: int, options: Options) -> None:
        super().__init__()
        self.options = options

    @classmethod
    def prepare(cls, graph: dgl.DGLGraph, features: Tensor, options: Options) -> tuple[dgl.DGLGraph, Tensor]:
        """Work that is done once and shared by seeds and trials: self loops, diffusion. By default nothing.

        It must not depend on labels or seeds. `features`: float32 [num_nodes, dim]; the second result may have
        another number of columns. The arguments are not changed.
        """
        return graph, features

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        """Logits [num_nodes, num_classes] from prepared features [num_nodes, in_dim], both float32."""
        raise NotImplementedError


class LayeredBackbone(Backbone[StackOptions]):
    """Input dropout, then layers with batch norm, ReLU and dropout between them, and none after the last.

    A subclass says what a layer is (`build_layer`) and, where that is not `layer(graph, x)`, how it is applied.
    """

    def __init__(self, in_dim: int, num_classes: int, options: StackOptions) -> None:
        super().__init__(in_dim, num_classes, options)
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        width = in_dim
        for _ in range(options.num_layers - 1):
            layer, width_after = self.build_layer(width, options.hidden, last=False)
            self.layers.append(layer)
            self.norms.append(nn.BatchNorm1d(width_after) if options.batch_norm else nn.Identity())
            width = width_after
        self.layers.append(self.build_layer(width, num_classes, last=True)[0])

    def build_layer(self, in_dim: int, out_dim: int, last: bool) -> tuple[nn.Module, int]:
        """One layer and the number of columns it returns (`num_classes` if it is the last)."""
        raise NotImplementedError

    def apply_layer(self, layer: nn.Module, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        """[num_nodes, in_dim] -> [num_nodes, columns]."""
        out: Tensor = layer(graph, x)
        return out

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        options = self.options
        x = F.dropout(x, options.input_dropout, self.training)
        for layer, norm in zip(self.layers, self.norms, strict=False):  # the last layer has no norm
            x = F.relu(norm(self.apply_layer(layer, graph, x)))
            x = F.dropout(x, options.dropout, self.training)
        return self.apply_layer(self.layers[-1], graph, x)


def with_self_loops(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """A copy of the graph in which every node has exactly one self loop."""
    return dgl.add_self_loop(dgl.remove_self_loop(graph))
