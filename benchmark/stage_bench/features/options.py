"""Options of the feature sources; read by the suite, so nothing heavy here."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt


class ShallowOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    weighting: Literal["tfidf", "counts"] = Field("tfidf", description="of a word in a text")
    vocabulary: StrictInt = Field(20_000, ge=1, description="most frequent words kept")
    dimension: StrictInt = Field(256, ge=1, description="most dimensions after truncated SVD")
    normalize: StrictBool = Field(True, description="scale every text's vector to length 1")
