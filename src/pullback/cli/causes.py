"""Why a job would run: the keys, code and files that differ from what is recorded of its last run."""

import ast
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pullback.cli.common import count, tally
from pullback.cli.dryrun import Job
from pullback.cli.lines import Key, Lines
from pullback.study.job_params import Plan
from pullback.study.paths import RESULTS
from pullback.study.provenance import SCRIPTS, file_of

ABSENT = object()
NAMES = 5
"""Most files that are named under one cause."""


class Cause(NamedTuple):
    """One reason. Causes with the same ``what`` are one, and their ``names`` are said together.

    Attributes:
        kind: ``key``, ``code``, ``file`` or ``made``.
        what: what happened: ``2600 -> 3000 (config/config.yaml:41)``, or a file.
        name: the key, or the definition in the file.
    """

    kind: str
    what: str
    name: str = ""


@dataclass
class Group:
    """One cause, the jobs that it concerns itself, and those that follow from them (numbers of jobs)."""

    kind: str
    what: str
    names: dict[str, None] = field(default_factory=dict)
    jobs: list[int] = field(default_factory=list)
    follow: list[int] = field(default_factory=list)

    def headline(self) -> str:
        """The cause in one line."""
        names = [name for name in self.names if name]
        if self.kind == "key":
            return f"{', '.join(names)}: {self.what}"
        if len(names) > NAMES:
            names[NAMES:] = [f"and {len(names) - NAMES} more"]
        return f"{self.what}: {', '.join(names)}" if names else self.what


