"""The events of a table: pairs, fakes and misses, checked."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.ensembles.acceptance import FAKE, Missed
from pullback.readers.base import Block, OutsideFile, ReadError
from pullback.readers.event_weights import Weights
from pullback.readers.invalid import placeholders, refuse_too_many
from pullback.readers.left_out import LeftOut
from pullback.readers.table import Table
from pullback.readers.table_columns import TableColumns
from pullback.readers.table_side import Side, condition, whole_numbers

log = logging.getLogger("pullback")

ENTRY_BITS = 36
"""event_id of events by file and entry: ``file << 36 | entry``."""
_MISS = np.int64(1) << (ENTRY_BITS - 1)
"""Set in the group of a miss that is in no entry of the observations."""


@dataclass(frozen=True)
class Truths:
    """The truths of another tree.

    Attributes:
        number: of each (truth,), by which they belong to observations.
        x: (truth, *x), in the units of the problem.
        passes: which are there (truth,).
        bad: which have a value that is none (truth,): neither they nor their observations are events.
        order: that sorts the numbers.
    """

    number: np.ndarray
    x: np.ndarray
    passes: np.ndarray
    bad: np.ndarray
    order: np.ndarray

    def rows(self, number: np.ndarray) -> np.ndarray:
        """The truth with each number, -1 where there is none."""
        place = np.searchsorted(self.number, number, sorter=self.order)
        row = self.order[np.minimum(place, len(self.order) - 1)]
        return np.where(self.number[row] == number, row, -1)


class TableEvents:
    """The events of one table.

    Attributes:
        lost: values that are none; its ``events`` are not in the blocks.
        warnings: what may be wrong. Both are complete when the last block was given.
    """

    def __init__(self, spec: TableColumns, problem: Any, file: OutsideFile, table: Table, truth: Table | None):
        self.spec, self.file, self.table, self.truth = spec, file, table, truth
        self.tally: Counter[str] = Counter()
        self.lost = LeftOut(file.path, spec, table.what)
        self.warnings: list[str] = []
        self.weights = Weights(file.path, spec.weight, ("events", "events")) if spec.weight else None
        self.numbers: list[np.ndarray] = []
        self.y = Side(table, problem.y, spec.y, spec, self.warnings)
        self.x = Side(truth or table, problem.x, spec.x or {}, spec, self.warnings) if file.has_truth else None

    @property
    def _of_truth(self) -> list[str]:
        """The expressions over the columns of the tree with the truth."""
        spec = self.spec
        return list(filter(None, [*(spec.x or {}).values(), spec.pass_x, spec.match, spec.weight]))

    @property
    def converted(self) -> list[str]:
        """What is told of units."""
        return [side.units.told for side in (self.y, self.x) if side and side.units.told]

    def blocks(self, first: int, last: int) -> Iterator[Block]:
        """The events of some entries, and the checks of them all."""
        truths = self._truths() if self.truth else None
        texts = self.spec.texts(self.file.has_truth)
        for start, stop in self.table.parts(texts, first, last, self.spec.chunk):
            block = self._block(start, stop, truths)
            if stop == last and truths is None:
                self._check_file()
            if block is not None:
                yield block
        if truths is not None:
            assert self.truth is not None
            never = self.file.span(self.truth.entries) if self.spec.match else (0, 0)
            for start, stop in self.truth.parts(self._of_truth, *never, self.spec.chunk):
                yield self._never_recorded(truths, start, stop)
            self._check_file()

    def _block(self, start: int, stop: int, truths: Truths | None) -> Block | None:
        """The events of some entries and the misses there; None where there are neither."""
        spec, table, entries = self.spec, self.table, np.arange(start, stop)
        keep = condition(table, "selection", spec.selection, start, stop, self.lost)
        self.tally["entries"] += stop - start
        self.tally["entries selected"] += int(keep.sum())
        has_y = condition(table, "pass_y", spec.pass_y, start, stop, self.lost, keep)
        y, bad = self.y.read(start, stop, keep & has_y, self.lost)
        x, has_x = None, np.ones(len(keep), bool)
        if self.x and truths is None:
            has_x = condition(table, "pass_x", spec.pass_x, start, stop, self.lost, keep)
            x, bad_x = self.x.read(start, stop, keep & has_x, self.lost)
            bad = bad | bad_x
        elif truths is not None:
            row = truths.rows(self._reco_number[start:stop])
            has_x = (row >= 0) & truths.passes[row]
            bad = bad | ((row >= 0) & truths.bad[row])
            x = np.where(has_x[:, None], truths.x[row], np.nan)
        keep &= ~bad
        self.tally["entries with neither truth nor observation"] += int((keep & ~has_x & ~has_y).sum())
        keep &= has_y | has_x
        numbers = {text: self._numbers(text, start, stop, keep) for text in spec.all_weights.values()}
        for _, valid in numbers.values():
            keep = keep & valid
        event, missed = keep & has_y, keep & has_x & ~has_y
        if self.weights:
            nominal = numbers[self.weights.name][0]
            self.weights.add(nominal[keep], entries[keep], np.ones(int(keep.sum()), bool))
        self.tally["pairs" if self.x else "events"] += int((event & has_x).sum())
        if self.x:
            self.tally["fakes"] += int((event & ~has_x).sum())
            self.tally["misses"] += int(missed.sum())
            self._compare_units(y[event & has_x], x[event & has_x])  # type: ignore[index]
        if not keep.any():
            return None
        number = entries.astype(np.int64) | (np.int64(self.file.number) << ENTRY_BITS)
        columns = {} if spec.event else {"source_entry": entries[event].astype(np.int64)}
        if spec.event:
            number = whole_numbers(table, "event", spec.event, start, stop, keep)
            self.numbers.append(np.stack([number, entries])[:, keep])
        group = whole_numbers(table, "group", spec.group, start, stop, keep) if spec.group else number
        columns |= {name: numbers[text][0][event] for name, text in spec.all_weights.items()}
        if x is None:
            return Block(y[event], None, number[event], group[event], columns)
        fake = ~has_x[event] if FAKE in spec.columns else None
        lost = None
        if spec.pass_y or spec.match:
            weight = numbers[spec.weight][0][missed] if spec.weight else np.ones(int(missed.sum()))
            lost = Missed(x[missed], weight, group[missed])
        real = np.where(has_x[event][:, None], x[event], np.nan)
        return Block(y[event], real, number[event], group[event], columns, fake, lost)

    def _truths(self) -> Truths:
        """All truths of the other tree, and the numbers of all observations."""
        assert self.truth is not None
        assert self.x is not None
        spec, n, m = self.spec, self.truth.entries, self.table.entries
        self.truth.require(self._of_truth)
        if spec.match is None and n != m:
            raise ReadError(
                f"{self.table.path}: '{spec.tree}' has {m} entries and '{spec.x_tree}' {n}, wanted the same number: "
                "name the number of their events in `match`"
            )
        x, passes, bad = np.full((n, len(self.x.texts)), np.nan, np.float32), np.zeros(n, bool), np.zeros(n, bool)
        number, own = np.arange(n), np.arange(m)
        for start, stop in self.truth.parts(self._of_truth, 0, n, spec.chunk):
            there = condition(self.truth, "pass_x", spec.pass_x, start, stop, self.lost)
            x[start:stop], bad[start:stop] = self.x.read(start, stop, there, self.lost)
            passes[start:stop] = there & ~bad[start:stop]
            if spec.match:
                number[start:stop] = whole_numbers(self.truth, "match", spec.match, start, stop, None)
        if spec.match:
            for start, stop in self.table.parts([spec.match], 0, m, spec.chunk):
                own[start:stop] = whole_numbers(self.table, "match", spec.match, start, stop, None)
            for tree, values in ((spec.x_tree, number), (spec.tree, own)):
                order = np.argsort(values, kind="stable")
                self._refuse_twice(f"'{spec.match}' of '{tree}'", values, np.arange(len(values)), order, "match")
        self._reco_number = own
        return Truths(number, x, passes, bad, np.argsort(number, kind="stable"))

    def _never_recorded(self, truths: Truths, start: int, stop: int) -> Block:
        """The truths of some entries of the other tree whose number no observation has."""
        assert self.truth is not None
        missed = truths.passes[start:stop] & ~np.isin(truths.number[start:stop], self._reco_number)
        weight = np.ones(stop - start)
        if self.spec.weight:
            weight = self.truth.numbers(self.spec.weight, start, stop).values.astype(np.float64)
        entries = np.arange(start, stop, dtype=np.int64)
        group = truths.number[start:stop] if self.spec.event else entries | _MISS
        if not self.spec.event:
            group = group | (np.int64(self.file.number) << ENTRY_BITS)
        self.tally["misses"] += int(missed.sum())
        lost = Missed(truths.x[start:stop][missed], weight[missed], group[missed])
        none = np.zeros((0, len(self.y.texts)))
        columns = {name: np.zeros(0) for name in self.spec.columns if name != FAKE}
        return Block(
            none, np.zeros((0, truths.x.shape[1])), np.zeros(0, np.int64), None, columns, np.zeros(0, bool), lost
        )

    def _numbers(self, text: str, start: int, stop: int, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A weight of each event that is kept, and where it is one (entry,)."""
        column = self.table.numbers(text, start, stop)
        values = column.values.astype(np.float64)
        finite = np.isfinite(values)
        none = placeholders(np.where(column.missing, np.nan, values), [v for v in self.spec.placeholders if v < 0])
        wrong = {
            (text, "missing (None)"): column.missing,
            (text, "not finite"): ~finite & ~column.missing,
            (text, "a placeholder"): none & finite,
        }
        self.lost.add(wrong, "entries", np.arange(start, stop), np.ones(stop - start, int), keep)
        return values, ~np.any(list(wrong.values()), axis=0)

    def _compare_units(self, y: np.ndarray, x: np.ndarray) -> None:
        """Refuse pairs whose truth and observation are in other units of one quantity."""
        assert self.x is not None
        for name in set(self.x.texts) & set(self.y.texts) if len(x) else ():
            i, j = list(self.x.texts).index(name), list(self.y.texts).index(name)
            unit, other = self.x.field.units[i], self.y.field.units[j]
            sizes = float(np.median(np.abs(x[:, i]))), float(np.median(np.abs(y[:, j])))
            if unit == other and unit not in ("1", "rad") and min(sizes) > 0 and max(sizes) > 100 * min(sizes):
                what = f"{name} is {sizes[0]:.4g} {unit} in x ('{self.x.texts[name]}') and {sizes[1]:.4g} in y"
                raise ReadError(
                    f"{self.table.path}: the median of {what} ('{self.y.texts[name]}'), wanted both in {unit}: give "
                    f"`units: {{y: {{{name}: UNIT}}}}`, or that of x"
                )

    def _check_file(self) -> None:
        """What shows in the whole file: weights, numbers, whether anything is left."""
        spec, path, tally = self.spec, self.table.path, self.tally
        log.info("%s: %s", path, ", ".join([*(f"{count} {what}" for what, count in tally.items()), *self.lost.said]))
        self.warnings += self.lost.warnings
        turns = {side.field.name for side in (self.y, self.x) if side and side.positive_angles}
        if turns:
            log.info("%s: angles of %s from 0 to 2 pi are wrapped to -pi to pi", path, ", ".join(sorted(turns)))
        if spec.selection and not tally["entries selected"]:
            raise ReadError(
                f"{path}: none of {tally['entries']} entries is selected by `{spec.selection}`, wanted at least one: "
                "correct `selection`"
            )
        if not (events := tally["events"] + tally["pairs"]):
            flags = ", ".join(
                f"`{key}: {text}`" for key in ("pass_y", "pass_x", "match") if (text := getattr(spec, key))
            )
            wanted = "pair of truth and observation" if self.x else "observation"
            raise ReadError(
                f"{path}: there is no {wanted} in {tally['entries']} entries ({tally['fakes']} with an observation "
                f"alone, {tally['misses']} with a truth alone), wanted at least one: correct {flags or 'the file'}"
            )
        refuse_too_many(path, self.lost.events, events + tally["fakes"] + tally["misses"], spec.invalid_fraction)
        if self.numbers:
            number, entry = np.concatenate(self.numbers, axis=1)
            self._refuse_twice(f"'{spec.event}'", number, entry, np.argsort(number, kind="stable"), "event")
        if self.weights:
            self.warnings += self.weights.check()

    def _refuse_twice(self, name: str, number: np.ndarray, entry: np.ndarray, order: np.ndarray, key: str) -> None:
        twice = np.flatnonzero(np.diff(number[order]) == 0)
        if twice.size:
            one, other = entry[order[twice[0] : twice[0] + 2]]
            raise ReadError(
                f"{self.table.path}: {name} is {number[order[twice[0]]]} in entry {one} and in entry {other}, wanted "
                f"each number once; name another in `{key}`"
            )
