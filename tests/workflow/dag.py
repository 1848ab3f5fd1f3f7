"""Asking Snakemake what it would do, for tests."""

import atexit
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
STUDIES = Path(__file__).parent / "studies"
LIMIT_S = 900
"""Something hangs, on however busy a machine."""


@dataclass(frozen=True)
class Job:
    """One job of a dry run."""

    rule: str
    output: tuple[str, ...]
    reason: str


def _arguments(repository: Path) -> list[str]:
    profile = repository / "profiles/default"
    return ["-s", str(repository / "Snakefile"), "--cores", "1", "--workflow-profile", str(profile)]


def _environment(repository: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository / "src")}


def snakemake(
    *arguments: str | Path, folder: Path, repository: Path = REPOSITORY, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run snakemake on the workflow of a repository with ``folder`` as the working directory."""
    words = [*_arguments(repository), *map(str, arguments)]
    where = {**_environment(repository), **environment}
    if "PYTHONPATH" not in environment:
        return _answer("snakemake", words, folder, repository, where)
    # What a Python finds when it starts.
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=folder,
        env=where,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def start(*arguments: str | Path, folder: Path, repository: Path = REPOSITORY) -> subprocess.Popen[str]:
    """A run that goes on in the background, in a process group of its own; what it says is in ``said.txt``.

    It hears SIGINT even where the tests themselves run in the background, in which shells have it ignored.
    """
    with (folder / "said.txt").open("a") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *_arguments(repository), *map(str, arguments)],
            cwd=folder,
            env=_environment(repository),
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )


@cache
def _server(repository: Path) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(repository),
        text=True,
    )
    atexit.register(server.terminate)
    return server


def _answer(
    program: str,
    arguments: list[str],
    folder: Path,
    repository: Path,
    environment: dict[str, str],
    merged: bool = False,
) -> subprocess.CompletedProcess[str]:
    """What a program says that is run in a fork; ``merged``: all its words, in their order, are its output."""
    server = _server(repository)
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
        request = {
            "program": program,
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "output": output.name,
            "errors": output.name if merged else errors.name,
            "limit": LIMIT_S,
        }
        print(json.dumps(request), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, output.read(), errors.read())


def ask(*arguments: str | Path, folder: Path, repository: Path = REPOSITORY) -> tuple[int, str]:
    """Exit status and words of a snakemake that runs no job."""
    words = [*_arguments(repository), *map(str, arguments)]
    done = _answer("snakemake", words, folder, repository, _environment(repository), merged=True)
    return done.returncode, done.stdout


def pullback(*arguments: str | Path, folder: Path, repository: Path = REPOSITORY) -> tuple[int, str]:
    """Exit status and words of a command of pullback."""
    words = list(map(str, arguments))
    done = _answer("pullback", words, folder, repository, _environment(repository), merged=True)
    return done.returncode, done.stdout


def planned(folder: Path, study: Path, *arguments: str, repository: Path = REPOSITORY) -> list[Job]:
    """The jobs that a run would do now."""
    status, text = ask("-n", "--configfile", study, *arguments, folder=folder, repository=repository)
    assert status == 0, text
    jobs = []
    for block in re.split(r"^(?:local)?rule ", text, flags=re.M)[1:]:
        rule = block.split(":", 1)[0]
        output = re.search(r"^    output: (.*)$", block, flags=re.M)
        reason = re.search(r"^    reason: (.*)$", block, flags=re.M)
        jobs.append(
            Job(rule, tuple(output[1].split(", ")) if output else (), reason[1] if reason else ""),
        )
    return jobs


def counts(jobs: list[Job]) -> dict[str, int]:
    """Jobs of each rule."""
    return dict(Counter(job.rule for job in jobs))


def rules(jobs: list[Job]) -> set[str]:
    """The rules of some jobs, without the target."""
    return {job.rule for job in jobs} - {"all"}


def finish(folder: Path, study: Path, repository: Path = REPOSITORY) -> None:
    """Make a folder in which the study has run, with empty files: the touch executor records params and inputs."""
    for job in planned(folder, study, "-F", repository=repository):
        for name in job.output:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    status, text = ask("--touch", "-F", "--configfile", study, folder=folder, repository=repository)
    assert status == 0, text
    assert planned(folder, study, repository=repository) == []


def copy_repository(target: Path) -> Path:
    """A copy of what a run needs, for edits."""
    for name in ("src", "workflow", "profiles", "envs"):
        shutil.copytree(REPOSITORY / name, target / name, ignore=shutil.ignore_patterns("*.pyc.*", "*.egg-info"))
    shutil.copy(REPOSITORY / "Snakefile", target)
    return target
