"""The user's own files that a study names: names that Snakemake can take, and their digests."""

import glob
import re
from pathlib import Path

from pullback.study.job_params import Plan
from pullback.study.provenance import file_digest
from pullback.study.reading import StudyError
from pullback.study.workdir import refuse_future_dates

_WILDCARD = re.compile(r"\{\s*[.\w]+\s*(,[^{}]*)?\}")


def refuse_bad_names(plan: Plan, problem: str, family: str) -> None:
    """Refuse names that Snakemake takes for patterns, patterns that no file matches, and files of the future."""
    said = f"problems.{problem}.families.{family}.read"
    for split in plan.splits(problem, family):
        for shard in range(plan.shards(problem, family, split)):
            where = problem, family, split, shard
            for name in (*plan.outside_files(*where), *plan.outside_models(*where)):
                if "://" in name:
                    continue
                if found := _WILDCARD.search(name):
                    why = "Snakemake's mark of a wildcard: rename the file, or link to it under another name (ln -s)"
                    why = "a variable that is not set: set it" if f"${found[0]}" in name else why
                    raise StudyError(f"{said}: '{name}' has {found[0]} in it, {why}")
                if glob.has_magic(name) and not Path(name).exists():
                    raise StudyError(f"{said}: no file matches '{name}': correct the pattern, or list the files")
                refuse_future_dates([name])


def digests(said: str, names: list[str]) -> tuple[tuple[str, str], ...]:
    """Name and digest of the user's own files."""
    found = []
    for name in names:
        # Where packages are installed differs between machines, and reruns nothing.
        called = Path(name).name if Path(name).is_absolute() else name
        try:
            found.append((called, file_digest(Path(name))))
        except OSError as error:
            raise StudyError(
                f"{said} {name} cannot be read ({error.strerror}): correct its path, or the variable in it"
            ) from None
    return tuple(found)
