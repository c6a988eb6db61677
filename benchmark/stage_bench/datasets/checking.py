"""`check dataset`: is what a folder or a registered dataset holds sound?

A line fails where numbers made from the data would be wrong; what is only worth knowing is a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from stage_bench.checks import Line
from stage_bench.datasets import measures, text_signs
from stage_bench.datasets.matrices import is_finite
from stage_bench.datasets.splits import Split
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import StageBenchError

_LONG = 10_000  # characters; longer than the 2,048 tokens that LLMs here read at most
_LEAK = 0.05  # of the test part
_NAMED = 20_000  # nodes whose texts are searched for label names
_SHOWN = 5


def check(graph: TextGraph) -> Iterator[Line]:
    """Every finding, one a line; works without texts, edges or labels."""
    yield Line(
        f"read: {_count(graph.num_nodes, 'node')}, {_count(graph.num_edges, 'directed edge')}, "
        f"{_count(graph.num_classes, 'class', 'classes')}"
    )
    blank = None if graph.texts is None else measures.is_blank(graph)
    yield from _labels(graph)
    yield from _splits(graph, blank)
    yield from _edges(graph)
    if blank is None:
        yield Line("note: no texts: only features that need none can be used")
    else:
        yield from _texts(graph, blank)
        yield from _alignment(graph, ~blank)
    yield from _predictions(graph)
    yield from _matrices(graph)


def _labels(graph: TextGraph) -> Iterator[Line]:
    if not graph.has_labels:
        yield Line("note: no node has a label: nothing can be trained on it")
        return
    labelled = int((graph.labels >= 0).sum())
    missing = graph.num_nodes - labelled
    if missing:
        yield Line(f"note: {_count(missing, 'node')} without a label ({missing / graph.num_nodes:.1%})")
    else:
        yield Line("every node has a label")
    counts = np.bincount(graph.labels[graph.labels >= 0], minlength=graph.num_classes)
    for number, what in ((0, "without a node"), (1, "with one node, which cannot be in every part of a split")):
        classes = np.flatnonzero(counts == number)
        if len(classes):
            yield Line(f"note: {_count(len(classes), 'class', 'classes')} {what}: {_names(graph, classes)}")


def _splits(graph: TextGraph, blank: np.ndarray | None) -> Iterator[Line]:
    for protocol in dict.fromkeys([graph.default_split, *graph.fixed_splits]):
        try:
            split = graph.fixed_splits.get(protocol) or graph.split(protocol, 0)
        except StageBenchError as error:
            if graph.has_labels:
                yield Line(f"split {protocol}: {error}", False)
            continue
        yield from _split(graph, protocol, split, blank)


def _split(graph: TextGraph, protocol: str, split: Split, blank: np.ndarray | None) -> Iterator[Line]:
    shown = f"split {protocol}" + ("" if split.seed is None else f" (seed {split.seed})")
    yield Line(f"{shown}: {' / '.join(str(size) for size in split.sizes)}")
    outside = graph.num_nodes - sum(split.sizes)
    if outside and split.seed is None:
        yield Line(f"note: {shown}: {_count(outside, 'node')} in no part ({outside / graph.num_nodes:.1%})")
    if graph.has_labels:
        parts = {part: set(graph.labels[getattr(split, part)].tolist()) for part in ("train", "val", "test")}
        untrained = sorted((parts["val"] | parts["test"]) - parts["train"])
        only = sorted(parts["test"] - parts["train"] - parts["val"])
        if untrained:
            test = f"; in the test part alone: {_names(graph, only)}" if only else ""
            yield Line(
                f"note: {shown}: {_count(len(untrained), 'class', 'classes')} that the training part lacks, so that "
                f"no model can name: {_names(graph, untrained)}{test}"
            )
        else:
            yield Line(f"{shown}: every class is in the training part")
    if blank is not None:
        yield _leak(graph, shown, split, blank)


def _leak(graph: TextGraph, shown: str, split: Split, blank: np.ndarray) -> Line:
    assert graph.texts is not None
    known = {graph.texts[node] for node in split.train}
    leaked = sum(not blank[node] and graph.texts[node] in known for node in split.test)
    if not leaked:
        return Line(f"{shown}: no text of the test part is in the training part")
    share = leaked / len(split.test)
    what = f"{shown}: {_count(leaked, 'text')} of the test part ({share:.1%}) stand word for word in the training part"
    return Line(what if share > _LEAK else f"note: {what}", share <= _LEAK)


def _edges(graph: TextGraph) -> Iterator[Line]:
    if not graph.num_edges:
        yield Line("note: no edges: only backbones that need none can be used")
        return
    isolated = int(measures.is_isolated(graph).sum())
    if isolated:
        yield Line(f"note: {_count(isolated, 'node')} without an edge ({isolated / graph.num_nodes:.1%})")
    else:
        yield Line("every node has an edge")


def _texts(graph: TextGraph, blank: np.ndarray) -> Iterator[Line]:
    assert graph.texts is not None
    empty = graph.facts.get("empty_values", {})
    if empty:
        counts = ", ".join(f"{column} {count}" for column, count in empty.items())
        yield Line(f"columns of the text template, with how many values are empty: {counts}")
    for column, lack in graph.facts.get("rows_without_column", {}).items():
        yield Line(f"note: {_count(lack['rows'], 'row')} without the column '{column}', the first {lack['first']}")
    if blank.all():
        yield Line("every text is empty", False)
    elif blank.any():
        yield Line(f"note: {_count(int(blank.sum()), 'empty text')}")
    shared = measures.shared_texts(graph, blank)
    if shared:
        yield Line(f"note: {_count(shared, 'node')} with a text that another node has too")
    for what, count in measures.odd_characters(graph).items():
        refused = what == "texts with lone surrogates"  # no tokenizer takes them
        yield Line(f"{what}: {count}; no model can embed them" if refused else f"note: {what}: {count}", not refused)
    long = sum(len(text) > _LONG for text in graph.texts)
    if long:
        yield Line(f"note: {_count(long, 'text')} longer than {_LONG:,} characters, which LLMs read only the start of")
    yield from _label_names(graph)


def _label_names(graph: TextGraph) -> Iterator[Line]:
    """Where a text says its own label more often than another's, a model may read it instead of understanding."""
    assert graph.texts is not None
    names = [str(name).casefold().replace("_", " ") for name in graph.label_names]
    spoken = np.array([len(name) > 2 and not name.isnumeric() for name in names] + [False])  # the last: no label
    nodes = np.flatnonzero(spoken[graph.labels])
    random = np.random.RandomState(0)
    nodes = random.permutation(nodes)[:_NAMED]
    if not len(nodes):
        return
    texts = [graph.texts[node].casefold().replace("_", " ") for node in nodes.tolist()]
    labels = graph.labels[nodes]
    own, other = (
        float(np.mean([names[label] in text for label, text in zip(chosen, texts, strict=True)]))
        for chosen in (labels, random.permutation(labels))
    )
    note = "note: " if own > 0.01 and own > 2 * other else ""
    yield Line(f"{note}{own:.1%} of the texts hold their own label's name, {other:.1%} that of another text's label")


