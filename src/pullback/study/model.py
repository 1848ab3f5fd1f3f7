"""A study as one typed model."""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Discriminator, Field, Tag

from pullback.study import figures as study_figures
from pullback.study.base import Closed, Name, Split, outside_path
from pullback.study.families import Family
from pullback.study.problems import (
    BUILT_IN_PROBLEMS,
    CommandProblem,
    CustomProblem,
    DigitsProblem,
    FwiProblem,
    GaussianProblem,
    UnfoldingProblem,
)


def _kind(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind in BUILT_IN_PROBLEMS else "custom"


Problem = Annotated[
    Annotated[GaussianProblem, Tag("gaussian")]
    | Annotated[FwiProblem, Tag("fwi")]
    | Annotated[UnfoldingProblem, Tag("unfolding")]
    | Annotated[DigitsProblem, Tag("digits")]
    | Annotated[CommandProblem, Tag("command")]
    | Annotated[CustomProblem, Tag("custom")],
    Discriminator(_kind),
]


class Study(Closed):
    """One config file, complete in what it runs."""

    config_version: Literal[2] = Field(description="version of this file format")
    study: Name = Field(description="name of the study and of its results folder: the file's stem")
    title: str = Field(default="", description="headline of the report")
    seed: int = Field(default=0, ge=0, description="root of every random number of the study")
    seeds: int = Field(default=1, ge=1, description="repeats of training and inference: seed-0, seed-1, ...")
    threads: int = Field(default=1, ge=1, description="CPU threads of training and inference (part of the result)")
    accelerator: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="auto: a GPU where there is one")
    problems: dict[Name, Problem] = Field(min_length=1)
    figures: list[study_figures.Figure] = Field(
        default=[], description="what the report draws beside its tables: one metric against one quantity"
    )

    def family(self, problem: str, family: str) -> Family:
        """A family by name."""
        return self.problems[problem].families[family]

    def seen(self, problem: str) -> list[str]:
        """Names of the families that are trained on, in the order of the file."""
        return [name for name, family in self.problems[problem].families.items() if family.role == "seen"]

    def judged(self, problem: str) -> list[str]:
        """Names of the families that methods answer: every one with a test split."""
        return [name for name, family in self.problems[problem].families.items() if "test" in family.splits]

    def infer_families(self, problem: str, method: str, infer: str) -> list[str]:
        """The judged families that one inference runs on."""
        chosen = self.problems[problem].methods[method].infer[infer].families
        return self.judged(problem) if chosen is None else chosen


def family_files(family: Family, split: str) -> list[str]:
    """The outside files of one split."""
    if family.read is None:
        return []
    return [outside_path(name) for name in family.read.files.get(cast(Split, split), [])]


def family_models(family: Family, split: str) -> list[str]:
    """The outside files with the truth of one split, where they are files of their own and are read."""
    if family.read is None or family.role == "observed":
        return []
    return [outside_path(name) for name in family.read.model_files(cast(Split, split))]


def tile_files(family: Family) -> list[str]:
    """The outside file that a family's models are cut from, if it is such a family."""
    tiles = family.params.get("tiles")
    return [outside_path(str(tiles["file"]))] if isinstance(tiles, dict) and "file" in tiles else []


def option_files(options: dict[str, Any]) -> list[str]:
    """The outside files that the options of a built-in simulator name."""
    return [outside_path(str(options[key])) for key in ("images", "labels", "wavelet") if options.get(key)]


def resolve_fallback(family: Family) -> Family:
    """The family as it runs here: `otherwise` in place of outside files (of `read`, of `tiles`) that are not there."""
    if family.fallback is None:
        return family
    read = family.read.files if family.read else {}
    files = [name for split in read for name in family_files(family, split) + family_models(family, split)]
    files += tile_files(family)
    if files and all(Path(name).exists() for name in files):
        return family.model_copy(update={"fallback": None})
    taken: dict[str, Any] = {"read": None, "params": {}, "events": {}, "events_from": family.fallback, "fallback": None}
    return family.model_copy(update=taken)
