"""How a study is cut into jobs, and what each job reads of it.

A job gets exactly the part of the study that its result depends on, as one canonical JSON text: editing a key of the
study reruns the jobs whose text it changes, and no other.

The text also says, under ``inputs``, what the files that the job reads were asked to be: the digest of the text of the
job that makes each. A file carries the digest of its own job, so that one which an older config left behind, however
it came here, is told from the one that this study means (`pullback.ensembles.leftovers`). Digests of texts that hold
digests reach all the way up: another noise level changes what a metric was asked to be.
"""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, cast

from pullback.study.base import SPLITS, Capability, Split, asked, canonical
from pullback.study.families import Family, SimulatorShift
from pullback.study.method_complaints import answers_from_reference
from pullback.study.model import (
    Study,
    family_files,
    family_models,
    option_files,
    resolve_otherwise,
    tile_files,
)
from pullback.study.plugins import plugin_file, problem_class
from pullback.study.problems import BUILT_IN_PROBLEMS, CommandProblem, DigitsProblem, FwiProblem, UnfoldingProblem
from pullback.study.waves import WaveFiles

P = ParamSpec("P")


def _once(text: Callable[Concatenate["Plan", P], str]) -> Callable[Concatenate["Plan", P], str]:
    """Keep a job's text: the rules ask several times, and every job that reads its file asks for its digest."""

    @functools.wraps(text)
    def kept(self: "Plan", *args: P.args, **kwargs: P.kwargs) -> str:
        key = (text.__name__, *args, *kwargs.items())
        if key not in self._texts:
            self._texts[key] = text(self, *args, **kwargs)
        return self._texts[key]

    return kept


