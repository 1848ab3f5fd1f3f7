"""A SLURM of one node on this machine, private to the tests: own folder, own ports, loopback only, no munge.

The node declares more processors than the machine may have and two GPUs that are character devices (null and zero):
SLURM hands them out and sets CUDA_VISIBLE_DEVICES as for real ones.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
LIMIT_S = 600
"""Something hangs, on however busy a machine."""
PROCESSORS = 4
MEMORY_MB = 64000
GPUS = 2

# OverMemoryKill: the gatherer looks once per second and kills what is over its request, which needs no cgroups.
# MinJobAge: finished jobs stay in squeue, where the executor looks for them.
# The timeouts (10, 2, 10, 60 and 300 s by default) are long: other work may keep the processors of this machine busy.
CONFIG = """
ClusterName=pullback
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
SlurmdPort={daemon}
SrunPortRange={first}-{last}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/prolog
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
KillWait=5
MessageTimeout=100
TCPTimeout=60
BatchStartTimeout=600
UnkillableStepTimeout=600
SlurmdTimeout=0
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} Sockets=1 CoresPerSocket={processors} ThreadsPerCore=1 \
RealMemory={memory} Gres=gpu:{gpus}
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE
PartitionName=gpu Nodes={host} MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE
PartitionName=forgetful Nodes={host} MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes={host} MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""

# A partition whose nodes do not tell a job which GPUs it was granted, as happens where SLURM's plugins are not set up.
PROLOG = """#!/bin/sh
if [ "$SLURM_JOB_PARTITION" = forgetful ]; then echo "unset CUDA_VISIBLE_DEVICES"; fi
"""


def missing() -> list[str]:
    """What of SLURM is not installed here."""
    return [name for name in PROGRAMS if not shutil.which(name, path=_search_path())]


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class Cluster:
    """The private SLURM; ``environment`` is what its clients need."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    _keeper: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start both daemons and wait until the node takes jobs.

        Raises:
            RuntimeError: it does not within `LIMIT_S`; holds the ends of both logs.
        """
        host = socket.gethostname().partition(".")[0]
        controller, daemon = _free_ports(2)
        # Stays below the range that the system hands out by itself.
        first = 20000 + os.getpid() % 400 * 25
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir()
        (self.folder / "slurm.conf").write_text(
            CONFIG.format(
                host=host,
                user=user,
                controller=controller,
                daemon=daemon,
                first=first,
                last=first + 24,
                folder=self.folder,
                processors=PROCESSORS,
                memory=MEMORY_MB,
                gpus=GPUS,
            )
        )
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        self._program("prolog", PROLOG)
        # The executor takes every SLURM variable from a job's environment, also the one that names a private config.
        srun = shutil.which("srun")
        self._program("bin/srun", f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {srun} "$@"\n')
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        self.environment = {
            **kept,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), _search_path()]),
        }
        self.environment.pop("CUDA_VISIBLE_DEVICES", None)
        self._keeper = subprocess.Popen(
            [sys.executable, __file__, str(self.folder)],
            stdin=subprocess.PIPE,
            env=self.environment,
            start_new_session=True,
        )
        for name in ("slurmctld", "slurmd"):
            self.call(name)
        self._wait_for_node()

    def _program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def _wait_for_node(self) -> None:
        state = ""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            state = self.call("sinfo", "--noheader", "--format=%T", check=False).strip()
            if state and set(state.split()) <= {"idle", "mixed"}:
                return
            time.sleep(0.2)
        raise RuntimeError(f"the private SLURM did not start; its node is: {state or 'unknown'}\n{self.logs()}")

    def call(self, *command: str, check: bool = True) -> str:
        """What one of SLURM's programs answers."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=self.folder
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}{self.logs()}")
        return done.stdout

    def jobs(self, *states: str) -> list[str]:
        """Jobs, as ``id|partition|state|reason|comment``, of all states or of these."""
        chosen = ",".join(states) or "all"
        text = self.call("squeue", "--noheader", "--array", f"--states={chosen}", "--format=%i|%P|%T|%r|%k")
        return text.splitlines()

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        found = [self.folder / f"{name}.log" for name in ("slurmctld", "slurmd")]
        return "".join(f"--- {path.name}\n{path.read_text()[-2000:]}\n" for path in found if path.exists())

    def stop(self) -> None:
        """End what runs, then both daemons."""
        self._keeper.stdin.close()
        self._keeper.wait()


def keep(folder: Path) -> None:
    """Wait until whoever started the cluster lets go of it, or dies; then end its jobs and, by their ids, its daemons.

    A process of its own (the main part of this file), which neither Ctrl-C nor the death of the tests reaches.
    """
    sys.stdin.read()
    running = ["squeue", "--noheader", "--states=pending,running,completing"]
    subprocess.run(["scancel", f"--user={os.getuid()}"], check=False, timeout=LIMIT_S)
    _until(lambda: not subprocess.run(running, capture_output=True, check=False, timeout=LIMIT_S).stdout)
    for name in ("slurmd", "slurmctld"):
        try:
            process = int((folder / f"{name}.pid").read_text())
            os.kill(process, signal.SIGTERM)
        except (OSError, ValueError):
            continue
        if not _until(lambda process=process: not Path(f"/proc/{process}").exists()):
            os.kill(process, signal.SIGKILL)


def _until(done: Callable[[], bool]) -> bool:
    for _ in range(100):
        if done():
            return True
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
