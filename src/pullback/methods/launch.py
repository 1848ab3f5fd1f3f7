"""Start a training in several processes with torchrun, and stop it before the time limit.

The processes run as long as their standard input is open. The driver closes it near the time limit; the system closes
it when the driver dies. They write a file that says whether they stopped, or the first error of any of them.

On several nodes of a SLURM job, ``srun`` starts one torchrun on each, and they meet at the first node. Exercised with
CPU processes (gloo): one torchrun, and two that meet on one machine; not on two machines, and not with several GPUs.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pullback.core.atomic import write_atomic
from pullback.core.joblog import log_files
from pullback.core.stopping import Clock, Stopped

log = logging.getLogger("pullback")

WORKER = "pullback.methods.worker"
SOURCE = Path(__file__).resolve().parents[2]
STOPPED, FAILED, SAID = "stopped.json", "failed.json", "torchrun.log"
POLL_S = 0.2
PATIENCE_S = 60.0
"""How long processes that were interrupted may take to end; then they are killed."""


class LaunchError(RuntimeError):
    """A training process failed; the message is its error, or that it ended without one."""


def launch(arguments: Mapping[str, Any], folder: Path, clock: Clock, processes: int, nodes: int = 1) -> None:
    """Run `run.learn` in several processes that share a training.

    Args:
        arguments: of `run.learn`, as JSON values.
        folder: for the notes; it is seen from every node.
        clock: when to stop.
        processes: on each node.
        nodes: of the SLURM job that this runs in.

    Raises:
        Stopped: the processes saved a checkpoint and stopped.
        LaunchError: one of them failed; its one-line error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (STOPPED, FAILED):
        (folder / name).unlink(missing_ok=True)
    job = folder / "job.json"
    write_atomic(job, json.dumps({"arguments": arguments, "logs": log_files()}))
    command = torchrun(job, processes, nodes)
    log.info("starts %d processes: %s", processes * nodes, " ".join(command))
    reason, status = _run(command, folder / SAID, clock)
    if (folder / STOPPED).exists():
        note = json.loads((folder / STOPPED).read_text())
        raise Stopped(note["where"], reason or note["reason"])
    if status == 0:
        return
    log.error("torchrun ended with exit status %d and said:\n%s", status, (folder / SAID).read_text())
    if (folder / FAILED).exists():
        note = json.loads((folder / FAILED).read_text())
        log.error("process %d failed first:\n%s", note["rank"], note["trace"])
        raise LaunchError(note["error"])
    raise LaunchError(
        f"the {processes * nodes} processes of this training ended with exit status {status}, without an "
        "error of their own: killed from outside, or out of memory; run it again and it goes on"
    )


def torchrun(job: Path, processes: int, nodes: int = 1) -> list[str]:
    """The command that starts the processes; on several nodes ``srun`` starts it on each."""
    run = [sys.executable, "-m", "torch.distributed.run"]
    size = [f"--nproc-per-node={processes}", "--max-restarts=0"]
    work = ["-m", WORKER, str(job.resolve())]
    if nodes == 1:
        return [*run, "--standalone", *size, *work]
    spread = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    if cores := os.environ.get("SLURM_CPUS_PER_TASK"):
        # srun does not take this over from the job since SLURM 22.05.
        spread.append(f"--cpus-per-task={cores}")
    hosts = subprocess.run(["scontrol", "show", "hostnames"], capture_output=True, text=True, check=True).stdout.split()
    if len(hosts) < nodes:
        raise LaunchError(f"nodes: {nodes} requested, {len(hosts)} granted ({', '.join(hosts)}): compare the profile")
    meeting = f"--rdzv-endpoint={hosts[0]}:{_free_port()}"
    name = f"--rdzv-id=pullback-{os.environ.get('SLURM_JOB_ID', os.getpid())}"
    return [*spread, *run, f"--nnodes={nodes}", *size, "--rdzv-backend=c10d", meeting, name, *work]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _run(command: list[str], said: Path, clock: Clock) -> tuple[str | None, int]:
    """Wait for a command, and close its standard input when the clock is due: the reason, and its exit status."""
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    reason = None
    with said.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
            # A group of its own: Ctrl-C comes to the driver alone, which ends the others.
            start_new_session=True,
            # torchrun itself would die of a signal that a scheduler sends to every process of the job.
            preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        )
        assert process.stdin is not None
        try:
            while process.poll() is None:
                try:
                    process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    if reason is None and (reason := clock.due()):
                        process.stdin.close()
        finally:
            process.stdin.close()
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    return reason, process.returncode
