"""Options of the feature sources; read by the suite, so nothing heavy here."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

_STANDARDIZE = "each column to mean 0 and deviation 1 over all nodes"


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShallowOptions(_Options):
    weighting: Literal["tfidf", "counts"] = Field("tfidf", description="of a word in a text")
    vocabulary: StrictInt = Field(20_000, ge=1, description="most frequent words kept")
    dimension: StrictInt = Field(256, ge=1, description="most dimensions after truncated SVD")
    normalize: StrictBool = Field(True, description="scale every text's vector to length 1")


class PredictionOptions(_Options):
    k: StrictInt = Field(5, ge=1, description="ranks kept: the first k classes that were named")


class StoredOptions(_Options):
    standardize: StrictBool = Field(False, description=_STANDARDIZE)


class MatrixOptions(_Options):
    file: StrictStr = Field("", description="name of a .npy file in the dataset's folder")
    standardize: StrictBool = Field(False, description=_STANDARDIZE)
