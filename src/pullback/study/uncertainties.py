"""The uncertainty budget of an unfolded distribution: its sources, each made of results that the study has."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from pullback.registry import did_you_mean
from pullback.study.base import Closed, Name

if TYPE_CHECKING:
    from pullback.study.model import Problem

Edges = Annotated[list[float], Field(min_length=2)]


class Source(Closed):
    """One source of uncertainty: results that differ from the nominal one by it alone."""

    seeds_of: Name | None = Field(
        default=None, description="the spread over the seeds of this method: the nominal one, or with `train.bootstrap`"
    )
    methods: list[Name] = Field(
        default=[], description="methods with one thing changed each (`train.leave_out`, another setting)"
    )
    families: dict[Name, Annotated[list[Name], Field(min_length=1)]] = Field(
        default={},
        description="for a family those with its events and one thing of the detector changed each (`events_from`, "
        "`shift`): energy scale up and down",
    )

    @model_validator(mode="after")
    def _one(self) -> "Source":
        if sum(map(bool, (self.seeds_of, self.methods, self.families))) != 1:
            raise ValueError("wanted one of `seeds_of`, `methods` and `families`")
        return self


class Uncertainties(Closed):
    """What is unfolded with which method, in which bins, and how uncertain it is.

    The statistical uncertainty of the data is always there. A variation shifts the bin contents by d; a source with
    variations has the covariance mean(d d^T) over them, one of seeds that of the seeds. Sources are independent: the
    total is their sum.
    """

    method: Name = Field(description="the nominal method")
    infer: Name | None = Field(default=None, description="its inference; the first one when not given")
    bins: dict[str, Edges] = Field(
        default={}, description="edges by feature of x; those without have ten bins of equal content"
    )
    sources: dict[Name, Source] = Field(default={}, description="of uncertainty beside the data's own statistics")


def errors(at: str, problem: "Problem", seeds: int) -> Iterator[str]:
    """What is wrong with a problem's `uncertainties`, one line each."""
    found = problem.uncertainties
    if found is None:
        return
    here = f"{at}.uncertainties"
    yield from _method_errors(f"{here}.method", found.method, problem)
    if found.method not in problem.methods:
        return
    infers = problem.methods[found.method].infer
    if found.infer is not None and found.infer not in infers:
        yield f"{here}.infer: '{found.method}' has no inference '{found.infer}'{did_you_mean(found.infer, infers)}"
        return
    infer = found.infer or next(iter(infers))
    for feature, edges in found.bins.items():
        if sorted(set(edges)) != edges:
            yield f"{here}.bins.{feature}: found {edges}, wanted edges that grow"
    for name, source in found.sources.items():
        where = f"{here}.sources.{name}"
        if source.seeds_of is not None:
            yield from _method_errors(f"{where}.seeds_of", source.seeds_of, problem)
            if seeds < 2:
                yield f"{where}.seeds_of: the study has one seed, wanted `seeds: 2` or more for a spread"
        for method in (*source.methods, *([source.seeds_of] if source.seeds_of in problem.methods else [])):
            yield from _method_errors(f"{where}.methods", method, problem)
            if method in problem.methods and infer not in problem.methods[method].infer:
                yield f"{where}: method '{method}' has no inference '{infer}', as the nominal one has"
        for family, varied in source.families.items():
            for each in (family, *varied):
                if each not in problem.evaluated:
                    yield f"{where}.families: '{each}' has no test events here{did_you_mean(each, problem.evaluated)}"
            for each in varied:
                if each in problem.families and problem.families[each].events_from != family:
                    yield f"{where}.families: '{each}' does not have the events of '{family}' (`events_from`)"


def _method_errors(where: str, method: str, problem: "Problem") -> Iterator[str]:
    if method not in problem.methods:
        yield f"{where}: there is no method '{method}'{did_you_mean(method, problem.methods)}"


def varied(found: Uncertainties) -> set[str]:
    """Families that are variations of others, which have no budget of their own."""
    return {each for source in found.sources.values() for names in source.families.values() for each in names}


Result = tuple[str, str, int, str]
"""Method, inference, seed and family of one posterior or unfolded distribution."""
Budgets = dict[str, dict[str, list[Result]]]
"""Of each family: ``nominal`` and each source -> the results that it is made of."""


def results(problem: "Problem", seeds: int, infer_families: Mapping[str, list[str]]) -> Budgets:
    """The results that the budgets of a problem are made of.

    Args:
        problem: with `uncertainties`.
        seeds: of the study.
        infer_families: method -> the families that the inference runs on.
    """
    found = problem.uncertainties
    assert found is not None
    infer = found.infer or next(iter(problem.methods[found.method].infer))
    budgets: Budgets = {}
    for family in infer_families[found.method]:
        if family in varied(found):
            continue
        made: dict[str, list[Result]] = {"nominal": [(found.method, infer, seed, family) for seed in range(seeds)]}
        for name, source in found.sources.items():
            if source.seeds_of:
                own = [(source.seeds_of, infer, seed, family) for seed in range(seeds)]
            elif source.methods:
                own = [(method, infer, 0, family) for method in source.methods]
            else:
                own = [(found.method, infer, 0, each) for each in source.families.get(family, ())]
            made[name] = [result for result in own if result[3] in infer_families[result[0]]]
        budgets[family] = made
    return budgets
