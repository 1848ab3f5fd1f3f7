"""Families of a problem: priors in a role, their shifts, and the outside files that they are read from."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pullback.study.base import SPLITS, Closed, Name, Split, Sweep
from pullback.study.kinds import Kind
from pullback.study.reader_spec import ReaderSpec
from pullback.study.shifts import Shift

ReaderKind = Annotated[ReaderSpec, Kind("readers")]


class Family(Closed):
    """One prior of a problem, in a role."""

    role: Literal["seen", "unseen", "observed"] = Field(
        description="seen: trained on. unseen: truth kept for evaluation only. observed: only y (no truth is used)"
    )
    title: str | None = Field(default=None, description="label in the report; the family's name without it")
    params: dict[str, Any] = Field(default={}, description="parameters of the prior, as the problem's kind lists them")
    sweep: Sweep | None = None
    events: dict[Split, Annotated[int, Field(gt=0)]] = Field(
        default={}, description="events of each split, in place of the problem's"
    )
    events_from: Name | None = Field(
        default=None, description="the family whose test observations these are, shifted or without their truth"
    )
    shift: Shift | None = None
    read: ReaderKind | None = None
    own_forward: bool | None = Field(
        default=None,
        description="of a family with `read`: whether the problem's forward process is that of these observations, so "
        "that draws may be simulated again; without it true of gathers, false of jets and of other readers",
    )
    fallback: Name | None = Field(
        default=None,
        description="the family used in place of `read` or `params.tiles` when their files are not there",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Family":
        if self.sweep and self.role != "seen":
            raise ValueError("a sweep is trained on: its role is 'seen'")
        if self.events_from and self.read:
            raise ValueError("give `events_from` or `read`, not both")
        if self.own_forward is not None and not self.read:
            raise ValueError("`own_forward` is of observations from files: it needs `read`")
        if self.events_from and (self.params or self.sweep or self.events):
            raise ValueError("a family with `events_from` has another's events: no params, sweep or events of its own")
        if self.read and (self.sweep or self.events):
            raise ValueError("a family with `read` has the events of its files, all of them: no sweep or events")
        if self.sweep and self.events:
            raise ValueError("the events of a sweep stand in `sweep`: leave `events` out")
        for key, named in (("events", self.events), ("read.files", self.read.files if self.read else ())):
            if other := sorted(set(named) - set(self.splits)):
                raise ValueError(
                    f"`{key}` names {', '.join(other)}: a family in the role '{self.role}' has {', '.join(self.splits)}"
                )
        if self.events_from and self.role == "seen":
            raise ValueError(
                "a family with `events_from` shares another's test events: its role is 'unseen' or 'observed'"
            )
        if self.shift and not self.events_from:
            raise ValueError("a shift changes test observations only: name the family they come from in `events_from`")
        if self.role == "observed" and not (self.events_from or self.read):
            raise ValueError(
                "an observed family needs `events_from` (a test set without its truth) or `read` (real data)"
            )
        if self.read and self.read.scale == "fit" and self.role == "observed":
            raise ValueError("`read.scale: fit` compares pairs, and an observed family has no truth: give a number")
        if self.read and self.role != "observed" and not self.read.has_truth:
            raise ValueError(f"`read.{self.read.truth}` names the truth: without it the role is 'observed'")
        if self.fallback and self.role == "seen":
            raise ValueError("`fallback` has another family's test events: nothing can be trained on them")
        return self

    @property
    def has_own_forward(self) -> bool:
        """Whether the problem's forward process is that of the observations."""
        if self.read is None:
            return True
        return self.read.own_forward if self.own_forward is None else self.own_forward

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that a family in this role has."""
        if self.events_from or self.role == "observed":
            return ("test",)
        if self.sweep:
            return ("train", "validation")
        return SPLITS if self.role == "seen" else ("test", "reference")
