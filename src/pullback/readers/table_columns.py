"""Which columns of a table are the features of x and y, and which entries have them: keys of the study."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pullback.ensembles.acceptance import FAKE
from pullback.readers.expressions import checked
from pullback.study.reader_spec import ReaderSpec


class TableColumns(ReaderSpec):
    """Which columns of a table are the features of x and y, and which entries have them."""

    records: ClassVar[str] = "arrays"
    truth: ClassVar[str] = "x"

    y: dict[str, str] = Field(
        min_length=1,
        description="feature of y -> column or expression, one number for each entry: {ht: sum(Jet_pt), lead: "
        "max(Jet_pt, default=0), pt: 'reco_features[0]'}",
    )
    x: dict[str, str] | None = Field(default=None, description="the same of x; left out for an observed family")
    units: dict[Literal["x", "y"], str | dict[str, str]] = Field(
        default={},
        description="units of what columns and expressions give, {y: {pt: MeV}}, where they are not x's, y's",
    )
    pass_y: str | None = Field(
        default=None,
        description="condition: the entry has an observation (pass_reco). Where it fails y is not looked at; entries "
        "with a truth alone are misses. Without it all have one",
    )
    pass_x: str | None = Field(
        default=None,
        description="condition: the entry has a truth (pass_gen, pass_truth). Where it fails x is not looked at; "
        "entries with an observation alone are fakes. Without it all have one",
    )
    selection: str | None = Field(default=None, description="condition on each entry: the others are not there")
    weight: str | None = Field(default=None, description="column or expression with the event weight")
    weights: dict[str, str] = Field(
        default={},
        description="further event weights by name, {isr_up: w[1]}: columns weight_NAME of the ensemble, which nothing "
        "is weighted by",
    )
    event: str | None = Field(
        default=None,
        description="number of each event, unique in the split, that it is known by; without it events are known by "
        "file and entry",
    )
    group: str | None = Field(
        default=None,
        description="whole number: events with the same one, of one collision, are not independent",
    )
    tree: str = Field(default="Events", description="of ROOT files: the TTree or RNTuple, /folder/Events")
    x_tree: str | None = Field(
        default=None,
        description="of ROOT files: the tree with the truth, where it is another one; entries belong together by "
        "`match`, or one by one where both trees have the same number",
    )
    match: str | None = Field(
        default=None,
        description="with `x_tree`: number of each event in both trees (eventNumber). Observations without a truth of "
        "their number are fakes, truths without an observation misses",
    )
    chunk: int = Field(
        default=50_000,
        ge=1,
        description="entries that are read at once: memory grows with it, results do not depend on it",
    )

    @field_validator("pass_x", "pass_y", "selection", "weight", "event", "group", "match")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        return value if value is None else checked(value)

    @field_validator("x", "y", "weights")
    @classmethod
    def _are_expressions(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        return value if value is None else {name: checked(text) for name, text in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> "TableColumns":
        if wrong := [name for name in self.weights if not name.isidentifier()]:
            raise ValueError(f"'{wrong[0]}' is no name of a column: letters, digits and _, such as isr_up")
        for key in ("pass_x", "x_tree", "match"):
            if getattr(self, key) and self.x is None:
                raise ValueError(f"`{key}` is of the truth: name its features in `x`")
        if self.match and not self.x_tree:
            raise ValueError("`match` compares two trees: name that of the truth in `x_tree`")
        return self

    @property
    def has_truth(self) -> bool:
        """Whether features of x are named."""
        return self.x is not None

    @property
    def columns(self) -> dict[str, str]:
        """Entry of an event, unless events are numbered; weights; whether it is a fake."""
        place = {} if self.event else {"source_entry": "int64"}
        fake = {FAKE: "int8"} if self.x and (self.pass_x or self.match) else {}
        return {**place, **dict.fromkeys(self.all_weights, "float64"), **fake}

    @property
    def all_weights(self) -> dict[str, str]:
        """Column of the ensemble -> expression: the weight and the further ones."""
        nominal = {"weight": self.weight} if self.weight else {}
        return {**nominal, **{f"weight_{name}": text for name, text in self.weights.items()}}

    def texts(self, with_truth: bool) -> list[str]:
        """The expressions over the columns of the observations; of the truth too where it is not in another tree."""
        own = [*self.y.values(), self.pass_y, self.selection, *self.all_weights.values(), self.event, self.group]
        both = [*(self.x or {}).values(), self.pass_x] if with_truth and not self.x_tree else []
        return list(filter(None, [*own, *both, self.match if with_truth else None]))
