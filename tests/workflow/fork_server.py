"""Runs snakemake or pullback many times without importing them each time: one JSON request a line, run in a fork.

A request is {"program", "arguments", "folder", "environment", "output", "errors", "limit"}, the answer is the exit
status. Each fork starts from one state: the modules are imported, those of the built-in kinds too, their sources are
parsed, and no study has been seen.
"""

import json
import os
import signal
import sys
from importlib import import_module

from snakemake.cli import get_argument_parser, main

import pullback.study.workflow_inputs  # noqa: F401
from pullback.cli import cli
from pullback.registry import BUILT_IN
from pullback.study.provenance import SOURCE, parsed

PROGRAMS = {"snakemake": main, "pullback": cli}


def opened(name: str) -> int:
    return os.open(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND)


for target in (target for kinds in BUILT_IN.values() for target in kinds.values()):
    import_module(target.partition(":")[0])
for path in (SOURCE / "pullback").rglob("*.py"):
    parsed(path.read_bytes())
# It finds Snakemake's plugins.
get_argument_parser()
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(request["limit"])
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        # The jobs of a run inherit all three.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(opened(request["output"]), 1)
        os.dup2(opened(request["errors"]), 2)
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