class Plan:
    """A study, the folder its own files are relative to, and its jobs.

    Args:
        study: a checked study.
        folder: the folder of the config file, relative to the working directory.
    """

    def __init__(self, study: Study, folder: Path | str = "."):
        self.study = study
        self.folder = str(folder)
        self._texts: dict[tuple[Any, ...], str] = {}
        self._families = {
            (name, family): problem.complete(resolve_otherwise(spec))
            for name, problem in study.problems.items()
            for family, spec in problem.families.items()
        }

    def family(self, problem: str, family: str) -> Family:
        """A family as it runs here: `otherwise` in place of outside files that are not there, its params complete."""
        return self._families[problem, family]

    def title(self, problem: str, family: str) -> str:
        """What a family is called for readers; without the outside files of its events it says whose stand in."""
        title = self.family(problem, family).title or family
        while take := self.family(problem, family).take:
            if take == self.study.problems[problem].families[family].otherwise:
                return f"{title} (no files here: {self.title(problem, take.family)})"
            family = take.family
        return title

    def source(self, problem: str, family: str) -> str:
        """Where a family's events come from, which is the rule that makes them.

        ``simulate``, ``collide``, ``read`` (outside ROOT files), ``read_waves`` (outside gathers) or ``derive``.
        """
        spec = self.family(problem, family)
        if spec.take:
            return "derive"
        if isinstance(spec.read, WaveFiles):
            return "read_waves"
        if spec.read:
            return "read"
        return "collide" if self.study.problems[problem].kind == "unfolding" else "simulate"

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

    def parts(self, problem: str, method: str, infer: str) -> int:
        """Number of pieces that one inference is cut into."""
        return self.study.problems[problem].methods[method].infer[infer].parts

    def base(self, problem: str, family: str) -> str:
        """The family whose reference and parameters stand for this one: itself, or the one it takes events from."""
        while take := self.family(problem, family).take:
            family = take.family
        return family

    def block(self, problem: str) -> int:
        """Events of one random block; for unfolding, collisions."""
        spec = self.study.problems[problem]
        if isinstance(spec, UnfoldingProblem):
            return spec.simulator.block_collisions
        if isinstance(spec, CommandProblem):
            return spec.simulator.block
        if spec.kind in BUILT_IN_PROBLEMS:
            return spec.block
        return int(getattr(problem_class(spec.kind, Path(self.folder)), "block", 1000))

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
            return math.ceil(len(spec.read.files[cast(Split, split)]) / self._files_per_shard(problem, family))
        if spec.take:
            return 1
        events, block = self.events(problem, family, split)
        return math.ceil(math.ceil(events / block) / self._blocks_per_shard(problem, block))

    def _blocks_per_shard(self, problem: str, block: int) -> int:
        return math.ceil(self.study.problems[problem].size.shard / block)

    def _files_per_shard(self, problem: str, family: str) -> int:
        """A SEG-Y file is one event, the others hold many."""
        read = self.family(problem, family).read
        return self.study.problems[problem].size.shard if isinstance(read, WaveFiles) and read.kind == "segy" else 1

    def _of_shard(self, problem: str, family: str, shard: int) -> slice:
        """The outside files of one shard among those of its split."""
        count = self._files_per_shard(problem, family)
        return slice(shard * count, (shard + 1) * count)

    def outside_files(self, problem: str, family: str, split: str, shard: int) -> list[str]:
        """The outside files that the observations of one shard are read from."""
        return family_files(self.family(problem, family), split)[self._of_shard(problem, family, shard)]

    def outside_models(self, problem: str, family: str, split: str, shard: int) -> list[str]:
        """The outside files that the truth of one shard is read from, where they are others."""
        return family_models(self.family(problem, family), split)[self._of_shard(problem, family, shard)]

    def prior_files(self, problem: str, family: str) -> list[str]:
        """The user's own files that the events of one family alone depend on: tiles, the files of a shift."""
        spec = self.family(problem, family)
        if not isinstance(spec.shift, SimulatorShift):
            return tile_files(spec)
        changed = option_files(spec.shift.change) if self.study.problems[problem].kind in BUILT_IN_PROBLEMS else []
        return [*changed, *self.prior_files(problem, self.base(problem, family))]

    def simulator_files(self, problem: str) -> list[str]:
        """The user's own files that a problem's events depend on: their content enters the job."""
        spec = self.study.problems[problem]
        if isinstance(spec, CommandProblem):
            return [str(Path(self.folder) / name) for name in spec.simulator.files]
        if isinstance(spec, DigitsProblem | FwiProblem):
            return option_files(spec.simulator.model_dump())
        if spec.kind in BUILT_IN_PROBLEMS:
            return []
        file = plugin_file(spec.kind, Path(self.folder))
        return [str(Path(self.folder) / spec.kind.rpartition(":")[0])] if file else []

    def _problem(self, problem: str) -> dict[str, Any]:
        spec = self.study.problems[problem]
        simulator = spec.simulator if isinstance(spec.simulator, dict) else spec.simulator.model_dump(mode="json")
        entry: dict[str, Any] = {"kind": spec.kind, "simulator": simulator}
        if isinstance(spec, CommandProblem) or spec.kind not in BUILT_IN_PROBLEMS:
            entry["folder"] = self.folder
        return entry

    def _base_job(self, problem: str, family: str, split: str) -> dict[str, Any]:
        return {
            "seed": self.study.seed,
            "problem": problem,
            **self._problem(problem),
            "family": family,
            "split": split,
        }

    @_once
    def preflight_job(self, problem: str) -> str:
        """Checks and compilation of a simulator."""
        return canonical(self._problem(problem))

    @_once
    def simulate_job(self, problem: str, family: str, split: str, shard: int) -> str:
        """One shard: ``events`` events in blocks from ``first_block`` on; the last of the split may be short."""
        spec = self.family(problem, family)
        events, block = self.events(problem, family, split)
        per_shard = self._blocks_per_shard(problem, block)
        first = shard * per_shard
        return canonical(
            {
                **self._base_job(problem, family, split),
                "params": spec.params,
                "sweep": spec.sweep is not None,
                "block": block,
                "first_block": first,
                "events": min(events - first * block, per_shard * block),
            }
        )

    @_once
    def derive_job(self, problem: str, family: str) -> str:
        """Another family's test observations, shifted or without their truth."""
        spec = self.family(problem, family)
        shift = spec.shift.model_dump(mode="json") if spec.shift else None
        base = self.base(problem, family)
        # What is simulated again may be drawn again too: the prior's parameters, and how its draws are addressed.
        again = {"params": self.family(problem, base).params, "block": self.block(problem)}
        return canonical(
            {
                **self._base_job(problem, family, "test"),
                **(again if isinstance(spec.shift, SimulatorShift) else {}),
                "inputs": {"base": [asked(self.index_job(problem, base, "test"))]},
                "base": base,
                "shift": shift,
                "truth": spec.role != "observed",
            }
        )

    @_once
    def read_job(self, problem: str, family: str, split: str, shard: int) -> str:
        """The reading of one ROOT file: the user's through a branch map, or the one that `collide` wrote."""
        spec = self.family(problem, family)
        read = spec.read.model_dump(mode="json", exclude={"files"}) if spec.read else None
        inputs = {} if spec.read else {"root": [asked(self.simulate_job(problem, family, split, shard))]}
        return canonical(
            {
                **self._base_job(problem, family, split),
                "inputs": inputs,
                "file": spec.read.files[cast(Split, split)][shard] if spec.read else None,
                "read": read,
                "shard": shard,
                "truth": spec.role != "observed",
            }
        )

    @_once
    def read_waves_job(self, problem: str, family: str, split: str, shard: int) -> str:
        """The reading of outside gathers, and of their models where there is a truth."""
        spec = self.family(problem, family)
        assert isinstance(spec.read, WaveFiles)
        cut, truth = self._of_shard(problem, family, shard), spec.role != "observed"
        return canonical(
            {
                **self._base_job(problem, family, split),
                "files": spec.read.files[cast(Split, split)][cut],
                "models": spec.read.models.get(cast(Split, split), [])[cut] if truth else [],
                "first_file": cut.start,
                "read": spec.read.model_dump(mode="json", exclude={"files", "models"}),
                "truth": truth,
            }
        )

    def shard_job(self, problem: str, family: str, split: str, shard: int) -> str:
        """The job that makes one shard, whichever rule it is of."""
        source = self.source(problem, family)
        if source == "derive":
            return self.derive_job(problem, family)
        jobs = {"simulate": self.simulate_job, "read_waves": self.read_waves_job}
        return jobs.get(source, self.read_job)(problem, family, split, shard)

    @_once
    def index_job(self, problem: str, family: str, split: str) -> str:
        """Names that an index carries."""
        spec = self.family(problem, family)
        shards = range(self.shards(problem, family, split))
        return canonical(
            {
                "inputs": {"shards": [asked(self.shard_job(problem, family, split, i)) for i in shards]},
                "study": self.study.study,
                "problem": problem,
                "family": family,
                "split": split,
                "role": spec.role,
            }
        )

    def _asked_of_seen(self, problem: str, split: Split) -> list[str]:
        return [asked(self.index_job(problem, family, split)) for family in self.seen_with(problem, split)]

    def answered(self, problem: str, method: str) -> list[str]:
        """The families that a method answers, in the order of the study."""
        wanted = {family for _, _, family in self.results(problem, method)}
        return [family for family in self.study.judged(problem) if family in wanted]

    def _learning_inputs(self, problem: str) -> dict[str, list[str]]:
        return {split: self._asked_of_seen(problem, split) for split in ("train", "validation")}

    def _learn_job(self, problem: str, name: str, seed: int) -> dict[str, Any]:
        return {
            "address": [self.study.seed, problem, name, seed],
            "problem": self._problem(problem),
            "threads": self.study.threads,
            "accelerator": self.study.accelerator,
        }

    @_once
    def train_job(self, problem: str, method: str, seed: int) -> str:
        """Training of one method: everything of its instance but `infer`."""
        spec = self.study.problems[problem].methods[method].model_dump(mode="json", exclude={"infer"})
        inputs = self._learning_inputs(problem)
        return canonical({**self._learn_job(problem, method, seed), "inputs": inputs, "method": spec})

    @_once
    def prior_job(self, problem: str, prior: str, seed: int) -> str:
        """Training of one diffusion prior."""
        spec = self.study.problems[problem].priors[prior].model_dump(mode="json")
        inputs = self._learning_inputs(problem)
        return canonical({**self._learn_job(problem, prior, seed), "inputs": inputs, "method": spec})

    @_once
    def likelihood_job(self, problem: str, likelihood: str, seed: int) -> str:
        """Training of one likelihood."""
        spec = self.study.problems[problem].likelihoods[likelihood].model_dump(mode="json")
        inputs = self._learning_inputs(problem)
        return canonical({**self._learn_job(problem, likelihood, seed), "inputs": inputs, "method": spec})

    def likelihood(self, problem: str, method: str, infer: str) -> str | None:
        """The learned likelihood that an inference is refined with, if it is."""
        refine = getattr(self.study.problems[problem].methods[method].infer[infer], "refine", None)
        return refine.likelihood if refine and refine.likelihood != "exact" else None

    def answers_from_pairs(self, problem: str, method: str) -> bool:
        """Whether a method answers from the seen pairs themselves, without training on them first."""
        spec = self.study.problems[problem].methods[method]
        return "pairs" in spec.needs and not spec.trains and not spec.uses_prior

    def reference(self, problem: str, method: str, family: str) -> list[tuple[str, str, Split]]:
        """The split (problem, family, split) whose truth stands for the prior, where a method answers from one."""
        spec = self.study.problems[problem]
        if not answers_from_reference(spec.methods[method], self._gives(problem)):
            return []
        return [(problem, self.base(problem, family), "reference")]

    @_once
    def infer_job(self, problem: str, method: str, infer: str, seed: int, family: str, part: int) -> str:
        """Inference for one piece of one family."""
        spec = self.study.problems[problem].methods[method]
        settings = spec.infer[infer]
        prior: str | None = getattr(spec, "prior", None)
        likelihood = self.likelihood(problem, method, infer)
        inputs = {
            "ensemble": [asked(self.index_job(problem, family, "test"))],
            "artifact": [asked(self.train_job(problem, method, seed))] if spec.trains else [],
            "prior": [asked(self.prior_job(problem, prior, seed))] if prior else [],
            "likelihood": [asked(self.likelihood_job(problem, likelihood, seed))] if likelihood else [],
            "seen": self._asked_of_seen(problem, "train") if self.answers_from_pairs(problem, method) else [],
            "reference": [asked(self.index_job(*head)) for head in self.reference(problem, method, family)],
        }
        job = {
            **self._learn_job(problem, method, seed),
            "inputs": inputs,
            "method": spec.model_dump(mode="json", exclude={"infer", "train"}),
            "infer_name": infer,
            "infer": settings.model_dump(mode="json", exclude={"families", "parts"}),
            "family": family,
            "part": part,
            "parts": settings.parts,
        }
        if spec.told:
            job["params"] = self.family(problem, self.base(problem, family)).params
        return canonical(job)

    @_once
    def index_posterior_job(self, problem: str, method: str, infer: str, seed: int, family: str) -> str:
        """Names that a posterior's index carries."""
        parts = range(self.parts(problem, method, infer))
        return canonical(
            {
                "inputs": {"parts": [asked(self.infer_job(problem, method, infer, seed, family, i)) for i in parts]},
                "study": self.study.study,
                "problem": problem,
                "method": method,
                "infer": infer,
                "seed": seed,
                "family": family,
            }
        )

    def posterior_job(self, problem: str, method: str, infer: str, seed: int, family: str) -> str:
        """The job that makes one posterior: the inference itself when it is in one part."""
        if self.parts(problem, method, infer) == 1:
            return self.infer_job(problem, method, infer, seed, family, 0)
        return self.index_posterior_job(problem, method, infer, seed, family)

    @_once
    def evaluate_job(self, problem: str, method: str) -> str:
        """Judging of one method on one problem: all its inferences, seeds and the families that it answers.

        ``results`` lists, in the order of the inputs, the (infer, seed, family) of each posterior.
        """
        spec = self.study.problems[problem].methods[method]
        families: dict[str, dict[str, Any]] = {
            name: {
                "role": self.family(problem, name).role,
                "title": self.title(problem, name),
                "shift": shift.kind if (shift := self.family(problem, name).shift) else "none",
                "base": self.base(problem, name),
            }
            for name in self.answered(problem, method)
        }
        for name in families if self._compares_with_exact(problem) else ():
            base = self.family(problem, self.base(problem, name))
            # Nobody knows the parameters of outside files.
            if base.read is None:
                families[name]["params"] = base.params
        results = self.results(problem, method)
        inputs = {
            "posteriors": [asked(self.posterior_job(problem, method, *result)) for result in results],
            "ensembles": [asked(self.index_job(problem, family, "test")) for family in families],
            "references": [
                asked(self.index_job(problem, family, "reference")) for family in self.floors(problem, method)
            ],
            "seen": self._asked_of_seen(problem, "train"),
        }
        return canonical(
            {
                "inputs": inputs,
                "study": self.study.study,
                "seed": self.study.seed,
                "problem_name": problem,
                "problem": self._problem(problem),
                "method": method,
                "method_kind": spec.kind,
                "returns": spec.returns,
                "families": families,
                "results": [[infer, seed, family] for infer, seed, family in results],
                "judging": self.study.problems[problem].judging.model_dump(mode="json", exclude={"headline"}),
            }
        )

    def _compares_with_exact(self, problem: str) -> bool:
        """Whether judging draws from the exact posterior, and so is told the parameters of families."""
        judging = self.study.problems[problem].judging
        asked_for = judging.exact_events or judging.c2st_events
        return bool(asked_for) and "exact-posterior" in self._gives(problem)

    def _gives(self, problem: str) -> frozenset[Capability]:
        """Capabilities of a problem; those of the user's own stand in its class."""
        spec = self.study.problems[problem]
        if spec.kind in BUILT_IN_PROBLEMS:
            return spec.gives
        return frozenset(problem_class(spec.kind, Path(self.folder)).gives)

    def results(self, problem: str, method: str) -> list[tuple[str, int, str]]:
        """(infer, seed, family) of every posterior of one method."""
        return [
            (infer, seed, family)
            for infer in self.study.problems[problem].methods[method].infer
            for seed in range(self.study.seeds)
            for family in self.study.infer_families(problem, method, infer)
        ]

    def floors(self, problem: str, method: str) -> list[str]:
        """Families whose test truth and reference give the sampling floors of what a method answers."""
        bases = dict.fromkeys(
            self.base(problem, family)
            for family in self.answered(problem, method)
            if self.family(problem, family).role != "observed"
        )
        return [family for family in bases if "reference" in self.splits(problem, family)]

    @_once
    def resolved(self) -> str:
        """The study as it runs, with every default filled in, and the folder of its file."""
        return canonical({"folder": self.folder, "study": self.study.model_dump(mode="json")})

    @_once
    def report_job(self) -> str:
        """The study as it runs, and what the examples of each (problem, method) were asked to be."""
        examples = [asked(self.evaluate_job(*pair)) for pair in self.every_method()]
        return canonical({"inputs": {"examples": examples}, **json.loads(self.resolved())})

    @_once
    def receipt_job(self) -> str:
        """The study as it runs, and what its ensembles were asked to be."""
        data = [asked(self.index_job(*head)) for head in self.every_split()]
        return canonical({"inputs": {"data": data}, **json.loads(self.resolved())})
