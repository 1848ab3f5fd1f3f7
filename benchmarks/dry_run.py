"""How long Snakemake plans a large study, beside a bare Snakefile with 10,000 jobs: part of `make bench`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PROBLEMS, METHODS, SEEDS, FAMILIES = 5, 2, 10, 50
BARE_JOBS = 10_000
BARE = f"""
rule all:
    input: expand("out/{{i}}.txt", i=range({BARE_JOBS}))
rule one:
    output: "out/{{i}}.txt"
    shell: "touch {{output}}"
"""


def large_study() -> dict[str, Any]:
    """Five Gaussian problems with two methods each, ten seeds, fifty families: 5,000 inferences."""
    families = {
        f"family-{i:03d}": {
            "role": "seen" if i < 2 else "unseen",
            "params": {"gamma": round(-0.9 + 1.8 * i / FAMILIES, 4)},
        }
        for i in range(FAMILIES)
    }
    problem = {
        "kind": "gaussian",
        "size": {"train": 1000, "validation": 1000, "test": 1000, "reference": 1000, "shard": 1000},
        "families": families,
        "methods": {"cfm": {"kind": "cfm"}, "oracle": {"kind": "oracle"}},
    }
    return {
        "config_version": 2,
        "study": "large",
        "seeds": SEEDS,
        "problems": {f"problem-{i}": problem for i in range(PROBLEMS)},
    }


def seconds(*arguments: str, folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of one dry run."""
    command = [sys.executable, "-m", "snakemake", "-n", "-q", "all", "--cores", "1", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    before, started = os.times().children_user, time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started, os.times().children_user - before


def dry_run() -> None:
    """The same minute for both: the machine's load changes what each takes, hardly their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bare.smk").write_text(BARE)
        (folder / "large.yaml").write_text(json.dumps(large_study()))
        bare = seconds("-s", "bare.smk", folder=folder)
        profile = REPOSITORY / "profiles/default"
        ours = seconds(
            *("-s", str(REPOSITORY / "Snakefile"), "--workflow-profile", str(profile), "--configfile", "large.yaml"),
            folder=folder,
        )
    print(
        f"dry run: a study with 5,000 inferences        {ours[0]:6.1f} s ({ours[1]:.1f} s of a core); "
        f"a bare Snakefile of {BARE_JOBS} jobs {bare[0]:6.1f} s ({bare[1]:.1f} s)   ratio {ours[1] / bare[1]:.2f}"
    )


if __name__ == "__main__":
    dry_run()
