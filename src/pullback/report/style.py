"""How the report speaks: one colour per method everywhere, words for metrics, numbers with sensible digits."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

TRUTH = "#111111"
OBSERVED = "#8a8a8a"
INK = "#24292f"
FAINT = "#d8dee4"
FLOOR = "#b7bec6"

# Okabe & Ito's palette, distinct for every common kind of colour vision, by contrast on white; yellow is darkened.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00", "#5B4B8A")
YARDSTICK = "#7A7A7A"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
KIND_COLOURS = {"ei-fm": "#0072B2", "cfm": "#D55E00", "oracle": "#009E73", "enkg": "#CC79A7", "random-truth": YARDSTICK}
BASELINES = ("random-truth", "prior-draws")
BOUNDS = ("oracle",)
"""Kinds that are told the true prior: shown beside the methods, never ranked among them."""
ROLES = ("seen", "unseen", "observed")
ROLE_TEXT = {
    "seen": "Seen: trained on this prior, judged on other events of it",
    "unseen": "Unseen: this prior is for evaluation only",
    "observed": "Observed: only the observations are used, there is no truth to compare with",
}
LABEL_TEXT = {
    "exact": "draws from the posterior itself",
    "asymptotic": "draws that tend to the exact posterior as the method is given more work",
    "approximate": "draws from an approximation (a trained model, a heuristic guidance): no guarantee",
    "point estimate": "a single answer without uncertainty: its draws are copies",
}


@dataclass(frozen=True)
class Series:
    """One column of every table and one line of every figure: a method with one of its inferences.

    Attributes:
        method, infer: the study's names.
        kind, returns: kind of method; exact, asymptotic, approximate or point estimate.
        label: what is printed; the inference is named only where the method has several.
        index: number of the series in the whole report, what the toggles act on.
        colour, marker: the colour belongs to the method, the marker to method and inference.
    """

    method: str
    infer: str
    kind: str
    returns: str
    label: str
    index: int
    colour: str
    marker: str

    @property
    def competes(self) -> bool:
        """Whether the series may be marked best: a method that is told the true prior may not."""
        return self.kind not in BOUNDS


def make_series(methods: Iterable[tuple[str, str, str, str]]) -> list[Series]:
    """Series in the order of columns, from (method, infer, kind, returns) of all problems, repeats allowed.

    A method of a name keeps its colour in every problem. Baselines come after the methods, bounds last.
    """
    unique = sorted(set(methods), key=lambda m: (m[2] in BOUNDS, m[2] in BASELINES, m[0], m[1]))
    names = dict.fromkeys(m[0] for m in unique)
    colours: dict[str, str] = {}
    for name in names:
        kind = next(m[2] for m in unique if m[0] == name)
        wanted = KIND_COLOURS.get(kind)
        if wanted and wanted not in colours.values():
            colours[name] = wanted
    present = {KIND_COLOURS.get(m[2]) for m in unique}
    free = [c for c in PALETTE if c not in colours.values() and c not in present]
    for position, name in enumerate(n for n in names if n not in colours):
        colours[name] = (free or list(PALETTE))[position % len(free or PALETTE)]
    several = {name for name in names if len({m[1] for m in unique if m[0] == name}) > 1}
    return [
        Series(
            method,
            infer,
            kind,
            returns,
            f"{method} ({infer})" if method in several else method,
            index,
            colours[method],
            MARKERS[index % len(MARKERS)],
        )
        for index, (method, infer, kind, returns) in enumerate(unique)
    ]


@dataclass(frozen=True)
class MetricText:
    """Words for one metric. ``better``: "lower", "higher" or "" where neither is better by itself."""

    title: str
    better: str
    meaning: str


_METRICS = (
    ("swd", "Sliced Wasserstein distance", "lower", "distance between the clouds of draws and of truths"),
    ("w1", "Wasserstein-1 distance", "lower", "distance between the spectra of draws and of truths"),
    ("mse", "Mean squared error", "lower", "mean squared difference to the truth of the same event"),
    ("mae", "Mean absolute error", "lower", "mean absolute difference to the truth of the same event"),
    ("relative_l2", "Relative L2 error", "lower", "norm of the difference to the truth over the norm of the truth"),
    ("psnr", "Peak signal-to-noise ratio", "higher", "the width of the bounds over the root mean square error"),
    ("ssim", "Structural similarity", "higher", "1 for images that agree with the truth"),
    ("energy_score_excess", "Energy score above the exact posterior's", "lower", "relative: 0.01 is 1 % worse"),
    ("crps_excess", "CRPS above the exact posterior's", "lower", "relative: 0.01 is 1 % worse"),
    ("crps", "CRPS", "lower", "distance of all draws of an event from its truth; rewards calibration and sharpness"),
    ("energy_score", "Energy score", "lower", "distance of all draws of an event from its truth, components together"),
    ("sbc_ks", "SBC: distance of ranks from uniform", "lower", "ranks of truths among their draws; 95 % of exact "
     "samplers lie below 1.56 floors"),
    ("tarp_gap", "TARP: gap of expected coverage", "lower", "largest gap over levels, whole posteriors; 95 % of exact "
     "samplers lie below 1.56 floors"),
    ("c2st", "C2ST against the exact posterior", "lower", "accuracy of a classifier, 0.5 where it cannot tell"),
    ("posterior_mean_error", "Posterior mean against the exact one", "lower", "root mean square, in exact standard "
     "deviations, noise of finite draws taken off"),
    ("posterior_covariance_error", "Posterior covariance against the exact one", "lower", "relative Frobenius norm, "
     "noise of finite draws taken off"),
    ("coverage", "Coverage of central intervals", "", "share of truths inside; right when it equals the stated one"),
    ("spread_skill", "Spread over skill", "", "spread over actual error; 1 when calibrated, below 1 overconfident"),
    ("final_misfit", "Misfit where the descent ended", "lower", "median over events, at the last band's frequencies"),
    ("misfit", "Data misfit", "lower", "draws simulated again, compared with the observation"),
    ("fold_back", "Fold-back distance", "lower", "draws sent forward again, against the observations"),
    ("embedding_distance", "Embedding distance", "", "of the observations from the training sets; above 1 unlike them"),
    ("effective_pool_low", "Effective pool, worst 5 %", "higher", "of the events whose draws had the least choice"),
    ("effective_pool", "Effective pool", "higher", "candidates that a draw is chosen from, counted by their weights"),
    ("seen_swd", "Distance to the nearest seen prior", "", "between these observations and a training ensemble's"),
    ("set_size_outside", "Sets of untrained size", "", "share of conditioning sets whose size was not trained"),
    ("set_size", "Smallest conditioning set", "", "observations in the smallest set"),
    ("failed_draws", "Failed draws", "lower", "share of draws that could not be made; they count against the method"),
    ("failed_resimulations", "Failed re-simulations", "lower", "share of draws that the simulator refused"),
)  # fmt: skip


def metric_text(metric: str) -> MetricText:
    """Words for a metric of any name: ``swd500_draw``, ``w1_draw.pt``, ``mae_point``.

    ``_draw`` and ``_point`` say what was compared with the truth; what follows a dot is a feature.
    """
    stem, _, feature = metric.partition(".")
    suffix = ""
    for ending, words in (("_draw", "one draw"), ("_point", "point estimate"), ("_weighted", "weighted draws")):
        if stem.endswith(ending):
            stem, suffix = stem.removesuffix(ending), words
    for prefix, title, better, meaning in _METRICS:
        if stem.startswith(prefix):
            rest = stem.removeprefix(prefix).strip("_").replace("_", " ")
            if rest.isdigit():
                rest += " directions" if prefix == "swd" else " %"
            said = [feature, "" if rest == "swd" else rest]
            inside = ", ".join(part for part in said if part)
            title = f"{title} ({inside})" if inside else title
            return MetricText(f"{title}, {suffix}" if suffix else title, better, meaning)
    return MetricText(metric.replace("_", " "), "", "")


def main_metric(metrics: Iterable[str], is_field: bool) -> str | None:
    """The metric that stands first: swd_draw for vectors, mae_point for fields, else the first that has a direction."""
    present = list(dict.fromkeys(metrics))
    for wanted in ("mae_point", "swd_draw") if is_field else ("swd_draw", "mae_point"):
        if wanted in present:
            return wanted
    directed = [m for m in present if metric_text(m).better and not m.startswith(("fail", "misfit", "fold"))]
    return next(iter(directed), None)


def number(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A value with the digits that its interval supports (two digits of the half-width), or three significant ones."""
    if not math.isfinite(value):
        return "–"
    scale = (high - low) / 2 if math.isfinite(high - low) and high > low else abs(value) / 10
    if scale == 0:
        return "0"
    decimals = 1 - math.floor(math.log10(scale))
    if decimals > 7:
        return f"{value:.2e}"
    text = f"{value:,.{max(decimals, 0)}f}"
    return text.replace(",", "\u202f").replace("-", "\u2212")


def interval(value: float, low: float, high: float) -> str:
    """``[low, high]`` with the digits of the value, or nothing where there is no interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, low, high)}, {number(high, low, high)}]"


def with_unit(name: str, unit: str) -> str:
    """``pt (GeV)``; a unit of 1 is not printed."""
    return name if unit in ("", "1", "nan", None) else f"{name} ({unit})"