class Why:
    """The causes of the jobs that would run.

    Args:
        jobs: `dry_run`.
        plan: the study's plan.
        lines: the places of its keys.
    """

    def __init__(self, jobs: Sequence[Job], plan: Plan, lines: Lines):
        self.jobs, self.plan, self.lines = jobs, plan, lines
        self.now = plan.study.model_dump(mode="json")
        self.before = self._last_study()
        self.causes = {number: list(self._causes(job)) for number, job in enumerate(jobs) if job.runs}

    def groups(self) -> list[Group]:
        """Every cause once, in the order of the first job that it concerns."""
        found: dict[tuple[str, str], Group] = {}
        for number, causes in self.causes.items():
            for cause in causes:
                group = found.setdefault((cause.kind, cause.what), Group(cause.kind, cause.what))
                group.names[cause.name] = None
                if group.jobs[-1:] != [number]:
                    group.jobs.append(number)
        for group in found.values():
            reached = set(group.jobs)
            for number, job in enumerate(self.jobs):
                if job.runs and number not in reached and not reached.isdisjoint(job.after):
                    reached.add(number)
                    if not self.causes[number]:
                        group.follow.append(number)
        return list(found.values())

    def without_record(self) -> list[Job]:
        """Jobs whose results are there and whose record is not: only dates are compared."""
        return [job for job in self.jobs if not job.missing and job.old_params is None]

    def not_needed(self) -> list[str]:
        """Results that are not there and that nothing asks for, because what was made from them is there."""
        return [name for job in self.jobs if not job.runs for name in job.missing]

    def _last_study(self) -> dict[str, Any] | None:
        """The study as it was when its page or receipt was written, if one is recorded."""
        for job in self.jobs:
            study = _decoded(job.old_params or ())[0].get("study")
            if isinstance(study, dict):
                return study
        return None

    def _causes(self, job: Job) -> Iterator[Cause]:
        causes = []
        if job.incomplete:
            causes.append(Cause("made", "left unfinished by a run that was killed (snakemake --rerun-incomplete)"))
        if job.missing:
            causes += self._missing(job)
        causes += [self._newer(name) for name in job.newer]
        if job.environment:
            causes.append(Cause("file", "the software environment changed"))
        if job.old_params is not None and set(job.missing) != set(job.outputs):
            causes += self._changed_params(job, job.old_params)
        if not causes and not any(self.jobs[number].runs for number in job.after):
            causes += list(_changed_inputs(job)) or [Cause("file", "snakemake gives no reason that is recorded")]
        yield from causes

    def _missing(self, job: Job) -> Iterator[Cause]:
        if job.old_params is not None:
            yield Cause("made", "made before, and not there any more", ", ".join(job.missing))
            return
        if self.before is not None and "study" in _decoded(job.params)[0] and "problem" not in job.wildcards:
            new = [self._key(path, old, now) for path, old, now in differences(self.before, self.now)]
        else:
            new = list(self._new_keys(job))
        yield from new or [Cause("made", "not made yet")]

    def _new_keys(self, job: Job) -> Iterator[Cause]:
        """Keys that were not in the last study, or had another value, for a job that it had no place for."""
        if self.before is None:
            return
        for key in _keys_of_place(job):
            old, now = _get(self.before, key), _get(self.now, key)
            if old is ABSENT and now is not ABSENT:
                yield self._key(key, ABSENT, now)
                return
        for key in (*_keys_of_number(job), *_keys_of_size(job)):
            old, now = _get(self.before, key), _get(self.now, key)
            if old != now:
                yield self._key(key, old, now)

    def _newer(self, name: str) -> Cause:
        if name.startswith(f"{RESULTS}/"):
            return Cause("file", "newer than what was made from it (copied, or changed by hand)", name)
        return Cause("file", "an outside file is newer than what was made from it", name)

    def _changed_params(self, job: Job, recorded: tuple[str, ...]) -> Iterator[Cause]:
        old, old_code, old_other = _decoded(recorded)
        now, now_code, other = _decoded(job.params)
        # What its inputs were asked to be: where that changed, the jobs that make them run too, and this one follows.
        asked = old.pop("inputs", None) == now.pop("inputs", None)
        if old and now:
            for path, before, after in differences(old, now):
                yield from self._change_of_study(job, path, before, after)
        if old_code and now_code:
            yield from _changed_code(old_code, now_code)
        elif now_code and not old_code:
            yield Cause("code", "the record of its code is of an older pullback and says no details")
        if not old and now:
            yield Cause("code", "the record of its settings is of an older pullback and says no details")
        if set(old_other) != set(other):
            # The receipt's is the digest of the lock.
            what = "the lock of the environment changed" if job.rule == "receipt" else "params of its rule changed"
            yield Cause("file", what, "envs/requirements.lock" if job.rule == "receipt" else job.rule)
        same = old == now and old_code == now_code and set(old_other) == set(other)
        if same and not asked and not any(self.jobs[number].runs for number in job.after):
            yield Cause("code", "what its inputs were asked to be changed")

    def _change_of_study(self, job: Job, path: Key, old: Any, now: Any) -> Iterator[Cause]:
        if path[0] in ("block", "first_block", "events", "shard"):
            sizes = [key for key in _keys_of_size(job) if self.before and _get(self.before, key) != _get(self.now, key)]
            for key in sizes:
                yield self._key(key, _get(self.before, key), _get(self.now, key))
            if not sizes:
                near = next(key for key in (*_keys_of_size(job), ()) if self.lines.has(key))
                what = f"{path[0]} of a shard {_short(old)} -> {_short(now)} {self.lines.say(near)}"
                yield Cause("key", what, ".".join(near) or "sizes")
            return
        if path[0] == "address":
            old, now = old[0], now[0]
        source = study_key(job, path, self.plan)
        if source is None:
            yield Cause("key", f"{_short(old)} -> {_short(now)}", f"{'.'.join(path)} in the job")
        elif path in (("results",), ("unfolded",)):
            # The list of posteriors that are judged follows from several keys.
            yield from self._results(job, source, old, now)
        else:
            yield self._key(source, old, now)

    def _results(self, job: Job, key: Key, old: Any, now: Any) -> Iterator[Cause]:
        problem = ("problems", job.wildcards["problem"])
        changed = []
        if self.before is not None:
            for path, before, after in differences(self.before, self.now):
                in_families = path[:3] == (*problem, "families") and (
                    ABSENT in (before, after) or path[4:] == ("role",)
                )
                if path == ("seeds",) or path[:5] == key or in_families:
                    changed.append(self._key(path, before, after))
        yield from changed or [Cause("key", f"{len(old)} -> {count(len(now), 'result')}", ".".join(key))]

    def _key(self, key: Key, old: Any, now: Any) -> Cause:
        if old is ABSENT:
            change = "new"
        elif now is ABSENT:
            change = "removed"
        else:
            change = f"{_short(old)} -> {_short(now)}"
        return Cause("key", f"{change} {self.lines.say(key)}" if now is not ABSENT else change, ".".join(key))


def differences(old: Any, new: Any, path: Key = ()) -> Iterator[tuple[Key, Any, Any]]:
    """What differs between two records: the names that lead there, the value before and now (or ABSENT).

    Options of another kind are another thing: there only the kind is said.
    """
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield path, old, new
        return
    if "kind" in old and "kind" in new and old["kind"] != new["kind"]:
        yield (*path, "kind"), old["kind"], new["kind"]
        return
    for key in dict.fromkeys([*old, *new]):
        if key in old and key in new:
            yield from differences(old[key], new[key], (*path, key))
        else:
            yield (*path, key), old.get(key, ABSENT), new.get(key, ABSENT)


