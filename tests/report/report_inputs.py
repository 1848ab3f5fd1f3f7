"""Made-up inputs of a report: three problems as a study would leave them, with numbers that look like results."""

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pullback.metrics.table import COLUMNS, COST_COLUMNS
from pullback.study import load_study
from pullback.study.job_params import Plan
from pullback.study.problem_kind import problem_kind

PROCESSES = {"ttbar": "tt̄", "wjets": "W + jets", "zjets": "Z + jets", "dijets": "dijets"}
GAMMAS = (-0.9, -0.5, 0.0, 0.5, 0.9)
JET_FEATURES = {"pt": ("GeV", np.geomspace(30, 600, 19)), "eta": ("1", np.linspace(-4, 4, 17)),
                "phi": ("rad", np.linspace(-np.pi, np.pi, 13)), "mass": ("GeV", np.geomspace(3, 80, 17))}  # fmt: skip


def study_config() -> dict[str, Any]:
    """Three problems, with seen, unseen, shifted and observed families."""
    geologies = {"flat": "flat", "curved": "curved", "flat-fault": "flat-fault", "curved-fault": "curved-fault"}
    return {
        "config_version": 2,
        "study": "config",
        "title": "From detectors, waves & noise back to the truth",
        "problems": {
            "gaussian": {
                "kind": "gaussian",
                "families": {
                    "sweep": {
                        "role": "seen",
                        "params": {"gamma": {"uniform": [[-0.75, -0.25], [0.25, 0.75]]}},
                        "sweep": {"ensembles": 100, "events": 512},
                    },
                    **{f"gamma-{g}": {"role": "unseen", "params": {"gamma": g}, "title": f"γ = {g}"} for g in GAMMAS},
                    "noisy": {
                        "role": "unseen", "events_from": "gamma-0.5", "title": "γ = 0.5, 20 % more noise",
                        "shift": {"kind": "noise", "relative": 0.2},
                    },
                    "blind": {"role": "observed", "events_from": "gamma-0.5", "title": "truth removed"},
                },
                "methods": {"cfm": {"kind": "cfm"}, "ei-fm": {"kind": "ei-fm"}, "oracle": {"kind": "oracle"},
                            "random": {"kind": "random-truth"}},
            },
            "waves": {
                "kind": "fwi",
                "families": {
                    **{n: {"role": "seen", "params": {"geology": g}, "title": n.replace("-", " ") + " layers"}
                       for n, g in geologies.items()},
                    "salt": {"role": "unseen", "params": {"geology": "salt"}, "title": "salt bodies"},
                    "channel": {"role": "unseen", "params": {"geology": "channel"}, "title": "channels"},
                },
                "priors": {"diffusion": {"kind": "edm"}},
                "methods": {"cfm": {"kind": "cfm", "network": {"kind": "unet"}},
                            "ei-fm": {"kind": "ei-fm", "network": {"kind": "unet"}},
                            "enkg": {"kind": "enkg", "prior": "diffusion"},
                            "random": {"kind": "random-truth"}},
            },
            "jets": {
                "kind": "unfolding",
                "families": {
                    **{n: {"role": "seen", "params": {"process": n}, "title": t}
                       for n, t in PROCESSES.items()},
                    "leptoquarks": {"role": "unseen", "params": {"process": "leptoquarks"}, "title": "leptoquarks"},
                    "cms": {"role": "observed", "events_from": "ttbar", "title": "CMS open data, tt̄ simulation"},
                },
                "methods": {"cfm": {"kind": "cfm"}, "ei-fm": {"kind": "ei-fm"}, "random": {"kind": "random-truth"}},
            },
        },
    }  # fmt: skip


@dataclass
class Inputs:
    """Arguments of `write_report`."""

    job: str
    metrics: list[Path] = field(default_factory=list)
    costs: list[Path] = field(default_factory=list)
    examples: list[Path] = field(default_factory=list)
    curves: list[Path] = field(default_factory=list)
    preflights: list[Path] = field(default_factory=list)

    def arguments(self, folder: Path) -> dict[str, Any]:
        """Keyword arguments, with the outputs in a folder."""
        names = {"page": "index.html", "table": "metrics.csv", "seeds": "seeds.csv", "drawn": "figures.csv"}
        return {**self.__dict__, **{key: folder / "report" / name for key, name in names.items()}}


