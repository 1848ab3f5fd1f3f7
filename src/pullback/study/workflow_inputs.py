"""Which files each job of a study reads, which code it runs, and the names a path may hold: the rules ask here.

Everything is lists of paths relative to the working directory; a list is empty where a job does without.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pullback import registry
from pullback.core.once import once
from pullback.study import paths
from pullback.study.base import Group, Split, job_digest
from pullback.study.job_params import Plan
from pullback.study.model import Study
from pullback.study.outside_files import digests, refuse_bad_names
from pullback.study.provenance import manifest
from pullback.study.shifts import SimulatorShift


def one_of(names: Iterable[str | int]) -> str:
    """A wildcard constraint: exactly these names. One that nothing matches when there are none."""
    return "|".join(re.escape(str(name)) for name in sorted(set(names), key=str)) or r"(?!)"


def leading(heads: Iterable[tuple[str, ...]]) -> str:
    """A constraint for the first wildcard of ``{a}/{b}/...`` that lets only these beginnings of the path pass."""
    heads = sorted(set(heads))
    if not heads:
        return r"(?!)"
    ahead = "|".join("/".join(map(re.escape, head)) for head in heads)
    return f"(?=(?:{ahead})[/.])(?:{one_of(head[0] for head in heads)})"


_TAKES_WILDCARDS = inspect.Signature([inspect.Parameter("wildcards", inspect.Parameter.POSITIONAL_OR_KEYWORD)])


def named(text: Callable[[Any], str], *parts: str) -> dict[str, Callable[[Any], dict[str, Any]]]:
    """The params of a rule that make up a job's text, for ``**named(...)`` under ``params:``.

    Snakemake compares params as a set of values, whichever name each has, and prints the values that differ. So every
    value says its name, and only the changed part of a job's text is printed: ``before: {'infer': {'steps': 50}} now:
    {'infer': {'steps': 20}}``.

    Args:
        text: a job's text (a method of `Plan`) for the wildcards.
        parts: parts of it that are a param each, empty where a job has none; what is left is the param ``job``.
    """

    def part(name: str) -> Callable[[Any], dict[str, Any]]:
        def value(wildcards: Any) -> dict[str, Any]:
            return _parts(text(wildcards), parts)[name]

        # Snakemake asks every function for its signature four times per job: seconds in the plan of a large study.
        vars(value)["__signature__"] = _TAKES_WILDCARDS
        return value

    return {name: part(name) for name in ("job", *parts)}


@cache
def _parts(job: str, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    rest = json.loads(job)
    parts = {name: {name: rest.pop(name)} if name in rest else {} for name in names}
    return {"job": rest, **parts}


class Graph:
    """Files and code of a plan's jobs.

    Args:
        plan: a study's plan.
        scripts: the folder of the workflow's scripts.

    Raises:
        StudyError: a file that a simulator is made of is not there, or an outside file has a name or date that
            Snakemake cannot take.
    """

    def __init__(self, plan: Plan, scripts: Path):
        self.plan = plan
        self.study: Study = plan.study
        self.name = plan.study.study
        self.scripts = scripts
        for head in self.families("read"):
            refuse_bad_names(plan, *head)
        self._own_files = {}
        for name, problem in plan.study.problems.items():
            said = f"problems.{name}: the simulator's file"
            parts = [file for part in problem.spec.parts(problem.simulator) for file in self._kind_file(*part)]
            own = [*self._kind_file("problems", problem.kind), *parts, *plan.simulator_files(name)]
            self._own_files[name, ""] = digests(said, own)
            for family in problem.families:
                said = f"problems.{name}.families.{family}: the file"
                self._own_files[name, family] = digests(said, plan.prior_files(name, family))

    def _kind_file(self, group: str, kind: str) -> list[str]:
        """The file of a kind from outside: by path, or where an installed package has it."""
        if kind in registry.BUILT_IN[group]:
            return []
        if path := registry.file_of(kind, self.plan.folder):
            return [str(path)]
        registry.load(group, kind)
        module = sys.modules.get(registry.kinds(group)[kind].partition(":")[0])
        return [file] if (file := getattr(module, "__file__", None)) else []

    @once
    def code(
        self,
        script: str,
        problem: str = "",
        family: str = "",
        infer: str = "",
        reader: str = "",
        collides: str = "",
        **names: str,
    ) -> str:
        """The manifest of what a job runs: its script, the code of its problem and kinds, and the user's own files.

        Args:
            script: the script's stem.
            problem, family, infer, reader: names in the study, and a kind; empty where the job runs nothing of it.
            collides: a problem of which the job runs what its settings name, without the problem's class.
            names: of the job's ``methods``, ``priors`` or ``likelihoods``.
        """
        roots: list[str] = []
        own: tuple[tuple[str, str], ...] = ()
        if problem:
            spec = self.study.problems[problem]
            roots += filter(None, [registry.BUILT_IN["problems"].get(spec.kind)])
        for name in filter(None, (problem or collides,)):
            spec = self.study.problems[name]
            own = self._own_files[name, ""]
            parts = spec.spec.parts(spec.simulator)
            roots += filter(None, (registry.BUILT_IN[group].get(kind) for group, kind in parts))
        if family:
            own += self._own_files[problem, family]
        if infer:
            roots += self.study.problems[problem].methods[names["methods"]].infer[infer].modules
            if likelihood := self.plan.likelihood(problem, names["methods"], infer):
                names["likelihoods"] = likelihood
        heads = {group: (problem, name) for group, name in names.items()}
        if infer and (prior := self.plan.prior(problem, names["methods"])):
            heads["priors"] = prior
        for group, (where, name) in heads.items():
            settings = getattr(self.study.problems[where], group)[name]
            if settings.kind in registry.BUILT_IN[group]:
                roots += [registry.BUILT_IN[group][settings.kind], settings.code]
            own += digests(f"{group} '{name}': the file", self._kind_file(group, settings.kind))
        if reader:
            roots += filter(None, [registry.BUILT_IN["readers"].get(reader)])
            own += digests(f"readers '{reader}': the file", self._kind_file("readers", reader))
        if script in ("evaluate", "report"):
            roots += registry.BUILT_IN["metrics"].values()
            asked = [self.study.problems[problem]] if problem else self.study.problems.values()
            for kind in dict.fromkeys(kind for spec in asked for kind in spec.evaluation.metrics):
                own += digests(f"metric '{kind}': the file", self._kind_file("metrics", kind))
        return manifest(self.scripts / f"{script}.py", tuple(roots), own)

    def code_to_read(self, problem: str, family: str) -> str:
        """The same of a family that is read from files: with its reader's."""
        reader = self.plan.reader(problem, family)
        return self.code("read", problem, reader=reader.kind if reader else "")

    def code_to_derive(self, problem: str, family: str) -> str:
        """The same of a family that takes another's events: with the problem's where it simulates them again."""
        again = isinstance(self.plan.family(problem, family).shift, SimulatorShift)
        return self.code("derive", problem, family) if again else self.code("derive")

    # Families and splits

    def families(self, *sources: str) -> list[tuple[str, str]]:
        """(problem, family) of the families that come from one of these sources."""
        return [
            (problem, family)
            for problem, spec in self.study.problems.items()
            for family in spec.families
            if self.plan.source(problem, family) in sources
        ]

    def splits(self) -> list[tuple[str, str, Split]]:
        """(problem, family, split) of every ensemble."""
        return self.plan.every_split()

    def split_heads(self, *sources: str) -> list[tuple[str, str, Split]]:
        """(problem, family, split) of the ensembles that come from one of these sources."""
        return [head for head in self.splits() if self.plan.source(*head[:2]) in sources]

    def shards(self, problem: str, family: str, split: str) -> list[str]:
        """The shards of one split."""
        return [
            paths.shard(self.name, problem, family, split, shard)
            for shard in range(self.plan.shards(problem, family, split))
        ]

    def files_to_read(self, problem: str, family: str, split: str, shard: int) -> dict[str, list[str]]:
        """What one shard is read from: outside files and their models, or the file that `collide` makes."""
        if self.plan.family(problem, family).read is None:
            return {"files": [paths.collisions(self.name, problem, family, split, shard)], "pairs": []}
        where = problem, family, split, shard
        found = {"files": self.plan.outside_files(*where), "models": self.plan.outside_models(*where)}
        return {**found, "pairs": [name for entry in self.plan.fitted_pairs(problem, family) for name in entry]}

    def files_to_check(self, problem: str, family: str) -> dict[str, list[str]]:
        """What the check of a family's files reads: its shards, and training ensembles unless it is trained on."""
        splits = self.plan.splits(problem, family)
        seen = [] if self.plan.family(problem, family).role == "seen" else self.seen(problem, "train")
        return {"shards": [s for split in splits for s in self.shards(problem, family, split)], "seen": seen}

    def file_checks(self) -> list[str]:
        """What is said of the files of every family that is read."""
        return [paths.file_checks(self.name, *head) for head in self.families("read")]

    def base_ensemble(self, problem: str, family: str) -> str:
        """The test ensemble that a derived family's observations come from."""
        return paths.ensemble(self.name, problem, self.plan.base(problem, family), "test")

    def ensembles(self) -> list[str]:
        """Every ensemble of the study."""
        return [paths.ensemble(self.name, *head) for head in self.splits()]

    def seen(self, problem: str, split: str) -> list[str]:
        """One split of the families that are trained on."""
        return [paths.ensemble(self.name, problem, family, split) for family in self.plan.seen_with(problem, split)]

    def learned_from(self, problem: str, group: Group, name: str, split: str) -> list[str]:
        """One split of the families that a method, prior or likelihood is trained on."""
        families = self.plan.learned_from(problem, group, name, split)
        return [paths.ensemble(self.name, problem, family, split) for family in families]

    def evaluated(self, problem: str, method: str) -> list[str]:
        """The test split of the families on which a method runs."""
        return [paths.ensemble(self.name, problem, family, "test") for family in self.plan.answered(problem, method)]

    def references(self, problem: str, method: str) -> list[str]:
        """The reference split of the families that give it a sampling floor."""
        return [paths.ensemble(self.name, problem, f, "reference") for f in self.plan.floors(problem, method)]

    # Learning

    def trained(self, group: Group) -> list[tuple[str, str]]:
        """(problem, name) of the methods, priors or likelihoods that train."""
        return [
            (problem, name)
            for problem, spec in self.study.problems.items()
            for name, settings in getattr(spec, group).items()
            if settings.trains
        ]

    def artifacts(self) -> list[str]:
        """Every trained prior, likelihood and method, of every seed."""
        groups: tuple[Group, ...] = ("priors", "likelihoods", "methods")
        return [
            paths.artifact(self.name, group, *head, seed)
            for group in groups
            for head in self.trained(group)
            for seed in range(self.study.seeds)
        ]

    # Answering

    def seen_at_inference(self, problem: str, method: str) -> list[str]:
        """Training ensembles of a method whose inference reads the seen pairs directly."""
        return self.seen(problem, "train") if self.plan.answers_from_pairs(problem, method) else []

    def _artifact(self, group: Group, head: tuple[str, str] | None, seed: int | str) -> list[str]:
        return [paths.artifact(self.name, group, *head, seed)] if head else []

    def needed_to_infer(
        self, problem: str, method: str, infer: str, seed: int | str, family: str
    ) -> dict[str, list[str]]:
        """What an inference reads beside the observations, by name; in one call, for a study has many inferences."""
        spec = self.study.problems[problem].methods[method]
        prior, likelihood = self.plan.prior(problem, method), self.plan.likelihood(problem, method, infer)
        learned: dict[str, tuple[Group, tuple[str, str] | None]] = {
            "artifact": ("methods", (problem, method) if spec.trains else None),
            "prior": ("priors", prior),
            "likelihood": ("likelihoods", (problem, likelihood) if likelihood else None),
        }
        return {
            **{kind: self._artifact(group, head, seed) for kind, (group, head) in learned.items()},
            "seen": self.seen_at_inference(problem, method),
            "reference": [paths.ensemble(self.name, *head) for head in self.plan.reference(problem, method, family)],
            "preflight": self.preflight_of_inference(problem, method),
        }

    def state(self, problem: str, method: str, infer: str, seed: int | str, family: str) -> list[str]:
        """The state that the parts of an inference share, where conditioning is a separate job."""
        costly = self.plan.costly(problem, method, infer)
        return [paths.state(self.name, problem, method, infer, seed, family)] if costly else []

    def inferences(self) -> list[tuple[str, str, str]]:
        """(problem, method, infer) of every inference."""
        return [
            (problem, name, infer)
            for problem, spec in self.study.problems.items()
            for name, method in spec.methods.items()
            for infer in method.infer
        ]

    def conditioned(self) -> list[tuple[str, str, str]]:
        """(problem, method, infer) of the inferences whose conditioning is a separate job."""
        return [head for head in self.inferences() if self.plan.costly(*head)]

    def sampled(self) -> list[tuple[str, str, str]]:
        """(problem, method, infer) of the inferences that give posterior samples."""
        return [(p, m, infer) for p, m, infer in self.inferences() if self.study.problems[p].methods[m].samples]

    def unfolding(self) -> list[tuple[str, str, str]]:
        """(problem, method, infer) of the inferences that give a truth distribution."""
        return [(p, m, infer) for p, m, infer in self.inferences() if self.study.problems[p].methods[m].unfolds]

    def unfolded(self, problem: str, method: str) -> list[str]:
        """Every unfolded truth distribution of one method, in the order of its results."""
        return [paths.unfolded(self.name, problem, method, *result) for result in self.plan.unfolded(problem, method)]

    def inferences_in_parts(self) -> list[tuple[str, str, str]]:
        """(problem, method, infer) of the inferences whose posteriors are cut; the others need no index."""
        return [(p, m, infer) for p, m, infer in self.sampled() if self.plan.parts(p, m, infer) > 1]

    def parts(self, problem: str, method: str, infer: str, seed: int | str, family: str) -> list[str]:
        """The pieces of one posterior that is cut."""
        count = self.plan.parts(problem, method, infer)
        return [paths.part(self.name, problem, method, infer, seed, family, part) for part in range(count)]

    def posteriors(self, problem: str, method: str) -> list[str]:
        """Every posterior of one method, in the order of its results."""
        return [paths.posterior(self.name, problem, method, *result) for result in self.plan.results(problem, method)]

    def all_posteriors(self) -> list[str]:
        """Every posterior and every unfolded truth distribution of the study."""
        return [path for pair in self.methods() for path in (*self.posteriors(*pair), *self.unfolded(*pair))]

    def preflight_of_inference(self, problem: str, method: str) -> list[str]:
        """The compiled simulator, where a method calls it."""
        needs = self.study.problems[problem].methods[method].needs
        return [paths.warmup(self.name, problem)] if "forward" in needs else []

    def preflight_of_evaluation(self, problem: str) -> list[str]:
        """The compiled simulator, where evaluation simulates again."""
        again = self.study.problems[problem].evaluation.resimulate_events > 0
        return [paths.warmup(self.name, problem)] if again else []

    # EvaluationSettings

    def methods(self) -> list[tuple[str, str]]:
        """(problem, method) of every method."""
        return self.plan.every_method()

    def metrics(self) -> list[str]:
        """The metrics of every method."""
        return [paths.metrics(self.name, *pair) for pair in self.methods()]

    def budgeted(self) -> list[str]:
        """The problems with an uncertainty budget."""
        return self.plan.budgeted()

    def budgets(self) -> list[str]:
        """The uncertainty budgets of every problem that has some."""
        return [paths.budget(self.name, problem) for problem in self.budgeted()]

    def budget_results(self, problem: str) -> list[str]:
        """The posteriors and unfolded distributions that a problem's budgets are made of."""
        methods = self.study.problems[problem].methods
        return [
            (paths.posterior if methods[result[0]].samples else paths.unfolded)(self.name, problem, *result)
            for result in self.plan.budget_results(problem)
        ]

    def budget_ensembles(self, problem: str) -> list[str]:
        """The test splits that they were made from."""
        families = dict.fromkeys(family for *_, family in self.plan.budget_results(problem))
        return [paths.ensemble(self.name, problem, family, "test") for family in families]

    def costs(self) -> list[str]:
        """The cost of every method."""
        return [paths.cost(self.name, *pair) for pair in self.methods()]

    def examples(self) -> list[str]:
        """What the report draws of every method."""
        return [paths.figures(self.name, *pair) for pair in self.methods()]

    def curves(self) -> list[str]:
        """The loss curves of everything that was trained."""
        return [paths.curves(artifact) for artifact in self.artifacts()]

    def resolved(self) -> str:
        """The study as it runs: another file for another config, so that old pages are never up to date."""
        return paths.resolved(self.name, job_digest(self.plan.resolved()))

    def preflights(self) -> list[str]:
        """The pre-flight report of every problem."""
        return [paths.warmup(self.name, problem) for problem in self.study.problems]
