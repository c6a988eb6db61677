"""Training in batches with sampled neighbours (Hamilton et al. 2017, arXiv 1706.02216), inference hop by hop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from stage_bench import out_of_memory
from stage_bench.backbones.base import Hop, MessagePassing
from stage_bench.dgl_library import dgl
from stage_bench.kernels import masks
from stage_bench.training.blocks import Blocks
from stage_bench.training.options import TrainingOptions
from stage_bench.training.passes import Step, shuffled
from stage_bench.training.task import Task

# At once in inference: numbers in the rows of sending nodes (1 GiB); edges; rows on which no hop is done.
_VALUES, _EDGES, _ROWS = 2**28, 2**24, 2**16


class NeighborPasses:
    """A step sees some training nodes and, for each hop of the model, at most `fanout` in-neighbours of each node.

    Sums and means over sampled neighbours are unbiased estimates of those over all (`propagation.estimate`). Maxima
    and attention are taken over the sampled ones as they are. A self loop that the prepared graph has is always there:
    attention weighs it against the sampled neighbours only, and so more than at inference.

    Predictions use all neighbours and equal the full forward pass to rounding. They need two matrices [num_nodes,
    width] and a part of a third; the inputs may be mapped from a file.
    """

    def __init__(self, task: Task, options: TrainingOptions) -> None:
        self.task = task
        self.batch_size = options.batch_size
        self.fanout = options.fanout
        self.blocks = Blocks(task.graph)
        self._num_nodes: int = task.graph.num_nodes()
        self._inputs = _Rows(task.inputs, None, self._num_nodes)
        self._validation: list[Tensor | None] | None = None  # `_reach` of the validation nodes, asked in every epoch

    def train(self, model: nn.Module) -> Iterator[Step]:
        model = cast(MessagePassing[Any], model)
        hops = len(model.hops())
        for nodes in shuffled(self.task.train, self.batch_size):
            blocks: list[dgl.DGLGraph] = []
            senders = nodes
            for _ in range(hops):
                block, senders = self.blocks.make(senders, self.fanout, masks.draw_key())
                blocks.insert(0, block)
            yield Step(model.forward_blocks(blocks, self._inputs.of(senders)), nodes)

    def predict(self, model: nn.Module, nodes: Tensor | None = None) -> Tensor:
        model = cast(MessagePassing[Any], model)
        hops = model.hops()
        reached = self._reach(nodes, len(hops))
        x = self._start(model, reached[0])
        for hop, senders, receivers in zip(hops, reached, reached[1:], strict=False):
            x = _Rows(self._hop(hop, x, senders, receivers), receivers, self._num_nodes)
        return x.all() if nodes is None else x.of(nodes)

    def _reach(self, nodes: Tensor | None, hops: int) -> list[Tensor | None]:
        """Before the first hop and after each, the nodes whose rows are needed, sorted; None: all or most of them."""
        is_validation = nodes is self.task.val
        if not is_validation or self._validation is None:
            needed = None if nodes is None else torch.unique(nodes)
            reached = [needed]
            for _ in range(hops):
                needed = None if needed is None else self.blocks.senders(needed)
                # the few that are left out would cost less than picking the others
                needed = None if needed is None or 2 * len(needed) > self._num_nodes else needed
                reached.insert(0, needed)
            if not is_validation:
                return reached
            self._validation = reached
        return self._validation

    def _start(self, model: MessagePassing[Any], nodes: Tensor | None) -> _Rows:
        """What the first hop reads, of these nodes at least: the inputs themselves where `start` does nothing."""
        rows = self._num_nodes if nodes is None else len(nodes)
        cuts = [slice(begin, begin + _ROWS) for begin in range(0, rows, _ROWS)]
        parts = cuts if nodes is None else [nodes[cut] for cut in cuts]
        given = self._inputs.of(parts[0])
        first = model.start(given)
        if first is given:
            return self._inputs
        others = (model.start(self._inputs.of(part)) for part in parts[1:])
        return _Rows(_stack(chain([first], others), rows), nodes, self._num_nodes)

    def _hop(self, hop: Hop, x: _Rows, senders: Tensor | None, receivers: Tensor | None) -> Tensor:
        graph, width = self.task.graph, x.width
        fits = self._num_nodes * width <= _VALUES
        if senders is None and receivers is None and fits and graph.num_edges() <= _EDGES:
            try:
                return hop(graph, x.all())
            except Exception as error:
                if not out_of_memory.happened(error):
                    raise
        nodes = torch.arange(self._num_nodes, device=graph.device) if receivers is None else receivers
        parts = self._parts(nodes, _EDGES if fits else min(_EDGES, max(1, _VALUES // width)))
        return _stack(chain.from_iterable(self._receive(hop, x, part) for part in parts), len(nodes))

    def _parts(self, nodes: Tensor, most: int) -> tuple[Tensor, ...]:
        """`nodes` in parts with about `most` in-edges, each node counted as one more."""
        ids = nodes.cpu().numpy()
        counts = np.cumsum(self.blocks.indptr[ids + 1] - self.blocks.indptr[ids] + 1)
        return nodes.tensor_split((np.flatnonzero(np.diff(counts // most)) + 1).tolist())

    def _receive(self, hop: Hop, x: _Rows, nodes: Tensor) -> list[Tensor]:
        """Rows of `nodes`, one part below the other: one part, but where memory is short."""

        def receive(start: int, stop: int) -> Tensor:
            block, senders = self.blocks.make(nodes[start:stop])
            return hop(block, x.of(senders))

        return out_of_memory.in_parts(receive, len(nodes), "nodes")


class _Rows:
    """Rows of some nodes (None: of all) in a matrix; float32 when they are read."""

    def __init__(self, matrix: Tensor, nodes: Tensor | None, num_nodes: int) -> None:
        self._matrix = matrix
        self._place = None
        if nodes is not None:
            self._place = torch.empty(num_nodes, dtype=torch.int64, device=nodes.device)
            self._place[nodes] = torch.arange(len(nodes), device=nodes.device)

    @property
    def width(self) -> int:
        return self._matrix.shape[1]

    def of(self, nodes: Tensor | slice) -> Tensor:
        """A slice counts rows of the matrix."""
        if isinstance(nodes, slice):
            return self._matrix[nodes].float()
        rows = nodes if self._place is None else self._place[nodes]
        return self._matrix.index_select(0, rows).float()  # two thirds of what indexing takes

    def all(self) -> Tensor:
        return self._matrix.float()


def _stack(parts: Iterable[Tensor], rows: int) -> Tensor:
    """`torch.cat` of parts with so many rows in total, one part in memory at a time."""
    whole, begin = None, 0
    for part in parts:
        if len(part) == rows:
            return part
        whole = part.new_empty(rows, part.shape[1]) if whole is None else whole
        whole[begin : begin + len(part)] = part
        begin += len(part)
    assert whole is not None
    return whole
