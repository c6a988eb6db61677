"""The datasets that stage-bench knows by name."""

from stage_bench.datasets.spec import DatasetSpec

_PAPERS = "Identify the main and secondary category of Arxiv papers based on the titles and abstracts"
_PRODUCTS = "Identify the main and secondary category of this product based on the titles and description"
_DOWNSTREAM = (
    "Your predictions will be used in a downstream graph-based prediction that for each {one} can learn from your "
    "predictions of neighboring {many} in a graph as well as the predictions for the {one} in question. {Many} in the "
    "graph are connected if {edge}."
)
_FOLDER = "put it in the folder format (docs/datasets.md) into <data folder>/{name}/"


def _instructions(sentence: str, one: str, many: str, edge: str, dataset: str) -> dict[str, str]:
    """STAGE's variants, to the letter, and `dataset`: a sentence that fits the dataset."""
    # The authors' code puts a full stop between the two sentences, and line breaks inside the second: spaces here.
    downstream = _DOWNSTREAM.format(one=one, many=many, Many=many.capitalize(), edge=edge)
    return {"default": sentence, "graph-aware": f"{sentence}. {downstream}", "dataset": dataset}


def _papers(dataset: str) -> dict[str, str]:
    return _instructions(_PAPERS, "paper", "papers", "one cites the other", dataset)


def _products(dataset: str) -> dict[str, str]:
    return _instructions(_PRODUCTS, "product", "products", "they are purchased together", dataset)


def _get(name: str, source: str) -> str:
    return f"{source}; {_FOLDER.format(name=name)}"


SPECS = (
    DatasetSpec(
        name="api-docs",
        summary="the API of scipy, scikit-learn and networkx as installed: docstrings, See Also, bases; built in",
        loader="stage_bench.datasets.api_docs_cache:load",
        licence="BSD-3-Clause (the documented packages)",
        instructions={
            "default": "Identify the main and secondary category of this function based on its documentation",
            "graph-aware": "Identify the main and secondary category of this function based on its documentation. "
            + _DOWNSTREAM.format(
                one="function", many="functions", Many="Functions", edge="the documentation of one refers to the other"
            ),
            "dataset": "Identify the scientific Python subpackage of a function or class based on its documentation",
        },
    ),
    DatasetSpec(
        name="cora",
        summary="machine-learning papers; LINQS graph, McCallum texts",
        nodes=2708,
        classes=7,
        licence="McCallum: free to use for research",
        get=_get("cora", "Google Drive file 1hxE0OPR7VLEHesr48WisynuoNMhXJbpl, cora_orig.zip"),
        instructions=_papers("Identify the machine-learning topic of a paper based on its title and abstract"),
    ),
    DatasetSpec(
        name="pubmed",
        summary="diabetes papers; LINQS graph",
        nodes=19717,
        classes=3,
        get=_get("pubmed", "Google Drive file 1sYZX-jP6H8OkopVa9cp8-KXdEti5ki_W, PubMed_orig.zip"),
        instructions=_papers(
            "Identify the type of diabetes that a PubMed paper studies based on its title and abstract"
        ),
    ),
    DatasetSpec(
        name="ogbn-arxiv",
        summary="computer-science papers of arXiv; OGB graph and split by year",
        nodes=169343,
        classes=40,
        split="official",
        licence="ODC-BY",
        get=_get(
            "ogbn-arxiv", "OGB's arxiv.zip and https://snap.stanford.edu/ogb/data/misc/ogbn_arxiv/titleabs.tsv.gz"
        ),
        instructions=_papers("Identify the arXiv computer-science category of a paper based on its title and abstract"),
    ),
    DatasetSpec(
        name="ogbn-products",
        summary="Amazon products; the full OGB graph and split by sales rank",
        nodes=2449029,
        classes=47,
        split="official",
        get=_get("ogbn-products", "OGB's products.zip and Amazon-3M's trn.json and tst.json"),
        instructions=_products("Identify the Amazon department of a product based on its title and description"),
    ),
    DatasetSpec(
        name="ogbn-products-subset",
        summary="TAPE's 54,025 nodes of ogbn-products; never to be compared with the full graph",
        nodes=54025,
        classes=47,
        split="official",
        get=_get("ogbn-products-subset", "ogbn-products_subset.pt and ogbn-products_subset.csv of TAPE's repository"),
        instructions=_products("Identify the Amazon department of a product based on its title and description"),
    ),
    DatasetSpec(
        name="tape-arxiv23",
        summary="computer-science papers of 2023; TAPE's graph",
        nodes=46198,
        classes=40,
        get=_get("tape-arxiv23", "dataset/arxiv_2023/graph.pt and arxiv_2023_orig/paper_info.csv of TAPE's repository"),
        instructions=_papers("Identify the arXiv computer-science category of a paper based on its title and abstract"),
    ),
    DatasetSpec(
        name="arxiv-titles-2023",
        summary="computer-science papers, titles only; its own split. Not tape-arxiv23",
        nodes=33868,
        classes=39,
        split="column",
        get=_FOLDER.format(name="arxiv-titles-2023"),
        instructions=_papers("Identify the arXiv computer-science category of a paper based on its title"),
    ),
    DatasetSpec(
        name="products-sample",
        summary="969 nodes of ogbn-products by neighbour sampling",
        nodes=969,
        classes=25,
        split="column",
        get=_FOLDER.format(name="products-sample"),
        instructions=_products("Identify the Amazon department of a product based on its title and description"),
    ),
    DatasetSpec(
        name="wordnet",
        summary="synsets of WordNet 3.0 with their glosses; any pointer is an edge",
        nodes=117659,
        classes=45,
        licence="WordNet 3.0 licence",
        get=_FOLDER.format(name="wordnet"),
        instructions={
            "default": "Identify the main and secondary category of this word sense based on its words and gloss",
            "dataset": "Identify the WordNet lexicographer file of a word sense based on its words and gloss",
        },
    ),
)
