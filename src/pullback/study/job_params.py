"""The parameters of each job of a study.

A job gets exactly the part of the study that its result depends on, as one canonical JSON text: editing a key of the
study reruns the jobs whose text it changes, and no other.

The text also contains, under ``inputs``, the digest of the job that makes each of the files that the job reads. A file
stores the digest of its own job, so that readers detect files of an older config (`pullback.ensembles.stale_files`).
The digests are chained: a changed noise level of the simulator changes the digest of every metric that depends on it.
"""

import json
from typing import Any, cast

from pullback import registry
from pullback.core.once import once
from pullback.study.base import Group, Split, canonical, job_digest
from pullback.study.kinds import SimulatorSettings
from pullback.study.layout import Layout
from pullback.study.shifts import SimulatorShift


class Plan(Layout):
    """The jobs of a study: the parameters of each, in addition to the layout.

    A text is kept: the rules ask several times, and every job that reads its file asks for its digest.
    """

    def _problem(self, problem: str) -> dict[str, Any]:
        spec = self.study.problems[problem]
        entry: dict[str, Any] = {"kind": spec.kind, "simulator": spec.simulator_values}
        if spec.spec.uses_folder(spec.simulator) or registry.is_path(spec.kind):
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

    @once
    def preflight_job(self, problem: str) -> str:
        """Checks and compilation of a simulator."""
        return canonical(self._problem(problem))

    @once
    def simulate_job(self, problem: str, family: str, split: str, shard: int) -> str:
        """One shard: ``events`` events in blocks from ``first_block`` on; the last of the split may be short."""
        spec = self.family(problem, family)
        events, block = self.events(problem, family, split)
        per_shard = self.blocks_per_shard(problem, block)
        first = shard * per_shard
        job, settings = self._base_job(problem, family, split), self.study.problems[problem].simulator
        if self.source(problem, family) == "collide" and isinstance(settings, SimulatorSettings):
            job["simulator"] = settings.of_files.model_dump(mode="json")
        return canonical(
            {
                **job,
                "params": self.params(problem, family, split),
                "sweep": spec.sweep is not None,
                "block": block,
                "first_block": first,
                "events": min(events - first * block, per_shard * block),
            }
        )

    @once
    def derive_job(self, problem: str, family: str) -> str:
        """Another family's test observations, shifted or without their truth."""
        spec = self.family(problem, family)
        shift = spec.shift.model_dump(mode="json") if spec.shift else None
        base = self.base(problem, family)
        # What is simulated again may be drawn again too: the prior's parameters, and how its draws are addressed.
        again = {"params": self.params(problem, base, "test"), "block": self.block(problem)}
        return canonical(
            {
                **self._base_job(problem, family, "test"),
                **(again if isinstance(spec.shift, SimulatorShift) else {}),
                "inputs": {"base": [job_digest(self.index_job(problem, base, "test"))]},
                "base": base,
                "shift": shift,
                "truth": spec.role != "observed",
            }
        )

    @once
    def read_job(self, problem: str, family: str, split: str, shard: int) -> str:
        """The reading of outside files into one shard, or of the file that `collide` wrote for it."""
        spec, reader = self.family(problem, family), self.reader(problem, family)
        assert reader is not None
        cut, truth, named = self.files_of_shard(problem, family, shard), spec.role != "observed", cast(Split, split)
        job: dict[str, Any] = {
            **self._base_job(problem, family, split),
            "inputs": {},
            "files": reader.files.get(named, [])[cut],
            "models": reader.model_files(named)[cut] if truth else [],
            "first_file": cut.start,
            "read": reader.model_dump(mode="json", exclude=set(reader.NAMED)),
            "truth": truth,
        }
        if reader.scale == "fit":
            first = self.splits(problem, family)[0]
            job["pairs"] = [*reader.files[first][:1], *reader.model_files(first)[:1]]
        if named in reader.entries:
            job["entries"] = list(reader.entries[named])
        if spec.read is None:
            job["inputs"] = {"files": [job_digest(self.simulate_job(problem, family, split, shard))]}
        if registry.is_path(reader.kind):
            job["folder"] = self.folder
        return canonical(job)

    @once
    def check_files_job(self, problem: str, family: str) -> str:
        """The comparison of a family that is read with the simulator and, unless it is one, the seen families."""
        spec = self.family(problem, family)
        assert spec.read is not None
        shards = [
            job_digest(self.read_job(problem, family, split, shard))
            for split in self.splits(problem, family)
            for shard in range(self.shards(problem, family, split))
        ]
        seen = [] if spec.role == "seen" else self._digests_of_seen(problem, "train")
        return canonical(
            {
                **self._problem(problem),
                "inputs": {"shards": shards, "seen": seen},
                "problem": problem,
                "family": family,
                "own_forward": spec.has_own_forward,
                "tolerance": spec.read.tolerance,
            }
        )

    def shard_job(self, problem: str, family: str, split: str, shard: int) -> str:
        """The job that makes one shard, whichever rule it is of."""
        source = self.source(problem, family)
        if source == "derive":
            return self.derive_job(problem, family)
        job = self.simulate_job if source == "simulate" else self.read_job
        return job(problem, family, split, shard)

    @once
    def index_job(self, problem: str, family: str, split: str) -> str:
        """Names that an index carries."""
        spec = self.family(problem, family)
        shards = range(self.shards(problem, family, split))
        return canonical(
            {
                "inputs": {"shards": [job_digest(self.shard_job(problem, family, split, i)) for i in shards]},
                "study": self.study.study,
                "problem": problem,
                "family": family,
                "split": split,
                "role": spec.role,
            }
        )

    def _digests_of_seen(self, problem: str, split: Split) -> list[str]:
        return [job_digest(self.index_job(problem, family, split)) for family in self.seen_with(problem, split)]

    def _learn_job(self, problem: str, group: Group, name: str, seed: int) -> dict[str, Any]:
        kind = getattr(self.study.problems[problem], group)[name].kind
        return {
            "address": [self.study.seed, problem, name, seed],
            "problem": self._problem(problem),
            "threads": self.study.threads,
            "accelerator": self.study.accelerator,
            "group": group,
            **({"folder": self.folder} if registry.is_path(kind) else {}),
        }

    @once
    def train_job(self, problem: str, group: Group, name: str, seed: int) -> str:
        """Training of one method, prior or likelihood: everything of its instance but `infer`."""
        spec = getattr(self.study.problems[problem], group)[name]
        splits: tuple[Split, ...] = ("train", "validation")
        inputs = {
            split: [
                job_digest(self.index_job(problem, family, split))
                for family in self.learned_from(problem, group, name, split)
            ]
            for split in splits
        }
        job = {
            **self._learn_job(problem, group, name, seed),
            "inputs": inputs,
            "method": spec.model_dump(mode="json", exclude={"infer"}),
        }
        if group == "priors" and spec.uses_prior_params:
            families = self.learned_from(problem, group, name, "train")
            job["params"] = {family: self.params(problem, family, "train") for family in families}
        return canonical(job)

    def _answer_job(self, problem: str, method: str, infer: str, seed: int, family: str) -> dict[str, Any]:
        """What the jobs of one inference on one family have in common."""
        spec = self.study.problems[problem].methods[method]
        prior = self.prior(problem, method)
        likelihood = self.likelihood(problem, method, infer)
        inputs = {
            "ensemble": [job_digest(self.index_job(problem, family, "test"))],
            "artifact": [job_digest(self.train_job(problem, "methods", method, seed))] if spec.trains else [],
            "prior": [job_digest(self.train_job(prior[0], "priors", prior[1], seed))] if prior else [],
            "likelihood": [job_digest(self.train_job(problem, "likelihoods", likelihood, seed))] if likelihood else [],
            "seen": self._digests_of_seen(problem, "train") if self.answers_from_pairs(problem, method) else [],
            "reference": [job_digest(self.index_job(*head)) for head in self.reference(problem, method, family)],
        }
        job = {
            **self._learn_job(problem, "methods", method, seed),
            "inputs": inputs,
            "method": spec.model_dump(mode="json", exclude={"infer", "train"}),
            "infer_name": infer,
            "infer": spec.infer[infer].model_dump(mode="json", exclude={"families", "parts"}),
            "family": family,
        }
        if spec.uses_prior_params:
            job["params"] = self.params(problem, self.base(problem, family), "test")
        return job

    @once
    def condition_job(self, problem: str, method: str, infer: str, seed: int, family: str) -> str:
        """Conditioning on one family's sets, where it is a separate job; without settings of sampling."""
        job = self._answer_job(problem, method, infer, seed, family)
        apart = self.study.problems[problem].methods[method].infer[infer].sampling_only
        job["infer"] = {key: value for key, value in job["infer"].items() if key not in apart}
        return canonical(job)

    def _conditioned_job(self, problem: str, method: str, infer: str, seed: int, family: str) -> dict[str, Any]:
        job = self._answer_job(problem, method, infer, seed, family)
        if self.costly(problem, method, infer):
            job["inputs"]["state"] = [job_digest(self.condition_job(problem, method, infer, seed, family))]
        return job

    @once
    def infer_job(self, problem: str, method: str, infer: str, seed: int, family: str, part: int) -> str:
        """Inference for one piece of one family."""
        job = self._conditioned_job(problem, method, infer, seed, family)
        return canonical({**job, "part": part, "parts": self.parts(problem, method, infer)})

    @once
    def unfold_job(self, problem: str, method: str, infer: str, seed: int, family: str) -> str:
        """The truth distribution of one family."""
        job = self._conditioned_job(problem, method, infer, seed, family)
        return canonical({**job, "samples": self.study.problems[problem].methods[method].samples})

    @once
    def index_posterior_job(self, problem: str, method: str, infer: str, seed: int, family: str) -> str:
        """Names that a posterior's index carries."""
        parts = range(self.parts(problem, method, infer))
        return canonical(
            {
                "inputs": {
                    "parts": [job_digest(self.infer_job(problem, method, infer, seed, family, i)) for i in parts]
                },
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

    @once
    def evaluate_job(self, problem: str, method: str) -> str:
        """Evaluation of one method on one problem: all its inferences, seeds and families.

        ``results`` lists, in the order of the inputs, the (infer, seed, family) of each posterior, and ``unfolded``
        those of each unfolded distribution, where there are any.
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
        for name in families:
            if not self.family(problem, self.base(problem, name)).has_own_forward:
                families[name]["own_forward"] = False
        for name in families if self._compares_with_exact(problem) else ():
            base = self.base(problem, name)
            # Nobody knows the parameters of outside files.
            if self.family(problem, base).read is None:
                families[name]["params"] = self.params(problem, base, "test")
        results, unfolded = self.results(problem, method), self.unfolded(problem, method)
        evaluation = self.study.problems[problem].evaluation
        inputs = {
            "posteriors": [job_digest(self.posterior_job(problem, method, *result)) for result in results],
            "ensembles": [job_digest(self.index_job(problem, family, "test")) for family in families],
            "references": [
                job_digest(self.index_job(problem, family, "reference")) for family in self.floors(problem, method)
            ],
            "seen": self._digests_of_seen(problem, "train"),
        }
        more = {}
        if unfolded:
            inputs["unfolded"] = [job_digest(self.unfold_job(problem, method, *result)) for result in unfolded]
            more["unfolded"] = [list(result) for result in unfolded]
        return canonical(
            {
                **more,
                "inputs": inputs,
                **({"folder": self.folder} if evaluation.metrics else {}),
                "study": self.study.study,
                "seed": self.study.seed,
                "problem_name": problem,
                "problem": self._problem(problem),
                "method": method,
                "method_kind": spec.kind,
                "returns": spec.returns,
                "families": families,
                "results": [[infer, seed, family] for infer, seed, family in results],
                "evaluation": evaluation.model_dump(mode="json", exclude={"headline"}),
            }
        )

    @once
    def budget_job(self, problem: str) -> str:
        """The uncertainty budgets of one problem: for each family and source, which of the results."""
        spec, results = self.study.problems[problem], self.budget_results(problem)
        asked = spec.uncertainties
        assert asked is not None
        budgets = self.budgets(problem)
        families = list(dict.fromkeys(family for *_, family in results))

        def made_by(method: str, infer: str, seed: int, family: str) -> str:
            job = self.posterior_job if spec.methods[method].samples else self.unfold_job
            return job_digest(job(problem, method, infer, seed, family))

        return canonical(
            {
                "inputs": {
                    "results": [made_by(*result) for result in results],
                    "ensembles": [job_digest(self.index_job(problem, family, "test")) for family in families],
                },
                "study": self.study.study,
                "problem": problem,
                "method": asked.method,
                "infer": asked.infer or next(iter(spec.methods[asked.method].infer)),
                "bins": asked.bins,
                "budgets": {
                    family: {name: [results.index(result) for result in each] for name, each in sources.items()}
                    for family, sources in budgets.items()
                },
                "families": [family for *_, family in results],
                "known": {family: self.family(problem, family).role != "observed" for family in budgets},
                "seeds": [name for name, source in asked.sources.items() if source.seeds_of],
            }
        )

    def _compares_with_exact(self, problem: str) -> bool:
        """Whether evaluation draws from the exact posterior, and so is told the parameters of families."""
        evaluation = self.study.problems[problem].evaluation
        asked_for = evaluation.exact_events or evaluation.c2st_events
        return bool(asked_for) and "exact-posterior" in self.gives(problem)

    @once
    def resolved(self) -> str:
        """The study as it runs, with every default filled in, and the folder of its file."""
        return canonical({"folder": self.folder, "study": self.study.model_dump(mode="json")})

    @once
    def report_job(self) -> str:
        """The study as it runs, and the digests of the jobs of the examples and of the uncertainty budgets."""
        inputs = {
            "examples": [job_digest(self.evaluate_job(*pair)) for pair in self.every_method()],
            "budgets": [job_digest(self.budget_job(problem)) for problem in self.budgeted()],
        }
        return canonical({"inputs": inputs, **json.loads(self.resolved())})

    @once
    def receipt_job(self) -> str:
        """The study as it runs, and the digests of the jobs of its ensembles."""
        data = [job_digest(self.index_job(*head)) for head in self.every_split()]
        return canonical({"inputs": {"data": data}, **json.loads(self.resolved())})
