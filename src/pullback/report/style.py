"""Style of the report: one colour per method, labels of metrics, rounding of numbers."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pullback.metrics.metric import words
from pullback.study.kinds import MethodSpec

TRUTH = "#111111"
OBSERVED = "#8a8a8a"
INK = "#24292f"
FAINT = "#d8dee4"
FLOOR = "#b7bec6"

# Okabe & Ito's palette, distinct for every common kind of colour vision, by contrast on white; yellow is darkened.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00", "#5B4B8A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
ROLES = ("seen", "unseen", "observed")
ROLE_TEXT = {
    "seen": "Seen: trained on this prior, evaluated on other events of it",
    "unseen": "Unseen: this prior is for evaluation only",
    "observed": "Observed: real data, without a truth",
}
LABEL_TEXT = {
    "exact": "draws from the posterior itself",
    "asymptotic": "draws that converge to the exact posterior with increasing computing effort",
    "approximate": "draws from an approximation (a trained model, a heuristic guidance): no guarantee",
    "point estimate": "a single estimate without uncertainty: its draws are copies",
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
        spec: of the kind: capabilities and hints for poor results.
    """

    method: str
    infer: str
    kind: str
    returns: str
    label: str
    index: int
    colour: str
    marker: str
    spec: type[MethodSpec] = MethodSpec

    @property
    def competes(self) -> bool:
        """Whether the series may be marked best: a method that uses the true prior does not compete."""
        return not self.spec.uses_true_prior


def make_series(
    methods: Iterable[tuple[str, str, str, str]], specs: Mapping[str, type[MethodSpec]] | None = None
) -> list[Series]:
    """Series in the order of columns; a method of a name keeps its colour in every problem.

    Baselines come after the methods, those that use the true prior last.

    Args:
        methods: (method, infer, kind, returns) of all problems, repeats allowed.
        specs: of each kind; what it does not hold has no property.
    """
    kinds = dict(specs or {})

    def spec(kind: str) -> type[MethodSpec]:
        return kinds.get(kind, MethodSpec)

    unique = sorted(set(methods), key=lambda m: (spec(m[2]).uses_true_prior, spec(m[2]).baseline, m[0], m[1]))
    names = dict.fromkeys(m[0] for m in unique)
    colours: dict[str, str] = {}
    for name in names:
        wanted = spec(next(m[2] for m in unique if m[0] == name)).colour
        if wanted and wanted not in colours.values():
            colours[name] = wanted
    present = {spec(m[2]).colour for m in unique}
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
            spec(kind),
        )
        for index, (method, infer, kind, returns) in enumerate(unique)
    ]


def main_metric(metrics: Iterable[str], is_field: bool) -> str | None:
    """The metric that stands first: swd_draw for vectors, mae for fields, else the first that has a direction."""
    present = list(dict.fromkeys(metrics))
    for wanted in ("mae_point", "mae_draw", "swd_draw") if is_field else ("swd_draw", "mae_point"):
        if wanted in present:
            return wanted
    known = {metric: words(metric) for metric in present}
    return next((m for m, said in known.items() if said.better in ("lower", "higher") and said.metric.leads), None)


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