_SKILL = {"ei-fm": 0.4, "cfm": 1.0, "oracle": 0.2, "random": 6.0, "enkg": 1.3}


def make_inputs(folder: Path, config: dict[str, Any] | None = None, seeds: int = 1) -> Inputs:
    """Write made-up tables, examples and curves of a study below a folder, at the paths that a run would use."""
    plan = Plan(load_study(config or study_config()))
    study = plan.study
    inputs = Inputs(plan.resolved())
    root = folder / "results" / study.study
    rng = np.random.default_rng(11)
    for problem, spec in study.problems.items():
        if spec.kind == "fwi":
            _json(inputs.preflights, root / "ensembles" / problem / "preflight.json",
                  {"courant number": 0.31, "points per wavelength": 9.4, "operator": "compiled",
                   "warnings": ["2.80 points per wavelength at 20 Hz, wanted 4: data are dispersive"]})  # fmt: skip
        families = [f for f in spec.families if "test" in spec.families[f].splits]
        for name in spec.priors:
            _curves(inputs.curves, root / "priors" / problem / name / "seed-0.curves.csv", rng)
        for name, method in spec.methods.items():
            rows, costs = [], []
            for infer in method.infer:
                for seed in range(seeds):
                    costs += _costs(problem, name, infer, seed, families, rng)
                    for family in families:
                        few = 4 if method.kind == "enkg" else 2000
                        if method.kind == "enkg" and spec.families[family].role == "seen":
                            continue
                        head = {"study": study.study, "problem": problem, "method": name, "method_kind": method.kind,
                                "infer": infer, "seed": seed, "family": family, "role": spec.families[family].role,
                                "shift": s.kind if (s := spec.families[family].shift) else "none",
                                "returns": method.returns, "n": few, "n_observed": few, "groups": few}  # fmt: skip
                        rows += [head | m for m in _metrics(spec.kind, name, head["role"], few, rng)]
            base = root / "metrics" / problem
            _csv(inputs.metrics, base / f"{name}.csv", COLUMNS, rows)
            _csv(inputs.costs, base / f"{name}.cost.csv", COST_COLUMNS, costs)
            _examples(inputs.examples, base / f"{name}.examples.h5", problem, name, method, spec)
            if method.trains:
                for seed in range(seeds):
                    _curves(inputs.curves, root / "models" / problem / name / f"seed-{seed}.curves.csv", rng)
    return inputs


