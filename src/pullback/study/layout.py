"""The contents of a study: families used on this machine, their splits, shards and files, results of each method."""

from pathlib import Path
from typing import Any, cast

from pullback.study.base import SPLITS, Capability, Group, Split
from pullback.study.families import Family
from pullback.study.model import Study, family_entries, family_models, parameter_files, resolve_fallback
from pullback.study.reader_spec import ReaderSpec
from pullback.study.shifts import SimulatorShift
from pullback.study.uncertainties import Budgets, Result
from pullback.study.uncertainties import results as results_of_budget


class Layout:
    """A study and the folder its own files are relative to.

    Args:
        study: a checked study.
        folder: the folder of the config file, relative to the working directory.
    """

    def __init__(self, study: Study, folder: Path | str = "."):
        self.study = study
        self.folder = str(folder)
        self._families = {
            (name, family): problem.spec.complete(resolve_fallback(problem, spec))
            for name, problem in study.problems.items()
            for family, spec in problem.families.items()
        }

    def family(self, problem: str, family: str) -> Family:
        """A family as it runs here: `otherwise` in place of outside files that are not there, its params complete."""
        return self._families[problem, family]

    def params(self, problem: str, family: str, split: str) -> dict[str, Any]:
        """The parameters of a family's prior in one split."""
        declared = self.study.problems[problem]
        return declared.spec.split_params(declared, self.family(problem, family), cast(Split, split))

    def title(self, problem: str, family: str) -> str:
        """Title of a family in reports; names the fallback family where its files are missing."""
        title = self.family(problem, family).title or family
        while base := self.family(problem, family).events_from:
            if base == self.study.problems[problem].families[family].fallback:
                return f"{title} (no files here: {self.title(problem, base)})"
            family = base
        return title

    def source(self, problem: str, family: str) -> str:
        """Where a family's events come from, which is the rule that makes them.

        ``simulate``, ``collide`` (whose files are read like outside ones), ``read`` or ``derive``.
        """
        spec = self.family(problem, family)
        if spec.events_from:
            return "derive"
        if spec.read:
            return "read"
        return "collide" if self.reader(problem, family) else "simulate"

    def reader(self, problem: str, family: str) -> ReaderSpec | None:
        """How the files of a family's events are read, outside ones or its problem's own; None where none are."""
        spec = self.study.problems[problem]
        return self.family(problem, family).read or spec.spec.own_files(spec.simulator)

    def splits(self, problem: str, family: str) -> tuple[Split, ...]:
        """The splits of a family."""
        spec = self.family(problem, family)
        if spec.read:
            return tuple(split for split in SPLITS if split in spec.read.files and split in spec.splits)
        return spec.splits

    def every_split(self) -> list[tuple[str, str, Split]]:
        """(problem, family, split) of every ensemble."""
        return [
            (problem, family, split)
            for problem, spec in self.study.problems.items()
            for family in spec.families
            for split in self.splits(problem, family)
        ]

    def every_method(self) -> list[tuple[str, str]]:
        """(problem, method) of every method."""
        return [(problem, method) for problem, spec in self.study.problems.items() for method in spec.methods]

    def seen_with(self, problem: str, split: str) -> list[str]:
        """The seen families that have a split."""
        return [family for family in self.study.seen(problem) if split in self.splits(problem, family)]

    def learned_from(self, problem: str, group: Group, name: str, split: str) -> list[str]:
        """The seen families that a method, prior or likelihood is trained on."""
        spec = getattr(self.study.problems[problem], group)[name]
        seen = self.seen_with(problem, split) if spec.reads_events else []
        return [family for family in seen if family not in spec.left_out]

    def parts(self, problem: str, method: str, infer: str) -> int:
        """Number of pieces that one inference is cut into."""
        return self.study.problems[problem].methods[method].infer[infer].parts

    def base(self, problem: str, family: str) -> str:
        """The family with the reference split and parameters of this one: itself, or the source of its events."""
        while base := self.family(problem, family).events_from:
            family = base
        return family

    def block(self, problem: str) -> int:
        """Events of one random block; for unfolding, collisions."""
        spec = self.study.problems[problem]
        return spec.spec.block(spec.simulator)

    def events(self, problem: str, family: str, split: str) -> tuple[int, int]:
        """Number of events that a split asks for, and the size of its blocks (an ensemble of a sweep is one block)."""
        spec = self.family(problem, family)
        if spec.sweep:
            count = spec.sweep.ensembles if split == "train" else spec.sweep.validation_ensembles
            return count * spec.sweep.events, spec.sweep.events
        size = self.study.problems[problem].size
        return spec.events.get(cast(Split, split), getattr(size, split)), self.block(problem)

    def shards(self, problem: str, family: str, split: str) -> int:
        """Number of shards of a split."""
        spec = self.family(problem, family)
        if spec.read:
            return _pieces(len(spec.read.files[cast(Split, split)]), self._files_per_shard(problem, family))
        if spec.events_from:
            return 1
        events, block = self.events(problem, family, split)
        return _pieces(_pieces(events, block), self.blocks_per_shard(problem, block))

    def blocks_per_shard(self, problem: str, block: int) -> int:
        """Whole blocks of so many events that a shard holds."""
        return _pieces(self.study.problems[problem].size.shard, block)

    def _files_per_shard(self, problem: str, family: str) -> int:
        reader = self.reader(problem, family)
        return reader.files_per_shard(self.study.problems[problem].size.shard) if reader else 1

    def files_of_shard(self, problem: str, family: str, shard: int) -> slice:
        """The files of one shard among those of its split."""
        count = self._files_per_shard(problem, family)
        return slice(shard * count, (shard + 1) * count)

    def outside_files(self, problem: str, family: str, split: str, shard: int) -> list[str]:
        """The outside files that the observations of one shard are read from."""
        entries = family_entries(self.family(problem, family), split)[self.files_of_shard(problem, family, shard)]
        return [name for entry in entries for name in entry]

    def outside_models(self, problem: str, family: str, split: str, shard: int) -> list[str]:
        """The outside files that the truth of one shard is read from, where they are others."""
        return family_models(self.family(problem, family), split)[self.files_of_shard(problem, family, shard)]

    def fitted_pairs(self, problem: str, family: str) -> list[list[str]]:
        """The first entry of a family's files, and its models, where a factor is fitted to its pairs."""
        spec = self.family(problem, family)
        if spec.read is None or spec.read.scale != "fit":
            return []
        first = self.splits(problem, family)[0]
        return [*family_entries(spec, first)[:1], *([model] for model in family_models(spec, first)[:1])]

    def prior_files(self, problem: str, family: str) -> list[str]:
        """The user's own files that the events of one family alone depend on: tiles, the files of a shift."""
        spec = self.family(problem, family)
        declared = self.study.problems[problem]
        if not isinstance(spec.shift, SimulatorShift):
            return parameter_files(declared, spec)
        settings, changed = declared.spec.Settings, []
        if settings:
            made = settings.model_validate(declared.simulator_values | spec.shift.change)
            changed = declared.spec.user_files(made, self.folder)
        unchanged = self.simulator_files(problem)
        return [*(f for f in changed if f not in unchanged), *self.prior_files(problem, self.base(problem, family))]

    def simulator_files(self, problem: str) -> list[str]:
        """The user's own files that a problem's events depend on: their content enters the job."""
        spec = self.study.problems[problem]
        return spec.spec.user_files(spec.simulator, self.folder)

    def likelihood(self, problem: str, method: str, infer: str) -> str | None:
        """The learned likelihood that an inference is refined with, if it is."""
        return self.study.problems[problem].methods[method].infer[infer].learned_likelihood

    def prior(self, problem: str, method: str) -> tuple[str, str] | None:
        """(problem, name) of the diffusion prior that a method is guided by; another problem's where they share one."""
        spec = self.study.problems[problem]
        name = spec.methods[method].prior_name
        return (spec.priors[name].of or (problem, name)) if name else None

    def answers_from_pairs(self, problem: str, method: str) -> bool:
        """Whether inference of a method reads the seen pairs directly, without a training."""
        return self.study.problems[problem].methods[method].reads_seen

    def costly(self, problem: str, method: str, infer: str) -> bool:
        """Whether the conditioning of an inference is a separate job, whose state its parts share."""
        spec = self.study.problems[problem].methods[method]
        return spec.costly_condition or spec.infer[infer].costly_condition

    def reference(self, problem: str, method: str, family: str) -> list[tuple[str, str, Split]]:
        """The split (problem, family, split) whose truth a method uses as a sample of the prior."""
        spec = self.study.problems[problem]
        if not spec.methods[method].uses_reference(self.gives(problem)):
            return []
        return [(problem, self.base(problem, family), "reference")]

    def answered(self, problem: str, method: str) -> list[str]:
        """The families on which a method runs, in the order of the study."""
        wanted = {family for _, _, family in self._answers(problem, method)}
        return [family for family in self.study.evaluated(problem) if family in wanted]

    def results(self, problem: str, method: str) -> list[tuple[str, int, str]]:
        """(infer, seed, family) of every posterior of one method."""
        return self._answers(problem, method) if self.study.problems[problem].methods[method].samples else []

    def unfolded(self, problem: str, method: str) -> list[tuple[str, int, str]]:
        """(infer, seed, family) of every unfolded truth distribution of one method."""
        return self._answers(problem, method) if self.study.problems[problem].methods[method].unfolds else []

    def _answers(self, problem: str, method: str) -> list[tuple[str, int, str]]:
        return [
            (infer, seed, family)
            for infer in self.study.problems[problem].methods[method].infer
            for seed in range(self.study.seeds)
            for family in self.study.infer_families(problem, method, infer)
        ]

    def budgeted(self) -> list[str]:
        """The problems with an uncertainty budget."""
        return [name for name, problem in self.study.problems.items() if problem.uncertainties]

    def budgets(self, problem: str) -> Budgets:
        """The results that the uncertainty budgets of a problem are made of."""
        spec = self.study.problems[problem]
        assert spec.uncertainties is not None
        infer = spec.uncertainties.infer or next(iter(spec.methods[spec.uncertainties.method].infer))
        families = {
            name: self.study.infer_families(problem, name, infer)
            for name, method in spec.methods.items()
            if infer in method.infer
        }
        return results_of_budget(spec, self.study.seeds, families)

    def budget_results(self, problem: str) -> list[Result]:
        """The results that a problem's budgets are made of, each once."""
        made = (result for sources in self.budgets(problem).values() for each in sources.values() for result in each)
        return list(dict.fromkeys(made))

    def floors(self, problem: str, method: str) -> list[str]:
        """Families whose test truth and reference give the sampling floors of what a method answers."""
        bases = dict.fromkeys(
            self.base(problem, family)
            for family in self.answered(problem, method)
            if self.family(problem, family).role != "observed"
        )
        return [family for family in bases if "reference" in self.splits(problem, family)]

    def gives(self, problem: str) -> frozenset[Capability]:
        """Capabilities of a problem."""
        return self.study.problems[problem].capabilities


def _pieces(whole: int, size: int) -> int:
    """Pieces of at most so much that a whole is cut into."""
    return -(-whole // size)
