"""Running studies through the private SLURM with the repository's own profile, and beside it without SLURM."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cluster import Cluster

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 1800
"""Something hangs, on however busy a machine."""
Profile = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One job as squeue shows it."""

    id: str
    partition: str
    state: str
    rule: str


def shipped() -> Profile:
    """profiles/slurm."""
    return yaml.safe_load((REPOSITORY / "profiles/slurm/profile.yaml").read_text())


def write_study(folder: Path, study: dict[str, Any]) -> None:
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def default_study(*problems: str) -> dict[str, Any]:
    """The default study with some of its problems; on the processor, as no test has the GPUs that it is given."""
    study = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    study |= {"study": "study", "accelerator": "cpu"}
    study["problems"] = {name: study["problems"][name] for name in problems}
    return study


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}


def _command(*arguments: str | Path) -> list[str]:
    program, snakefile = str(Path(__file__).with_name("often.py")), str(REPOSITORY / "Snakefile")
    return [sys.executable, program, "-s", snakefile, "--configfile", "study.yaml", *map(str, arguments)]


def run_here(folder: Path, *arguments: str) -> None:
    """Run a study on this machine, without SLURM, in the time that others leave."""
    done = subprocess.run(
        ["nice", *_command("--cores", "2", *arguments)],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def copy(source: Path, target: Path) -> Path:
    """A folder in which some of a study has run, with what Snakemake recorded."""
    return Path(shutil.copytree(source, target, dirs_exist_ok=True))


class Run:
    """One run of Snakemake through the private SLURM; a context, so that nothing of it outlives a test.

    Args:
        cluster: the private SLURM.
        folder: working directory, with ``study.yaml``.
        edit: changes the shipped profile where a test needs other numbers.
        arguments: more of the command line, such as a target.
    """

    def __init__(self, cluster: Cluster, folder: Path, *arguments: str, edit: Callable[[Profile], None] | None = None):
        self.cluster, self.folder = cluster, folder
        profile = shipped()
        if edit:
            edit(profile)
        (folder / "profile").mkdir(exist_ok=True)
        (folder / "profile/profile.yaml").write_text(yaml.safe_dump(profile))
        self.output = folder / "snakemake.out"
        self.known = {line.split("|")[0] for line in cluster.jobs()}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                _command("--profile", folder / "profile", *arguments),
                cwd=folder,
                env={**_environment(), **cluster.environment, "PYTHONPATH": str(REPOSITORY / "src")},
                stdout=output,
                stderr=subprocess.STDOUT,
                # Where the tests run in the background, shells have SIGINT ignored, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
            )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        own = [job.id for job in self.jobs() if job.state in ("PENDING", "RUNNING")]
        if own:
            self.cluster.call("scancel", *own, check=False)

    def finish(self, status: int | None = 0) -> str:
        """Wait for the end; what Snakemake printed. ``status``: the exit status to be found, None for any failure."""
        try:
            found = self.process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {LIMIT_S} s\n{self.report()}") from None
        agrees = found == status if status is not None else found != 0
        assert agrees, f"exit status {found}\n{self.report()}"
        return self.output.read_text()

    def interrupt(self) -> str:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.finish(status=None)

    def jobs(self, rule: str | None = None) -> list[Job]:
        """The jobs of this run, in the order in which they were submitted."""
        found = []
        for line in self.cluster.jobs():
            id_, partition, state, _, comment = line.split("|")
            name = re.match(r"rule_(.+?)(?:_wildcards_|$)", comment)
            if id_ not in self.known and name and rule in (None, name[1]):
                found.append(Job(id_, partition, state, name[1]))
        return sorted(found, key=lambda job: [int(part) for part in re.findall(r"\d+", job.id)])

    def wait_for(self, what: str, happened: Callable[[], bool]) -> None:
        """Wait until something has happened while the run goes on."""
        end = time.monotonic() + LIMIT_S
        while not happened():
            assert self.process.poll() is None, f"{what}: the run ended before\n{self.report()}"
            assert time.monotonic() < end, f"{what}: not within {LIMIT_S} s\n{self.report()}"
            time.sleep(0.2)

    def wait_for_none_left(self) -> None:
        """Wait until SLURM has ended every job of this run."""
        end = time.monotonic() + LIMIT_S
        while any(job.state in ("PENDING", "RUNNING", "COMPLETING") for job in self.jobs()):
            assert time.monotonic() < end, f"jobs of an ended run do not end\n{self.report()}"
            time.sleep(0.2)

    def said(self) -> str:
        """What SLURM's log files of jobs that failed say."""
        return "".join(path.read_text() for path in sorted((self.folder / "results/.slurm").rglob("*.log")))

    def report(self) -> str:
        """All that helps to see what went wrong."""
        jobs = "\n".join(map(str, self.jobs()))
        return f"{self.output.read_text()[-6000:]}\n{self.said()[-3000:]}\n{jobs}\n{self.cluster.logs()}"
