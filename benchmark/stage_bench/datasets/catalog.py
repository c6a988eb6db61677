"""The datasets that stage-bench knows by name."""

from stage_bench.datasets.spec import DatasetSpec, Source

_PAPERS = "Identify the main and secondary category of Arxiv papers based on the titles and abstracts"
_PRODUCTS = "Identify the main and secondary category of this product based on the titles and description"
_DOWNSTREAM = (
    "Your predictions will be used in a downstream graph-based prediction that for each {one} can learn from your "
    "predictions of neighboring {many} in a graph as well as the predictions for the {one} in question. {Many} in the "
    "graph are connected if {edge}."
)
_FOLDER = "put it in the folder format (docs/datasets.md) into <data folder>/{name}/"
_DRIVE = "https://drive.usercontent.google.com/download?id={id}&export=download&confirm=t"
_OGB = "https://snap.stanford.edu/ogb/data"  # the ogb package has the same addresses with http
_TAPE = "https://raw.githubusercontent.com/XiaoxinHe/TAPE/main"
_MEBI = 1 << 20
_GIBI = 1 << 30
_NAMED_SPLIT = "stage_bench.datasets.named_split:load"


def _instructions(sentence: str, one: str, many: str, edge: str, dataset: str) -> dict[str, str]:
    """STAGE's variants, to the letter, and `dataset`: a sentence that fits the dataset."""
    # The authors' code puts a full stop between the two sentences, and line breaks inside the second: spaces here.
    downstream = _DOWNSTREAM.format(one=one, many=many, Many=many.capitalize(), edge=edge)
    return {"default": sentence, "graph-aware": f"{sentence}. {downstream}", "dataset": dataset}


def _papers(dataset: str) -> dict[str, str]:
    return _instructions(_PAPERS, "paper", "papers", "one cites the other", dataset)


def _products(dataset: str) -> dict[str, str]:
    return _instructions(_PRODUCTS, "product", "products", "they are purchased together", dataset)


def _gpt_preds(name: str) -> Source:
    """TAPE's GPT-3.5 predictions, one line of class numbers a node."""
    return Source(file="gpt_preds.csv", url=f"{_TAPE}/gpt_preds/{name}.csv", max_bytes=64 * _MEBI, optional=True)


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
        sources=(
            Source(
                file="cora_orig.zip",
                url=_DRIVE.format(id="1hxE0OPR7VLEHesr48WisynuoNMhXJbpl"),
                max_bytes=4 * _GIBI,
                unpack=True,
            ),
            _gpt_preds("cora"),
        ),
        reader="stage_bench.datasets.upstream.cora:read",
        instructions=_papers("Identify the machine-learning topic of a paper based on its title and abstract"),
    ),
    DatasetSpec(
        name="pubmed",
        summary="diabetes papers; LINQS graph",
        nodes=19717,
        classes=3,
        sources=(
            Source(
                file="PubMed_orig.zip",
                url=_DRIVE.format(id="1sYZX-jP6H8OkopVa9cp8-KXdEti5ki_W"),
                unpack=True,
            ),
            _gpt_preds("pubmed"),
        ),
        reader="stage_bench.datasets.upstream.pubmed:read",
        instructions=_papers(
            "Identify the type of diabetes that a PubMed paper studies based on its title and abstract"
        ),
    ),
    DatasetSpec(
        name="ogbn-arxiv",
        summary="computer-science papers of arXiv; OGB graph and split by year",
        loader=_NAMED_SPLIT,
        nodes=169343,
        classes=40,
        split="official",
        licence="ODC-BY",
        sources=(
            # Many public projects pin this checksum of arxiv.zip, one the other; neither file has changed since 2020.
            Source(
                file="arxiv.zip",
                url=f"{_OGB}/nodeproppred/arxiv.zip",
                sha256="49f85c801589ecdcc52cfaca99693aaea7b8af16a9ac3f41dd85a5f3193fe276",
                unpack=True,
            ),
            Source(
                file="titleabs.tsv.gz",
                url=f"{_OGB}/misc/ogbn_arxiv/titleabs.tsv.gz",
                sha256="7bce99ab3e1604277f12dd49f6e17a0d89867b29ea152f072c0e709ae0bc8ed7",
                unpack=True,
            ),
            _gpt_preds("ogbn-arxiv"),
        ),
        reader="stage_bench.datasets.upstream.ogbn:read_arxiv",
        instructions=_papers("Identify the arXiv computer-science category of a paper based on its title and abstract"),
    ),
    DatasetSpec(
        name="ogbn-products",
        summary="Amazon products; the full OGB graph and split by sales rank",
        loader=_NAMED_SPLIT,
        nodes=2449029,
        classes=47,
        split="official",
        sources=(
            Source(
                file="products.zip",
                url=f"{_OGB}/nodeproppred/products.zip",
                max_bytes=4 * _GIBI,
                unpack=True,
            ),
            Source(
                file="Amazon-3M.raw.zip",
                url=_DRIVE.format(id="1gsabsx8KR2N9jJz16jTcA0QASXsNuKnN"),
                max_bytes=8 * _GIBI,
                max_unpacked=32 * _GIBI,
                unpack=True,
            ),
        ),
        reader="stage_bench.datasets.upstream.ogbn:read_products",
        instructions=_products("Identify the Amazon department of a product based on its title and description"),
    ),
    DatasetSpec(
        name="ogbn-products-subset",
        summary="TAPE's 54,025 nodes of ogbn-products; never to be compared with the full graph",
        loader=_NAMED_SPLIT,
        nodes=54025,
        classes=47,
        split="subset-masks",
        sources=(
            Source(file="ogbn-products_subset.pt", url=f"{_TAPE}/dataset/ogbn_products/ogbn-products_subset.pt"),
            Source(
                file="ogbn-products_subset.csv",
                url=f"{_TAPE}/dataset/ogbn_products_orig/ogbn-products_subset.csv",
            ),
            _gpt_preds("ogbn-products"),
        ),
        reader="stage_bench.datasets.upstream.products_subset:read",
        instructions=_products("Identify the Amazon department of a product based on its title and description"),
    ),
    DatasetSpec(
        name="tape-arxiv23",
        summary="computer-science papers of 2023; TAPE's graph",
        nodes=46198,
        classes=40,
        sources=(
            Source(file="graph.pt", url=f"{_TAPE}/dataset/arxiv_2023/graph.pt"),
            # Others' scripts take arxiv_2023_orig.zip from Google Drive instead, 1-s1Hf_2koa1DYp_TQvYetAaivK9YDerv;
            # it was not possible to look whether both are there still.
            Source(file="paper_info.csv", url=f"{_TAPE}/dataset/arxiv_2023_orig/paper_info.csv"),
            _gpt_preds("arxiv_2023"),
        ),
        reader="stage_bench.datasets.upstream.tape_arxiv23:read",
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
