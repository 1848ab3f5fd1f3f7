"""``pullback compare``: compare two runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from pullback.cli.common import FINE, FOUND, Refused, count, table

IDENTITY = ("problem", "method", "infer", "seed", "family", "metric")
NUMBERS = ("value", "low", "high", "floor", "n", "n_observed", "groups")
MOST_ROWS = 20


class Run(NamedTuple):
    """One run: its receipt, and its table of metrics where that is there."""

    path: Path
    receipt: dict[str, Any]
    metrics: dict[tuple[str, ...], dict[str, str]] | None


@click.command(
    epilog="""\b
Examples:
  pullback compare results/default ../other/results/default
  pullback compare a/receipt.json b/receipt.json --rtol 1e-3      numbers may differ by a thousandth
  pullback compare a/results/x b/results/x --statistical          another machine, another seed

\b
Exit status: 0 the runs agree; 1 they differ; 2 wrong usage, or no receipt."""
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--rtol", type=click.FloatRange(0), default=0.0, help="Relative tolerance of metrics.  [default: exact]")
@click.option("--statistical", is_flag=True, help="Metrics agree when their intervals overlap.")
@click.option("--all-rows", is_flag=True, help=f"Every metric that differs, not the first {MOST_ROWS}.")
@click.pass_context
def compare(context: click.Context, a: Path, b: Path, rtol: float, statistical: bool, all_rows: bool) -> None:
    """Compare two runs, given by their results folders (results/<study>) or their receipts.

    The study, the digests of data and models and the metrics must be equal. With --rtol or --statistical the metrics
    decide, and digests and seeds may differ. Versions, commit and machine are printed but not compared.
    """
    runs = read_run(a), read_run(b)
    tolerant = bool(rtol) or statistical
    agree = True
    for title, rows, decides in _receipts(runs, tolerant):
        agree &= not (rows and decides)
        said = "the same" if not rows else "differs" if decides else "differs (decides nothing here)"
        click.echo(f"{title}: {said}")
        if rows:
            shown = rows if all_rows else rows[:MOST_ROWS]
            click.echo(_indented(table([["", "a", "b"], *shown])))
            if len(rows) > len(shown):
                click.echo(f"  and {len(rows) - len(shown)} more (--all-rows)")
    agree &= _metrics(runs, rtol, statistical, all_rows)
    click.echo(f"\n{'the runs agree' if agree else 'the runs differ'}: a is {runs[0].path}, b is {runs[1].path}")
    context.exit(FINE if agree else FOUND)


def read_run(path: Path) -> Run:
    """A run from its receipt or its results folder.

    Raises:
        Refused: there is no receipt, or the file is not a receipt of pullback.
    """
    receipt = path / "receipt.json" if path.is_dir() else path
    try:
        values = json.loads(receipt.read_text(encoding="utf-8"))
        if values["receipt_version"] != 1 or not isinstance(values["study"], dict):
            raise Refused(f"{receipt}: receipt_version is {values['receipt_version']}, this pullback reads 1")
    except OSError as error:
        hint = "give a results folder (results/<study>) or a receipt.json of a run that ended"
        raise Refused(f"{receipt}: cannot be read ({error.strerror}); {hint}") from None
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{receipt}: is no receipt of pullback (JSON with receipt_version and study)") from None
    return Run(path, values, _read_metrics(receipt.parent / "report" / "metrics.csv"))


def _read_metrics(path: Path) -> dict[tuple[str, ...], dict[str, str]] | None:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
            return {tuple(row[name] for name in IDENTITY): row for row in rows}
    except OSError:
        return None
    except KeyError as error:
        raise Refused(f"{path}: there is no column {error}; it is no table of metrics of pullback") from None


Section = tuple[str, list[list[str]], bool]


def _receipts(runs: tuple[Run, Run], tolerant: bool) -> Iterator[Section]:
    """Each part of two receipts: title, differing rows, and whether they make the runs different."""
    first, second = (run.receipt for run in runs)
    seeds = {"seed", "seeds"} if tolerant else set()
    study = _rows(first["study"], second["study"])
    yield "study", [row for row in study if row[0] not in seeds], True
    if seeds:
        yield "seeds of the study", [row for row in study if row[0] in seeds], False
    for title, key, decides in (
        ("data", "data", not tolerant),
        ("models", "models", not tolerant),
        ("versions", "versions", False),
        ("lock file", "lock", False),
        ("git", "git", False),
        ("machine", "machine", False),
    ):
        # Two runs are always made at two times.
        rows = [row for row in _rows(first.get(key), second.get(key)) if row[0] != "time"]
        yield title, rows, decides


def _rows(first: Any, second: Any) -> list[list[str]]:
    from pullback.cli.causes import ABSENT, differences

    def text(value: Any) -> str:
        said = "-" if value is ABSENT or value is None else json.dumps(value, ensure_ascii=False).strip('"')
        return said if len(said) <= 24 else said[:21] + "..."

    return [[".".join(path) or "all", text(a), text(b)] for path, a, b in differences(first, second)]


def _metrics(runs: tuple[Run, Run], rtol: float, statistical: bool, all_rows: bool) -> bool:
    """Say which metrics differ; whether they agree."""
    tables = [run.metrics for run in runs]
    for run, metrics in zip(runs, tables, strict=True):
        if metrics is None:
            said = f"{run.path} has no report/metrics.csv beside its receipt"
            if rtol or statistical:
                raise Refused(f"{said}, and metrics were to decide")
            click.echo(f"metrics: not compared, {said}")
            return True
    first, second = tables
    assert first is not None
    assert second is not None
    for name, one, other in (("a", first, second), ("b", second, first)):
        if alone := [key for key in one if key not in other]:
            whose = sorted({"/".join(key[:3]) for key in alone})
            more = f" and {len(whose) - 6} more" if len(whose) > 6 else ""
            click.echo(f"metrics: {count(len(alone), 'row')} in {name} only, of {', '.join(whose[:6])}{more}")
    both = [key for key in first if key in second]
    if statistical:
        judged = [key for key in both if first[key]["low"] and second[key]["low"]]
        if len(judged) < len(both):
            click.echo(f"metrics: {count(len(both) - len(judged), 'row')} without an interval not compared")
        both = judged
    if (rtol or statistical) and not both:
        raise Refused("the runs have no metrics in common that could be compared, and metrics were to decide")
    rows = [
        [*key, _said(first[key]), _said(second[key]), complaint]
        for key in both
        if (complaint := _differs(first[key], second[key], rtol, statistical))
    ]
    wanted = "their intervals overlap" if statistical else f"within {rtol:g}" if rtol else "exactly"
    if rows:
        click.echo(f"metrics: {len(rows)} of {count(len(both), 'row')} that both have differ (wanted: {wanted})")
        shown = rows if all_rows else rows[:MOST_ROWS]
        click.echo(_indented(table([[*IDENTITY, "a", "b", ""], *shown])))
        if len(rows) > len(shown):
            click.echo(f"  and {len(rows) - len(shown)} more (--all-rows)")
    else:
        click.echo(f"metrics: {count(len(both), 'row')} that both have agree ({wanted})")
    return not rows and first.keys() == second.keys()


def _said(row: dict[str, str] | None) -> str:
    if row is None:
        return "-"
    return f"{row['value']} [{row['low']}, {row['high']}]" if row["low"] else row["value"]


def _differs(first: dict[str, str], second: dict[str, str], rtol: float, statistical: bool) -> str:
    """What differs between two rows, or nothing."""
    if statistical:
        overlap = float(first["low"]) <= float(second["high"]) and float(second["low"]) <= float(first["high"])
        return "" if overlap else "intervals do not overlap"
    for column in ("value",) if rtol else (*NUMBERS, "unit", "returns"):
        # A table of another version may lack a column.
        one, other = first.get(column, ""), second.get(column, "")
        if one == other:
            continue
        try:
            a, b = float(one), float(other)
        except ValueError:
            return f"{column}: {one or 'nothing'}, {other or 'nothing'}"
        # Not a number in one of them is never close to the other.
        if not abs(a - b) <= rtol * max(abs(a), abs(b)):
            return column if a != a or b != b else f"{column}, by {abs(a - b) / max(abs(a), abs(b)):.2g} of it"
    return ""


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
