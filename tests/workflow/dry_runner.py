"""Runs snakemake or pullback many times without importing them each time: one JSON request a line, run in a fork.

A request is {"program": ..., "arguments": [...], "folder": ..., "output": ...}, the answer is the exit status. Each
fork starts from one state, with the modules imported and no study seen.
"""

import json
import os
import sys

from snakemake.cli import main

import pullback.study.workflow_inputs  # noqa: F401
from pullback.cli import cli

PROGRAMS = {"snakemake": main, "pullback": cli}

for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(request["folder"])
        file = os.open(request["output"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        status = 1
        try:
            PROGRAMS[request["program"]](request["arguments"])
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
