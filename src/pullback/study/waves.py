"""Outside shot gathers as a family's events."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pullback.study.base import Closed, Split


class WaveFiles(Closed):
    """Outside shot gathers, with velocity models where there is a truth: OpenFWI's .npy files, SEG-Y, netCDF."""

    truth: ClassVar[str] = "models"
    records: ClassVar[str] = "gathers"

    kind: Literal["openfwi", "segy", "netcdf"] = Field(
        description="openfwi: .npy, gathers (event, 5, 1000, 70) and models (event, 1, 70, 70), for preset openfwi. "
        "segy: the gathers of one event in each file. netcdf, also HDF5: the variables y and x, (event, ...)"
    )
    files: dict[Split, Annotated[list[str], Field(min_length=1)]] = Field(
        description="files with the gathers of each split, relative to the working directory; $PULLBACK_DATA and other "
        "variables expand"
    )
    models: dict[Split, list[str]] = Field(
        default={},
        description="files with the models, one for each of `files`; left out for an observed family, and of netcdf",
    )
    units: Literal["m/s", "km/s"] = Field(default="m/s", description="of the models")

    @model_validator(mode="after")
    def _consistent(self) -> "WaveFiles":
        if self.kind == "netcdf" and self.models:
            raise ValueError("`models` is not of netcdf, whose files hold x beside y: leave it out")
        for split in sorted({*self.files, *self.models} if self.models else ()):
            gathers, models = (len(named.get(split, [])) for named in (self.files, self.models))
            if gathers != models:
                raise ValueError(f"{split}: {gathers} files of gathers and {models} of models, wanted one for each")
        return self

    @property
    def has_truth(self) -> bool:
        """Whether models are there."""
        return self.kind == "netcdf" or bool(self.models)
