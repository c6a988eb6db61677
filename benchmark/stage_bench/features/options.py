"""Options of the feature sources; read by the suite, so nothing heavy here."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

_STANDARDIZE = "each column to mean 0 and deviation 1 over all nodes"


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShallowOptions(_Options):
    weighting: Literal["tfidf", "counts", "binary"] = Field(
        "tfidf", description="of a word in a text; binary: 1 where it stands there (a bag of words)"
    )
    vocabulary: StrictInt = Field(20_000, ge=1, description="most frequent words kept")
    dimension: StrictInt | None = Field(
        256, ge=1, description="most dimensions after truncated SVD; null: a column a word"
    )
    normalize: StrictBool = Field(True, description="scale every text's vector to length 1")


class WordVectorOptions(_Options):
    file: StrictStr = Field("", description="name of a file of word vectors in the folder $STAGE_BENCH_VECTORS")
    weighting: Literal["mean", "idf"] = Field("mean", description="idf: words that stand in few texts count more")
    lowercase: StrictBool = Field(True, description="look words up in lower case")
    normalize: StrictBool = Field(True, description="scale every text's vector to length 1")
    min_coverage: float = Field(
        0.5, ge=0, le=1, description="share of the words, and of the texts, that must be known; less is an error"
    )


class PredictionOptions(_Options):
    k: StrictInt = Field(5, ge=1, description="ranks kept: the first k classes that were named")
    answers: Any = Field(None, description="a chat model's (docs/answers.md); null: the dataset's gpt_preds.csv")


class StoredOptions(_Options):
    standardize: StrictBool = Field(False, description=_STANDARDIZE)


class MatrixOptions(_Options):
    file: StrictStr = Field(
        "",
        description="name of a .npy, .f16 or .f32 file in the dataset's folder; {seed} in it stands for the split seed",
    )
    standardize: StrictBool = Field(False, description=_STANDARDIZE)
