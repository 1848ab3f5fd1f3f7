"""Why a job would run: the keys, code and files that differ from what is recorded of its last run.

Snakemake's record of the page holds the whole study, so the edits since then are known as keys with their values. An
edit is a cause of a job when it concerns the job's place in the study, and the same values differ in the job's params.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pullback.cli.common import count, tally
from pullback.cli.dryrun import Job, Params
from pullback.cli.lines import Key, Lines
from pullback.study.job_params import Plan
from pullback.study.paths import RESULTS
from pullback.study.provenance import file_of

ABSENT = object()
NAMES = 5
"""Most files that are named under one cause."""
BLOCKS = {"families": "family", "methods": "method", "priors": "prior", "likelihoods": "likelihood"}
"""Key of a problem's block -> the wildcard that holds a name in it."""


class Cause(NamedTuple):
    """One reason. Causes with the same ``what`` are merged, with all their ``names``.

    Attributes:
        kind: ``key``, ``code``, ``file`` or ``made``.
        what: what happened: ``2600 -> 3000 (config/config.yaml:41)``, or a file.
        name: the key, or the file.
    """

    kind: str
    what: str
    name: str = ""


class Edit(NamedTuple):
    """A key of the study with its value in the last run and now (or ABSENT)."""

    key: Key
    old: Any
    now: Any


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
        before = next(
            (job.old.job["study"] for job in jobs if job.old and "study" in job.old.job and job.is_page), None
        )
        now = plan.study.model_dump(mode="json")
        self.edits = [Edit(*edit) for edit in differences(before, now)] if before else []
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
        return [job for job in self.jobs if not job.missing and job.old is None]

    def not_needed(self) -> list[str]:
        """Missing results that are not needed, because everything made from them exists."""
        return [name for job in self.jobs if not job.runs for name in job.missing]

    def _causes(self, job: Job) -> Iterator[Cause]:
        causes = []
        if job.incomplete:
            causes.append(Cause("made", "left unfinished by a run that was killed (snakemake --rerun-incomplete)"))
        if job.missing and job.old is not None:
            causes.append(Cause("made", "made before, and not there any more", ", ".join(job.missing)))
        elif job.missing:
            new = [self._key(edit) for edit in self.edits if self._concerns(edit.key, job)]
            causes += new or [Cause("made", "not made yet")]
        causes += [_newer(name) for name in job.newer]
        if job.environment:
            causes.append(Cause("file", "the software environment changed"))
        if job.old is not None and set(job.missing) != set(job.outputs):
            causes += self._changed_params(job, job.old)
        if not causes and not any(self.jobs[number].runs for number in job.after):
            causes += list(_changed_inputs(job)) or [Cause("file", "snakemake gives no reason that is recorded")]
        yield from causes

    def _changed_params(self, job: Job, old: Params) -> Iterator[Cause]:
        # Where its inputs were asked to be others, the jobs that make them run too, and this one follows.
        unexplained = [Edit(*edit) for edit in differences(old.job, job.params.job) if edit[0][0] != "inputs"]
        concerned = [edit for edit in self.edits if self._concerns(edit.key, job)]
        exact = [edit for edit in concerned if any(_is_same(edit, other) for other in unexplained)]
        unexplained = [edit for edit in unexplained if not any(_is_same(other, edit) for other in exact)]
        others = [edit for edit in concerned if edit not in exact] if unexplained else []
        yield from (self._key(edit) for edit in (*exact, *others))
        if not others:
            for key, before, now in unexplained:
                yield Cause("key", f"{_short(before)} -> {_short(now)}", f"{'.'.join(key)} in the job")
        for name in sorted(old.code.keys() | job.params.code.keys()):
            before, now = old.code.get(name), job.params.code.get(name)
            if before != now:
                path = file_of(name)
                how = "changed" if before and now else "newly used" if now else "no longer used"
                yield Cause("code", f"code: {_near(path) if path else name} {how}")
        if old.other != job.params.other:
            # The receipt's is the digest of the lock.
            is_lock = job.rule == "receipt"
            what = "the lock of the environment changed" if is_lock else "params of its rule changed"
            yield Cause("file", what, "envs/requirements.lock" if is_lock else job.rule)
        if old.job.keys() != job.params.job.keys() and not old.job:
            yield Cause("code", "the record of its settings is of an older pullback and says no details")

    def _concerns(self, key: Key, job: Job) -> bool:
        """Whether a key of the study can change the params of a job, by the job's place and the parts of its text."""
        names, text = job.wildcards, job.params.job
        if job.is_page:
            return True
        if key[0] != "problems":
            if key[0] == "seeds":
                return "seed" in names or "results" in text
            return key[0] in text or (key[0] == "seed" and "address" in text)
        if names.get("problem") != key[1]:
            return False
        match key[2:]:
            case ("size", *_):
                return "split" in names
            case ("evaluation", *_):
                return "evaluation" in text
            case ("families", family, *_) if "family" in names:
                return family in (names["family"], self.plan.base(names["problem"], names["family"]))
            case ("families", *_):
                return "families" in text
            case ("methods", method, "infer", infer, *_):
                return names.get("method") == method and names.get("infer", infer) == infer and job.rule != "train"
            case (("methods" | "priors" | "likelihoods") as block, name, *_):
                return names.get(BLOCKS[block]) == name
        return True

    def _key(self, edit: Edit) -> Cause:
        name = ".".join(edit.key)
        if edit.now is ABSENT:
            return Cause("key", "removed", name)
        change = "new" if edit.old is ABSENT else f"{_short(edit.old)} -> {_short(edit.now)}"
        return Cause("key", f"{change} {self.lines.say(edit.key)}", name)


def differences(old: Any, new: Any, path: Key = ()) -> Iterator[tuple[Key, Any, Any]]:
    """What differs between two records: the names that lead there, the value before and now (or ABSENT).

    Where the kind changed, only the kind is listed.
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


def _is_same(edit: Edit, other: Edit) -> bool:
    """Whether an edit of the study is what differs in a job: the same last name and the same values."""
    return edit.key[-1:] == other.key[-1:] and (edit.old, edit.now) == (other.old, other.now)


def _newer(name: str) -> Cause:
    if name.startswith(f"{RESULTS}/"):
        return Cause("file", "newer than what was made from it (copied, or changed by hand)", name)
    return Cause("file", "an outside file is newer than what was made from it", name)


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