def study_key(job: Job, path: Key, plan: Plan) -> Key | None:
    """The key of the study that a value in a job's text comes from; None where there is no single one."""
    names = job.wildcards
    if path[0] == "study" and path[1:]:
        return path[1:]
    if "problem" not in names:
        return None
    problem = ("problems", names["problem"])
    family = (*problem, "families", names.get("family", ""))
    learned = job.rule if job.rule in ("prior", "likelihood") else "method"
    method = (*problem, f"{learned}s", names.get(learned, ""))
    infer = (*method, "infer", names.get("infer", ""))
    head, rest = path[0], path[1:]
    if head == "problem" and rest:
        head, rest = rest[0], rest[1:]
    if head == "params" and job.rule in ("condition", "infer", "unfold"):
        family = (*problem, "families", plan.base(names["problem"], names["family"]))
    places: dict[str, Key] = {
        "seed": ("seed",),
        "address": ("seed",),
        "threads": ("threads",),
        "accelerator": ("accelerator",),
        "kind": (*problem, "kind"),
        "simulator": (*problem, "simulator", *rest),
        "evaluation": (*problem, "evaluation", *rest),
        "families": (*problem, "families", *rest),
        "method": (*method, *rest),
        "method_kind": (*method, "kind"),
        "results": (*method, "infer"),
        "unfolded": (*method, "infer"),
        "infer": (*infer, *rest),
        "parts": (*infer, "parts"),
        "params": (*family, "params", *rest),
        "sweep": (*family, "sweep"),
        "shift": (*family, "shift", *rest),
        "read": (*family, "read", *rest),
        "file": (*family, "read", "files"),
        "role": (*family, "role"),
        "truth": (*family, "role"),
        "base": (*family, "events_from"),
    }
    return places.get(head)


def _keys_of_place(job: Job) -> Iterator[Key]:
    """The keys that give a job its place in the study, from the outside in."""
    names = job.wildcards
    if "problem" not in names:
        return
    problem = ("problems", names["problem"])
    yield problem
    if "prior" in names:
        yield (*problem, "priors", names["prior"])
    if "likelihood" in names:
        yield (*problem, "likelihoods", names["likelihood"])
    if "method" in names:
        yield (*problem, "methods", names["method"])
    if "infer" in names:
        yield (*problem, "methods", names["method"], "infer", names["infer"])
    if "family" in names:
        yield (*problem, "families", names["family"])


def _keys_of_number(job: Job) -> Iterator[Key]:
    """The keys that say how many of its kind there are, and for which families."""
    names = job.wildcards
    if "seed" in names:
        yield ("seeds",)
    if "infer" in names:
        infer = ("problems", names["problem"], "methods", names["method"], "infer", names["infer"])
        yield (*infer, "parts")
        yield (*infer, "families")
    elif "family" in names:
        family = ("problems", names["problem"], "families", names["family"])
        for key in ("role", "events_from", "read", "fallback"):
            yield (*family, key)


def _keys_of_size(job: Job) -> Iterator[Key]:
    """The keys that say how many events there are, and how they are cut; the more special first."""
    names = job.wildcards
    if "split" not in names:
        return
    problem = ("problems", names["problem"])
    family = (*problem, "families", names["family"])
    yield (*family, "events", names["split"])
    for key in ("ensembles", "validation_ensembles", "events"):
        yield (*family, "sweep", key)
    yield (*problem, "size", names["split"])
    yield (*problem, "size", "shard")
    yield (*problem, "simulator", "block")
    yield (*problem, "simulator", "block")


def _get(tree: Any, key: Key) -> Any:
    for name in key:
        if not isinstance(tree, dict) or name not in tree:
            return ABSENT
        tree = tree[name]
    return tree


def _decoded(params: Iterable[str]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """The job, the code and what else there is among params as Snakemake records them."""
    job: dict[str, Any] = {}
    code: dict[str, str] = {}
    other: list[str] = []
    for text in params:
        value = _value(text)
        if not isinstance(value, dict):
            other.append(text)
        elif any(name.startswith(f"{SCRIPTS}/") for name in value):
            code = value
        else:
            job = dict(value)
    return job, code, other


@cache
def _value(text: str) -> Any:
    """What a recorded param holds, where it is JSON. Thousands of jobs have few different lists of code."""
    try:
        return json.loads(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError):
        return None


def _changed_code(old: dict[str, str], now: dict[str, str]) -> Iterator[Cause]:
    for name in sorted(old.keys() | now.keys()):
        if old.get(name) == now.get(name):
            continue
        path = file_of(name)
        file = _near(path) if path else name
        how = "changed" if name in old and name in now else "newly used" if name in now else "no longer used"
        definition = name.partition(":")[2]
        yield Cause("code", f"code: {file} {how}", definition)


def _near(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _changed_inputs(job: Job) -> Iterator[Cause]:
    if job.old_inputs is None:
        return
    before, after = set(job.old_inputs), set(job.inputs)
    changes = [f"+ {name}" for name in sorted(after - before)] + [f"- {name}" for name in sorted(before - after)]
    if changes:
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        yield Cause("file", f"its inputs are others now: {', '.join(changes[:3])}{more}")


def _short(value: Any) -> str:
    if value is ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 48 else text[:45] + "..."


def rules_of(jobs: Sequence[Job], numbers: Iterable[int]) -> str:
    """``3 jobs: train 1, report 1, receipt 1``."""
    rules = [jobs[number].rule for number in numbers]
    return f"{count(sum(Counter(rules).values()), 'job')}: {tally(rules)}"
