"""Entry point of one training process under torchrun: ``python -m pullback.methods.worker <job file>``."""

import json
import os
import select
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from pullback.core.atomic import write_atomic
from pullback.core.joblog import log_to
from pullback.core.stopping import Clock, Stopped
from pullback.methods.launch import FAILED, STOPPED
from pullback.methods.train import learn


def driver_has_stopped() -> str | None:
    """Whether the driver has closed our standard input, or has died."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return "as its driver has ended" if readable and not os.read(sys.stdin.fileno(), 1) else None


def main(path: Path) -> int:
    """Take part in the training that a job file describes; the exit status."""
    asked = json.loads(path.read_text())
    rank = int(os.environ["RANK"])
    for name in asked["logs"] if rank == 0 else []:
        log_to(name)
    with Clock() as clock:
        try:
            learn(**asked["arguments"], stop=lambda: clock.due() or driver_has_stopped(), first=rank == 0)
        except Stopped as stopped:
            if rank == 0:
                write_atomic(path.parent / STOPPED, json.dumps({"where": stopped.where, "reason": stopped.reason}))
        except Exception as error:
            # The first counts: the others fail because one is missing.
            with suppress(FileExistsError), (path.parent / FAILED).open("x") as stream:
                json.dump({"rank": rank, "error": str(error), "trace": traceback.format_exc()}, stream)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