def _alignment(graph: TextGraph, speaking: np.ndarray) -> Iterator[Line]:
    """Whether texts, labels and edges belong together, each judged by the two others.

    speaking: bool [num_nodes], the nodes whose text says anything.
    """
    by_label, by_edge = text_signs.of_labels(graph, speaking), text_signs.of_edges(graph, speaking)
    if by_label is not None:
        what = (
            f"{text_signs.HOW} on the texts: {by_label.accuracy:.3f} of {by_label.nodes} test nodes; their most "
            f"frequent class {by_label.majority:.3f}, permuted texts {by_label.permuted:.3f}"
        )
        yield _verdict(graph, what, by_label, by_edge)
    if by_edge is not None:
        what = (
            f"texts of neighbours (TF-IDF cosine over {by_edge.edges} edges): {by_edge.neighbours:.3f}, random pairs "
            f"{by_edge.random:.3f}"
        )
        if by_edge.strength == "clear":
            yield Line(what)
        elif by_label is None and by_edge.strength == "none":
            yield Line(f"{what}; are the texts shuffled over the nodes?", False)
        else:  # the labels have said whether that is a mistake
            yield Line(f"note: {what}: neighbours are hardly more alike than others")
    found = text_signs.shift(graph, speaking)
    if found is not None:
        node, by = found
        yield Line(
            f"among the nodes from {node} on, the text of node i fits the edges of node i{-by:+d} better than its own: "
            "is a row missing or double?",
            False,
        )


def _verdict(graph: TextGraph, what: str, by_label: text_signs.LabelSign, by_edge: text_signs.EdgeSign | None) -> Line:
    if by_label.strength == "clear":
        return Line(what)
    edges = by_edge.strength if by_edge is not None else "weak"
    if by_label.strength == "weak" or (edges != "none" and not by_label.enough):
        return Line(f"note: {what}; so few nodes cannot tell")
    if edges != "clear":
        return Line(f"{what}; are the texts shuffled over the nodes?", False)
    homophily = measures.homophily(graph)
    if homophily is None or not homophily[1] > 0.05:
        return Line(f"{what}; texts fit the edges, labels fit neither: are the labels shuffled?", False)
    return Line(f"note: {what}; texts and labels both fit the edges, but texts tell little of labels")


def _predictions(graph: TextGraph) -> Iterator[Line]:
    try:
        ranked = graph.ranked_predictions
    except StageBenchError as error:
        yield Line(str(error), False)
        return
    if ranked is None:
        return
    if ranked.unknown:
        yield Line(f"note: gpt_preds.csv: {_count(ranked.unknown, 'id')} left out, being no class of this graph")
    first, labelled = ranked.classes[:, 0], graph.labels >= 0
    judged = labelled & (first >= 0)
    if not judged.any():
        return
    right = float((first[labelled] == graph.labels[labelled]).mean())
    _, kappa, deviation = text_signs.agreement(first[judged], graph.labels[judged])
    what = f"gpt_preds.csv: the first choice is right for {right:.4f} of the labelled nodes"
    clear = kappa > max(0.05, 4 * deviation)
    yield Line(what if clear else f"{what}, which is chance: do its ids and its order fit the labels?", clear)


def _matrices(graph: TextGraph) -> Iterator[Line]:
    for name in graph.matrix_paths:
        try:
            matrix = graph.matrix(name)
        except StageBenchError as error:
            yield Line(str(error), False)
            continue
        finite = is_finite(matrix)
        what = f"matrix {name}: {matrix.dtype} {list(matrix.shape)}"
        yield Line(what if finite else f"{what}; not all of it is finite", finite)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _names(graph: TextGraph, classes: Sequence[int] | np.ndarray) -> str:
    names = [measures.printable(str(graph.label_names[label])) for label in classes]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else "")
