"""The page of metrics: what each says of itself, and its value for four posteriors whose faults are known.

The posteriors are those of the problem `linear-gaussian` in two dimensions: the exact one, and the same moved by half a
posterior standard deviation, half as wide, and twice as wide. They go through the evaluation of a study.
"""

import ast
import csv
import inspect
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np

from pullback import registry
from pullback.ensembles.posterior_store import PosteriorWriter
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.base import PosteriorSamples
from pullback.metrics.evaluate import evaluate
from pullback.metrics.metric import Metric, words
from pullback.problems.base import problem_of, simulate
from pullback.study.config import load_study
from pullback.study.job_params import Plan

mpl.use("Agg")
from matplotlib import pyplot as plt

HEAD = """# Metrics

Each row of a study's tables is one of these numbers. Each has a figure where it can be computed for four posteriors of
`linear-gaussian` (400 events, 40 draws of each): the exact one, and the same moved by half a posterior standard
deviation (*biased*), half as wide (*narrow*) and twice as wide (*wide*). Bars are 95 % intervals, the dashed line is
the floor, the dotted line a target.

What holds for all of them:

- *Groups.* Intervals come from a bootstrap over groups: events of one group (the jets of a collision) are not
  independent.
- *Weights of events* enter every mean, distance and interval. They must not be negative.
- *Failed draws* count as the corner of the truth's range that is farthest from their event's truth.
"""
EVENTS, DRAWS = 400, 40
FAULTS = {"exact": (0.0, 1.0), "biased": (0.5, 1.0), "narrow": (0.0, 0.5), "wide": (0.0, 2.0)}
"""Shift in posterior standard deviations, and factor of the width."""


def docstring(target: str) -> str:
    """The text below the assignment of a metric, ``"module:NAME"``."""
    module, _, name = target.partition(":")
    __import__(module)
    body = ast.parse(inspect.getsource(sys.modules[module])).body
    for statement, after in pairwise(body):
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == name:
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                return inspect.cleandoc(text.value)
    return ""


def table(folder: Path) -> list[dict[str, str]]:
    """The metrics of the four posteriors, each an inference of one method in the table of a study."""
    simulator = {"matrix": [[1.0, 0.0], [0.0, 1.0]], "mean": [0.0, 0.0], "covariance": [[1.0, 0.5], [0.5, 1.0]]}
    study = load_study(
        {
            "config_version": 2,
            "study": "metrics",
            "problems": {
                "plane": {
                    "kind": "linear-gaussian",
                    "simulator": simulator,
                    "size": {"test": EVENTS, "reference": EVENTS},
                    "families": {"family": {"role": "unseen", "params": {}}},
                    "methods": {"oracle": {"kind": "oracle", "infer": {name: {"draws": DRAWS} for name in FAULTS}}},
                    "evaluation": {"exact_events": EVENTS, "c2st_events": EVENTS, "resimulate_events": 100},
                }
            },
        }
    )
    job = json.loads(Plan(study).evaluate_job("plane", "oracle"))
    del job["inputs"]
    problem = problem_of(job["problem"])
    rng = np.random.default_rng(0)
    files = {name: folder / f"{name}.h5" for name in ("test", "reference")}
    for path in files.values():
        x = problem.sample_prior(rng, EVENTS, {})
        with EnsembleWriter(path, x=problem.x, y=problem.y, spec="{}") as writer:
            writer.append(simulate(problem, x, rng)[0], np.arange(EVENTS), x=x)
    posteriors = []
    with EnsembleReader(files["test"]) as reader:
        y = reader.read("y")
        exact = problem.exact_posterior(y, {}, DRAWS, 1, rng)[0]
        mean, deviation = exact.mean(axis=1, keepdims=True), exact.std(axis=1).mean(axis=0)
        for name, (shift, width) in FAULTS.items():
            draws = (mean + width * (exact - mean) + shift * deviation).astype(np.float32) if name != "exact" else exact
            posteriors.append(folder / f"{name}.p.h5")
            with PosteriorWriter(
                posteriors[-1], x=problem.x, draws=DRAWS, ensemble=reader, ensemble_name="test.h5", spec="{}"
            ) as writer:
                shape = draws.shape[:2]
                writer.append(PosteriorSamples(draws, np.zeros(shape), np.ones(shape, bool)), np.arange(EVENTS))
                writer.finish({"seconds": 0.0}, {})
    out = folder / "metrics.csv"
    ensembles, references = {"family": files["test"]}, {"family": files["reference"]}
    evaluate(json.dumps(job), posteriors, ensembles, references, [], out, folder / "cost.csv", folder / "examples.h5")
    with out.open() as stream:
        return list(csv.DictReader(stream))


def draw(row: str, found: list[dict[str, str]], path: Path) -> None:
    """One figure: the value of a row for each posterior, with interval, floor and target."""
    figure, axes = plt.subplots(figsize=(4.2, 1.7), layout="constrained")
    for place, each in enumerate(found):
        value = float(each["value"])
        if each["low"]:
            axes.plot(
                [float(each["low"]), float(each["high"])], [place, place], color="tab:blue", linewidth=4, alpha=0.4
            )
        axes.plot(value, place, "o", color="tab:blue")
    if found[0]["floor"]:
        axes.axvline(float(found[0]["floor"]), color="0.4", linestyle="--", linewidth=1)
    if (target := words(row).target) is not None:
        axes.axvline(target, color="0.4", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(found)), [each["infer"] for each in found])
    axes.invert_yaxis()
    axes.set_xlabel(f"{row} [{found[0]['unit']}]" if found[0]["unit"] != "1" else row)
    figure.savefig(path)
    plt.close(figure)


def page(figures: Path) -> str:
    """The page in Markdown; its figures are written to a folder beside it."""
    figures.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = table(Path(folder))
    parts = [HEAD]
    for name, target in registry.BUILT_IN["metrics"].items():
        metric: Metric = registry.load("metrics", name)
        text = f"## {metric.title}\n\nRows `{name}`: {metric.description}."
        text += f"\n\n{docstring(target)}"
        row = next((each["metric"] for each in rows if words(each["metric"]).metric is metric), None)
        if row is not None:
            draw(row, [each for each in rows if each["metric"] == row], figures / f"{name}.svg")
            text += f"\n\n![{row} for an exact, a biased, a narrow and a wide posterior]({figures.name}/{name}.svg)"
        parts.append(text + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(Path(sys.argv[1])))
