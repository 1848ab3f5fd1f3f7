"""Paths of all files of a run, the only definition for workflow, package and tests.

Each function takes values or Snakemake wildcards (``"{family}"``); all paths are relative to the working directory.
"""

from pullback.study.base import Group

RESULTS = "results"

SHARD_DIGITS = 3


def _number(value: int | str) -> str:
    return f"{value:0{SHARD_DIGITS}d}" if isinstance(value, int) else value


def shard(study: str, problem: str, family: str, split: str, shard: int | str) -> str:
    """One piece of a split, HDF5."""
    return f"{RESULTS}/{study}/ensembles/{problem}/{family}/{split}/shard-{_number(shard)}.h5"


def collisions(study: str, problem: str, family: str, split: str, shard: int | str) -> str:
    """The ROOT file with truth and reconstructed jets that one shard is read from."""
    return f"{RESULTS}/{study}/ensembles/{problem}/{family}/{split}/collisions-{_number(shard)}.root"


def ensemble(study: str, problem: str, family: str, split: str) -> str:
    """One split of one family: the index over its shards, HDF5."""
    return f"{RESULTS}/{study}/ensembles/{problem}/{family}/{split}.h5"


def warmup(study: str, problem: str) -> str:
    """The pre-flight report of a problem's simulator, written once its operator is compiled, JSON."""
    return f"{RESULTS}/{study}/ensembles/{problem}/preflight.json"


def file_checks(study: str, problem: str, family: str) -> str:
    """What is said of the files that a family is read from, JSON."""
    return f"{RESULTS}/{study}/ensembles/{problem}/{family}/files.json"


def artifact(study: str, group: Group, problem: str, name: str, seed: int | str) -> str:
    """A trained method, diffusion prior or likelihood, by the key of the problem's block that it stands under."""
    folder = "models" if group == "methods" else group
    return f"{RESULTS}/{study}/{folder}/{problem}/{name}/seed-{seed}.pt"


def curves(artifact: str) -> str:
    """The loss curves beside a trained prior, likelihood or method, CSV."""
    return artifact.removesuffix(".pt") + ".curves.csv"


def part(study: str, problem: str, method: str, infer: str, seed: int | str, family: str, part: int | str) -> str:
    """The draws for a piece of one family's events, HDF5; ``part`` as a wildcard is empty for the whole family."""
    piece = f"/part-{_number(part)}" if isinstance(part, int) else part
    return posterior(study, problem, method, infer, seed, f"{family}{piece}")


def part_number(part: str) -> int:
    """The number of a part from its wildcard: 3 from ``/part-003``, 0 from nothing."""
    return int(part.removeprefix("/part-") or 0)


def posterior(study: str, problem: str, method: str, infer: str, seed: int | str, family: str) -> str:
    """The draws for one family, HDF5: the index over its parts, or the draws themselves when they are in one part."""
    return f"{RESULTS}/{study}/posteriors/{problem}/{method}/{infer}/seed-{seed}/{family}.h5"


def state(study: str, problem: str, method: str, infer: str, seed: int | str, family: str) -> str:
    """The states of one family's sets, shared by the parts of an inference."""
    return f"{RESULTS}/{study}/states/{problem}/{method}/{infer}/seed-{seed}/{family}.pt"


def unfolded(study: str, problem: str, method: str, infer: str, seed: int | str, family: str) -> str:
    """The unfolded truth distribution of one family, HDF5."""
    return f"{RESULTS}/{study}/unfolded/{problem}/{method}/{infer}/seed-{seed}/{family}.h5"


def metrics(study: str, problem: str, method: str) -> str:
    """The tidy table of one method on one problem, CSV."""
    return f"{RESULTS}/{study}/metrics/{problem}/{method}.csv"


def cost(study: str, problem: str, method: str) -> str:
    """What the inferences of one method cost, CSV."""
    return f"{RESULTS}/{study}/metrics/{problem}/{method}.cost.csv"


def figures(study: str, problem: str, method: str) -> str:
    """Arrays that the report draws for one method: example posteriors, spectra, HDF5."""
    return f"{RESULTS}/{study}/metrics/{problem}/{method}.examples.h5"


def budget(study: str, problem: str) -> str:
    """The uncertainty budgets of one problem's unfolded distributions, HDF5."""
    return f"{RESULTS}/{study}/uncertainties/{problem}.h5"


def budget_table(study: str, problem: str) -> str:
    """The same as a table, CSV."""
    return f"{RESULTS}/{study}/uncertainties/{problem}.csv"


def report(study: str) -> str:
    """The page."""
    return f"{RESULTS}/{study}/report/index.html"


def table(study: str) -> str:
    """All metrics of a study in one table, CSV."""
    return f"{RESULTS}/{study}/report/metrics.csv"


def seeds(study: str) -> str:
    """All metrics of a study as means over its seeds, CSV."""
    return f"{RESULTS}/{study}/report/seeds.csv"


def drawn(study: str) -> str:
    """What the study's own figures show, CSV."""
    return f"{RESULTS}/{study}/report/figures.csv"


def resolved(study: str, digest: str) -> str:
    """The study as it ran, every default filled in, JSON; the digest of that text is in the name."""
    return f"{RESULTS}/{study}/study-{digest}.json"


def receipt(study: str) -> str:
    """The receipt: config, versions, digests, seeds, device, JSON."""
    return f"{RESULTS}/{study}/receipt.json"


def checkpoints(artifact: str) -> str:
    """Folder of the checkpoints of a long rule: undeclared, so that they survive a failed job."""
    return artifact.replace(f"{RESULTS}/", f"{RESULTS}/.checkpoints/", 1).rpartition(".")[0]


def log(path: str) -> str:
    """The log of the job that makes ``path``; ``logs/`` mirrors the results."""
    return _mirror(path, "logs") + ".log"


def benchmark(path: str) -> str:
    """The benchmark record of the job that makes ``path``."""
    return _mirror(path, "benchmarks") + ".jsonl"


def _mirror(path: str, folder: str) -> str:
    head, study, rest = path.split("/", 2)
    return f"{head}/{study}/{folder}/{rest.rpartition('.')[0]}"
