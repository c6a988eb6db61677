"""The feature sources that stage-bench knows by name, besides zero-shot LLM embeddings."""

from stage_bench.features.spec import FeatureSpec

SPECS = (
    FeatureSpec(
        name="shallow",
        summary="TF-IDF of the node's text, reduced by truncated SVD: no language model",
        builder="stage_bench.features.shallow:build",
        options="stage_bench.features.options:ShallowOptions",
    ),
    FeatureSpec(
        name="word-vectors",
        summary="the mean of the vectors of the text's words, such as GloVe's: no language model",
        builder="stage_bench.features.word_vectors:build",
        options="stage_bench.features.options:WordVectorOptions",
        reads="stage_bench.features.word_vectors:reads",
    ),
    FeatureSpec(
        name="gpt-predictions",
        summary="TAPE's P features: the ranked classes a chat model answered",
        pipeline="stage_bench.features.gpt_predictions:run",
        options="stage_bench.features.options:PredictionOptions",
        reads="stage_bench.features.gpt_predictions:reads",
        predicts=True,
        needs_text=False,
        version=2,  # with class scores
    ),
    FeatureSpec(
        name="ogb-features",
        summary="the features OGB ships with a dataset: its ogb_features.npy",
        pipeline="stage_bench.features.matrix:run_ogb",
        options="stage_bench.features.options:StoredOptions",
        reads="stage_bench.features.matrix:reads_ogb",
        needs_text=False,
    ),
    FeatureSpec(
        name="matrix",
        summary="any .npy, .f16 or .f32 file in the dataset's folder with a row a node",
        pipeline="stage_bench.features.matrix:run",
        options="stage_bench.features.options:MatrixOptions",
        reads="stage_bench.features.matrix:reads",
        per_split="stage_bench.features.matrix:per_split",
        needs_text=False,
    ),
    FeatureSpec(
        name="finetuned-lm",
        summary="a language model, all of whose weights are trained on the training labels; TAPE's settings",
        pipeline="stage_bench.finetuning.source:build",
        options="stage_bench.finetuning.options:FinetuningOptions",
        per_split=True,
        predicts=True,
    ),
    FeatureSpec(
        name="lora",
        summary="a language model with low-rank adapters trained on the training labels; STAGE's settings, or SimTeG's",
        pipeline="stage_bench.finetuning.source:build",
        options="stage_bench.finetuning.options:LoraOptions",
        per_split=True,
        predicts=True,
    ),
    FeatureSpec(
        name="glem",
        summary="GLEM: alternating language model and GNN",
        needs="only its published numbers are here (compare: [glem]); docs/baselines.md says why",
    ),
)
