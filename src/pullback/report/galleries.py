"""Example results of one family after the other: figures of fields, or of vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

from pullback.report import gathers, maps, matrices, passages, pictures
from pullback.report.drawing import Drawing
from pullback.report.examples import Example
from pullback.report.style import Series
from pullback.report.tables import Family


@dataclass(frozen=True)
class Gallery:
    """Example posteriors of one family: the first figures, and those of more cases behind a fold."""

    family: Family
    drawings: list[Drawing]
    more: list[list[Drawing]]
    opened: bool


def galleries(
    key: str, families: Sequence[Family], series: Sequence[Series], examples: Sequence[Example]
) -> list[Gallery]:
    """Galleries of all families that have examples; the first one of each role is open."""
    found: list[Gallery] = []
    for place, family in enumerate(families):
        mine = [e for e in examples if e.family == family.name]
        answers = [(s, e) for s in series for e in mine if (e.method, e.infer) == (s.method, s.infer)]
        if not answers:
            continue
        first, more = _drawings(f"{key}f{place}", answers)
        opened = family.role not in {g.family.role for g in found}
        if first:
            found.append(Gallery(family, first, more, opened))
    return found


def _drawings(key: str, answers: list[tuple[Series, Example]]) -> tuple[list[Drawing], list[list[Drawing]]]:
    """The figures of the first case, and those of each further one."""
    fields = [a for a in answers if a[1].is_field]
    if fields:
        groups = maps.cases(fields)
        # The case that most methods answered stands first; an expensive method may have answered fewer.
        order = sorted(range(len(groups)), key=lambda i: (-len(groups[i]), i))
        drawn = [(maps.panels(f"{key}e{i}", groups[i]), gathers.data_fit(f"{key}d{i}", groups[i])) for i in order]
        cases = [[drawing for drawing in case if drawing] for case in drawn]
        return cases[0], cases[1:]
    vectors = (
        pictures.clouds(f"{key}x", answers),
        pictures.spectra(f"{key}s", answers),
        passages.passages(f"{key}n", answers),
        matrices.correlations(f"{key}m", answers),
    )
    return [drawing for drawing in vectors if drawing], []
