"""Catches a process at the worst moment, before it renames a finished file to the name in HELD_AT.

HELD=kill: it dies of SIGKILL there. HELD=wait: it makes the file HELD_HERE and goes on when that is removed.
"""

import os
import signal
import sys
import time


def _hook(event, arguments):
    if event == "os.rename" and os.path.basename(os.fspath(arguments[1])) == os.environ.get("HELD_AT"):
        if os.environ["HELD"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        here = os.environ["HELD_HERE"]
        os.close(os.open(here, os.O_CREAT))
        while os.path.exists(here):
            time.sleep(0.02)


sys.addaudithook(_hook)