def _metrics(kind: str, method: str, role: str, n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    def row(metric: str, value: float, unit: str = "1", floor: float | str = "", width: float = 0.08) -> dict[str, Any]:
        half = value * width * (2000 / n) ** 0.25
        return {
            "metric": metric,
            "value": value,
            "low": value - half,
            "high": value + half,
            "floor": floor,
            "unit": unit,
        }

    skill = _SKILL[method] * rng.uniform(0.8, 1.2) * (1.3 if role == "unseen" else 1)
    if role == "observed":
        return [row("fold_back_swd", 0.02 + 0.02 * skill, floor=0.025),
                row("embedding_distance", 0.7 + 0.6 * skill, width=math.nan)]  # fmt: skip
    failed = row("failed_draws", 0.002 if method == "enkg" else 0.0, width=0)
    if kind == "fwi":
        return [row("mae_point", 130 * skill**0.4, "m/s"), row("mae_draw", 180 * skill**0.4, "m/s"),
                row("mse_point", 4e4 * skill**0.8, "(m/s)^2"), row("ssim_point", 0.85 / (1 + 0.2 * skill)),
                row("relative_l2_point", 0.06 * skill**0.4), row("psnr_point", 22 - 3 * skill**0.4, "dB"),
                row("misfit", 0.2 * skill, floor=0.01),
                row("seen_swd", 0.3 if role == "unseen" else 0.1, floor=0.1, width=math.nan), failed]  # fmt: skip
    metrics = [row("swd_draw", 0.015 + 0.03 * skill, floor=0.017),
               row("swd500_draw", 0.015 + 0.028 * skill, floor=0.017),
               row("mse_point", 0.3 + 0.1 * skill, unit="mixed"), failed]  # fmt: skip
    names = ("x1", "x2") if kind == "gaussian" else tuple(JET_FEATURES)
    if kind == "unfolding":
        injected = rng.uniform(50, 200)
        metrics += [row(f"triangular_draw.{f}", 2 * skill, "1e-3", floor=1.2) for f in names]
        metrics += [row("chi2_draw", 0.9 + 0.3 * skill, floor=1.0), row("bottom_line_draw", 0.8 + 0.1 * skill),
                    row("mean_bias_draw.pt", 0.01 * skill * injected, "GeV"),
                    row("injected_mean_draw.pt", injected, "GeV")]  # fmt: skip
    return metrics + [row(f"w1_draw.{f}", 0.4 * skill, JET_FEATURES.get(f, ("1",))[0], floor=0.2) for f in names]


def _costs(
    problem: str, method: str, infer: str, seed: int, families: list[str], rng: np.random.Generator
) -> list[dict[str, Any]]:
    common = {"problem": problem, "method": method, "seed": seed, "failed_simulations": 0, "projected": 0}
    return [
        common | {"infer": infer, "family": f, "seconds": rng.uniform(2, 9), "peak_memory_mb": rng.uniform(400, 800),
                  "simulator_calls": 1280 if method == "enkg" else 0, "network_calls": 8,
                  "network_gradients": 0, "likelihood_gradients": 0, "events": 2000, "draws": 32,
                  "projected": 3 if method == "enkg" else 0}
        for f in families
    ]  # fmt: skip


def _examples(made: list[Path], path: Path, problem: str, name: str, method: Any, spec: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs.update(problem=problem, method=name, method_kind=method.kind, returns=method.returns)
        for infer in method.infer:
            for place, (family, declared) in enumerate(spec.families.items()):
                if "test" not in declared.splits or (method.kind == "enkg" and declared.role == "seen"):
                    continue
                group = file.create_group(f"{infer}/0/{family}")
                shift = declared.shift.kind if declared.shift else "none"
                group.attrs.update(title=declared.title or family, role=declared.role, shift=shift)
                noise = np.random.default_rng([place, len(name)])
                if spec.kind == "fwi":
                    shape = problem_kind("fwi").build(spec.simulator.model_dump(mode="json")).y.shape
                    _fields(
                        group,
                        shape,
                        np.random.default_rng(place),
                        noise,
                        0.3 * _SKILL[name] ** 0.5,
                        1 if name == "enkg" else 3,
                    )
                else:
                    _features(group, spec.kind, place, noise, _SKILL[name], declared.role != "observed")
    made.append(path)


def _fields(
    group: h5py.Group,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    noise: np.random.Generator,
    error: float,
    events: int,
) -> None:
    """Layered models with a fault, and gathers with a moveout: all events are made, the first ones kept."""
    depth, offset = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    truth, y = [], []
    for _ in range(3):
        bend = 4 * np.sin(offset / 31 * np.pi * rng.uniform(0.5, 2)) + 4 * (offset > rng.integers(8, 24))
        interfaces = np.sort(rng.uniform(5, 30, 4))
        layer = (depth[None] + bend[None] > interfaces[:, None, None]).sum(axis=0)
        truth.append(np.linspace(1600, 4200, 5)[layer])
        t, r = np.meshgrid(np.linspace(0, 100, shape[1]), np.arange(shape[2]), indexing="ij")
        arrivals = [10 + 12 * k + rng.uniform(1.5, 3) * np.hypot(0.1 * (r - 16), 1 + k) ** 1.5 for k in range(5)]
        one = sum(np.exp(-(((t - a) / 2.0) ** 2)) * np.cos(t - a) / (1 + k) for k, a in enumerate(arrivals))
        y.append(np.stack([one] * shape[0]))
    x = np.array(truth[:events])
    smooth = 150 * error * noise.standard_normal((events, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    group.attrs.update(kind="fields", x_dims=["depth", "offset"], y_dims=["source", "time", "receiver"], x_units="m/s",
                       y_units="1")  # fmt: skip
    group["truth"], group["y"] = x.astype("f4"), np.array(y[:events], dtype="f4")
    group["mean"] = (x + smooth[:, 0]).astype("f4")
    group["std"] = np.abs(smooth[:, 1]).astype("f4") + 30
    group["draws"] = (x[:, None] + smooth[:, 1:]).astype("f4")
    group["misfit"] = (0.1 + 0.2 * error * noise.random(events)).astype("f4")
    # Of the first event a draw was simulated again: the same arrivals, later.
    group["again"] = np.roll(group["y"][:1], max(1, int(4 * error)), axis=2)


def _features(group: h5py.Group, kind: str, place: int, noise: np.random.Generator, skill: float, truth: bool) -> None:
    group.attrs["kind"] = "features"
    rng = np.random.default_rng(place)
    if kind == "gaussian":
        gamma = (*GAMMAS, 0.5, 0.5)[(place - 1) % 7]
        x = rng.multivariate_normal([0, 0], [[1, gamma], [gamma, 1]], 4000)
        lean = gamma / (1 + 0.3 * skill)
        z = noise.multivariate_normal([0, 0], [[1, lean], [lean, 1]], 4000)
        columns = {f"x{i + 1}": ("1", np.linspace(-4, 4, 33), x[:, i], 2.5 * x[:, i], z[:, i]) for i in range(2)}
        group["points_draws"] = z[:2000].astype("f4")
        if truth:
            group["points_truth"] = x[:2000].astype("f4")
    else:
        n, soft = 6000, 40 + 25 * place
        x = {"pt": 30 + rng.exponential(soft, n), "eta": rng.normal(0, 1.4, n), "phi": rng.uniform(-np.pi, np.pi, n)}
        x["mass"] = 3 + 0.1 * x["pt"] * rng.gamma(3, 0.4, n)
        columns = {}
        for feature, (unit, edges) in JET_FEATURES.items():
            smear = 1 + 0.02 * skill * (feature in ("pt", "mass"))
            seen = (
                x[feature] * (0.85 + 0.12 * rng.standard_normal(n) if feature == "pt" else 1)
                if feature != "mass"
                else None
            )
            columns[feature] = (
                unit,
                edges,
                x[feature],
                seen,
                x[feature] * smear * (1 + 0.03 * noise.standard_normal(n)),
            )
    for feature, (unit, edges, true, seen, drawn) in columns.items():
        item = group.create_group(feature)
        item.attrs.update(unit=unit, place=list(columns).index(feature), truths="pairs")
        item["edges"] = edges
        if truth:
            item["truth"] = np.histogram(true, edges)[0].astype(float)
        if seen is not None:
            item["observed"] = np.histogram(seen, edges)[0].astype(float)
        item["unfolded"] = np.histogram(drawn, edges)[0].astype(float)
        item["unfolded_error"] = np.sqrt(item["unfolded"][...])
        if seen is not None and group.attrs["role"] == "seen":
            bins = np.quantile(true, np.linspace(0, 1, 8))
            counts = np.histogram2d(seen, true, bins=bins)[0]
            item["migration"], item["migration_edges"] = counts / np.histogram(true, bins)[0], bins
            item["bin_purity"] = np.diag(counts) / np.histogram(seen, bins)[0]
            item["efficiency"] = np.linspace(0.6, 0.95, 7)
    if kind == "unfolding" and truth:
        near = 0.6 ** np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
        group["correlation"] = np.block([[near, 0.2 * near], [0.2 * near, near]])
        group["correlation"].attrs.update(features=["pt", "mass"], bins=[7, 7])


def _curves(made: list[Path], path: Path, rng: np.random.Generator) -> None:
    rows = []
    for step in range(0, 3001, 10):
        loss = 0.3 + 0.9 * np.exp(-step / 500)
        rows.append({"step": step, "train_loss": loss * rng.uniform(0.9, 1.1), "learning_rate": 1e-3, "grad_norm": 1.0,
                     "validation_loss": loss * 1.04 if step and step % 500 == 0 else ""})  # fmt: skip
    _csv(made, path, ["step", "train_loss", "validation_loss", "learning_rate", "grad_norm"], rows)


def _csv(made: list[Path], path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    made.append(path)


def _json(made: list[Path], path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    made.append(path)
