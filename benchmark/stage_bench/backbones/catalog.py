"""The built-in backbones; importing this imports neither torch nor pydantic."""

from stage_bench.backbones.spec import BackboneSpec

_OPTIONS = "stage_bench.backbones.options:"

SPECS: tuple[BackboneSpec, ...] = (
    BackboneSpec(
        name="mlp",
        summary="Multilayer perceptron on the features; does not see the graph",
        module="stage_bench.backbones.mlp:MLP",
        options=_OPTIONS + "MLPOptions",
        family="graph-free",
        needs_edges=False,
    ),
    BackboneSpec(
        name="gcn",
        summary="Graph convolutional network",
        module="stage_bench.backbones.gcn:GCN",
        options=_OPTIONS + "GCNOptions",
        paper="arXiv 1609.02907",
    ),
    BackboneSpec(
        name="sage",
        summary="GraphSAGE, mean or pooling aggregator",
        module="stage_bench.backbones.sage:SAGE",
        options=_OPTIONS + "SAGEOptions",
        paper="arXiv 1706.02216",
    ),
    BackboneSpec(
        name="gat",
        summary="Graph attention network",
        module="stage_bench.backbones.gat:GAT",
        options=_OPTIONS + "GATOptions",
        paper="arXiv 1710.10903",
    ),
    BackboneSpec(
        name="revgat",
        summary="Graph attention network with reversible layers, as TAPE uses it",
        module="stage_bench.backbones.revgat:RevGAT",
        options=_OPTIONS + "RevGATOptions",
        paper="arXiv 2106.07476",
    ),
    BackboneSpec(
        name="simplegcn",
        summary="A power of the normalised adjacency times the features, then one linear layer (SGC)",
        module="stage_bench.backbones.simplegcn:SimpleGCN",
        options=_OPTIONS + "SimpleGCNOptions",
        paper="arXiv 1902.07153",
        family="diffusion",
    ),
    BackboneSpec(
        name="sign",
        summary="Powers of adjacency, personalised PageRank and triangles side by side, then a small network",
        module="stage_bench.backbones.sign:SIGN",
        options=_OPTIONS + "SIGNOptions",
        paper="arXiv 2004.11198",
        family="diffusion",
    ),
    BackboneSpec(
        name="appnp",
        summary="A multilayer perceptron's predictions propagated by personalised PageRank",
        module="stage_bench.backbones.appnp:APPNP",
        options=_OPTIONS + "APPNPOptions",
        paper="arXiv 1810.05997",
    ),
    BackboneSpec(
        name="sagn",
        summary="Attention over diffused copies of the features",
        module="stage_bench.backbones.sagn:SAGN",
        options=_OPTIONS + "SAGNOptions",
        paper="arXiv 2104.09376",
        family="diffusion",
    ),
)
