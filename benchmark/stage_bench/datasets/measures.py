"""Numbers that describe a graph: homophily, components, and what its texts hold."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from stage_bench.datasets.textgraph import TextGraph

_SURROGATE = re.compile("[\ud800-\udfff]")


def homophily(graph: TextGraph) -> tuple[float, float] | None:
    """Edge homophily and adjusted homophily, over the edges between labelled nodes; None where there is none.

    Edge homophily h is the share of edges inside a class. Adjusted homophily (Platonov et al., arXiv 2209.06177) is
    (h - e) / (1 - e) with e the h expected of the same degrees: the sum over classes of the shares of edges that begin
    and that end there. 0 is chance, 1 all edges inside classes; it is networkx's attribute assortativity. It is not
    defined (NaN) where all edges begin and end in one class.
    """
    src, dst = graph.labels[graph.edges[0]], graph.labels[graph.edges[1]]
    both = (src >= 0) & (dst >= 0)
    if not both.any():
        return None
    src, dst = src[both], dst[both]
    edge = float((src == dst).mean())
    begin = np.bincount(src, minlength=graph.num_classes) / len(src)
    end = np.bincount(dst, minlength=graph.num_classes) / len(dst)
    expected = float(begin @ end)
    return edge, (edge - expected) / (1 - expected) if expected < 1 else float("nan")


def degrees(graph: TextGraph) -> np.ndarray:
    """int64 [num_nodes]: how many edges come in; in an undirected graph, how many neighbours there are."""
    return np.bincount(graph.edges[1], minlength=graph.num_nodes)


def is_isolated(graph: TextGraph) -> np.ndarray:
    """bool [num_nodes]: no edge comes in or goes out."""
    alone = np.ones(graph.num_nodes, dtype=bool)
    alone[graph.edges[0]] = False
    alone[graph.edges[1]] = False
    return alone


def is_undirected(graph: TextGraph) -> bool:
    """Whether the reverse of every edge is there too."""
    src, dst = graph.edges
    reverse = dst * graph.num_nodes + src
    reverse.sort()
    return bool((reverse == src * graph.num_nodes + dst).all())  # edges are sorted by source, then destination


def component_sizes(graph: TextGraph) -> np.ndarray:
    """Sizes of the connected components, largest first; directions do not count."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(graph.num_edges, dtype=bool)
    matrix = coo_array((ones, (graph.edges[0], graph.edges[1])), shape=(graph.num_nodes, graph.num_nodes))
    _, owner = connected_components(matrix.tocsr(), directed=False)
    return np.sort(np.bincount(owner))[::-1]


def is_blank(graph: TextGraph) -> np.ndarray:
    """bool [num_nodes]: the text is white space, or nothing but what the template writes around empty values."""
    assert graph.texts is not None
    words = graph.blank_text.split()
    enough = len(words)  # a text with more words than that need not be split any further
    return np.fromiter((text.split(None, enough) == words or not text.strip() for text in graph.texts), dtype=bool)


def shared_texts(graph: TextGraph, blank: np.ndarray) -> int:
    """How many nodes have a text, not a blank one, that another node has too."""
    assert graph.texts is not None
    counts = Counter(text for text, none in zip(graph.texts, blank, strict=True) if not none)
    return sum(count for count in counts.values() if count > 1)


def odd_characters(graph: TextGraph) -> dict[str, int]:
    """How many texts hold what a tokeniser may choke on, by what it is; only what occurs."""
    assert graph.texts is not None
    found = {
        "texts with NUL": sum("\0" in text for text in graph.texts),
        "texts with lone surrogates": sum(_SURROGATE.search(text) is not None for text in graph.texts),
        "texts with replacement characters (U+FFFD)": sum("�" in text for text in graph.texts),
    }
    return {what: count for what, count in found.items() if count}


def printable(text: str) -> str:
    """The same text without what cannot be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
