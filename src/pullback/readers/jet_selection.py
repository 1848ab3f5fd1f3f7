"""Which branches of a ROOT file hold jets, and how they are selected and matched: keys of the study."""

from typing import ClassVar

from pydantic import Field, field_validator

from pullback.ensembles.acceptance import FAKE
from pullback.readers.branches import Branches
from pullback.readers.expressions import checked
from pullback.study.reader_spec import ReaderSpec


class JetSelection(ReaderSpec):
    """Which branches hold jets, and how they are selected and matched."""

    records: ClassVar[str] = "jets"
    truth: ClassVar[str] = "x"

    selection: str | None = Field(
        default=None,
        description="condition on each entry, (nMuon >= 2) & (MET_pt > 30): the others are not there. Conditions on "
        "jets are `selection` in `y` and `x`",
    )
    y: Branches = Field(description="reconstructed jets")
    x: Branches | None = Field(default=None, description="truth jets; left out for an observed family")
    match: str | None = Field(
        default=None,
        description="branch with the index of each reconstructed jet's truth jet (-1: none); without it the "
        "nearest in Delta R below match_radius, one to one. Selected jets without a partner that is selected are fakes "
        "(reconstructed) and misses (truth)",
    )
    match_radius: float = Field(
        default=0.4, gt=0, description="largest Delta R of a reconstructed jet and its truth jet"
    )
    far_matches: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="most pairs of `match` that are further apart than match_radius, as a fraction of the selected "
        "ones; fewer are warned of",
    )
    unknown_matches: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="most indices of `match` beyond the list of truth jets, as a fraction; their jets are unmatched. A "
        "few are normal in NanoAOD (3 % in CMS Open Data ttbar), which stores truth jets above 10 GeV only",
    )
    event: str | None = Field(
        default=None,
        description="branch with a number of each collision, unique in the split, that its events are known by; "
        "without it they are known by file and entry",
    )
    weight: str | None = Field(
        default=None,
        description="branch with the event weight, or an expression; LHEPdfWeight[3] is one of a vector, from 0 on",
    )
    weights: dict[str, str] = Field(
        default={},
        description="further event weights by name, {isr_up: PSWeight[0] * genWeight}: columns weight_NAME of the "
        "ensemble, which nothing is weighted by",
    )
    chunk: int = Field(
        default=50_000,
        ge=1,
        description="entries that are read at once: memory grows with it, results do not depend on it",
    )
    y_pt_min: float = Field(
        default=5.0, ge=5, description="GeV, selection on reconstructed jets: that of the problem, `reco_pt_min`"
    )
    x_pt_min: float = Field(
        default=30.0,
        ge=0,
        description="GeV, selection on truth jets; the likelihood of the built-in detector needs at least 20",
    )

    @property
    def has_truth(self) -> bool:
        """Whether truth jets are mapped."""
        return self.x is not None

    @property
    def columns(self) -> dict[str, str]:
        """File and entry of a jet, unless collisions are numbered; event weights; whether it is a fake."""
        place = {} if self.event else {"source_entry": "int64", "source_index": "int32"}
        acceptance = {FAKE: "int8"} if self.has_truth else {}
        return {**place, **dict.fromkeys(self.all_weights, "float64"), **acceptance}

    @property
    def all_weights(self) -> dict[str, str]:
        """Column of the ensemble -> branch or expression: the weight and the further ones."""
        nominal = {"weight": self.weight} if self.weight else {}
        return {**nominal, **{f"weight_{name}": text for name, text in self.weights.items()}}

    def branches(self, with_truth: bool) -> list[str]:
        """The branches and expressions that are read; without truth, those of observations only."""
        truth = [*(self.x.named if self.x else ()), self.match] if with_truth else []
        return [*self.y.named, *filter(None, (*truth, *self.all_weights.values(), self.event, self.selection))]

    @field_validator("selection", "weight", "match", "event")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        return value if value is None else checked(value)

    @field_validator("weights")
    @classmethod
    def _are_expressions(cls, value: dict[str, str]) -> dict[str, str]:
        if wrong := [name for name in value if not name.isidentifier()]:
            raise ValueError(f"'{wrong[0]}' is no name of a column: letters, digits and _, such as isr_up")
        return {name: checked(text) for name, text in value.items()}
