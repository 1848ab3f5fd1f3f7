"""The selected and matched jets of a ROOT file, checked."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from pydantic import Field

from pullback.readers.base import Block, OutsideFile, ReadError
from pullback.readers.branches import Branches, JetColumns, Wrong
from pullback.readers.event_weights import Weights
from pullback.readers.invalid import placeholders, refuse_too_many
from pullback.readers.jet_values import NONE
from pullback.readers.jets import Jets, match
from pullback.readers.table import RootTable
from pullback.study.reader_spec import ReaderSpec

log = logging.getLogger("pullback")

ENTRY_BITS, JET_BITS = 36, 8
"""event_id of events by file and entry: ``file << 44 | entry << 8 | jet``."""
NUMBERED_JET_BITS = 6
"""event_id of numbered collisions: ``number << 6 | jet``."""

USUAL_UNKNOWN = 0.05
"""Fraction of indices of `match` beyond the list of truth jets that is not warned of: NanoAOD stores hard ones only."""


class JetSelection(ReaderSpec):
    """Which branches hold jets, and how they are selected and matched."""

    records: ClassVar[str] = "jets"
    truth: ClassVar[str] = "x"

    y: Branches = Field(description="reconstructed jets")
    x: Branches | None = Field(default=None, description="truth jets; left out for an observed family")
    match: str | None = Field(
        default=None,
        description="branch with the index of each reconstructed jet's truth jet (-1: none); without it the "
        "nearest in Delta R below match_radius, one to one",
    )
    match_radius: float = Field(
        default=0.4, gt=0, description="largest Delta R of a reconstructed jet and its truth jet"
    )
    far_matches: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="most pairs of `match` that are further apart than match_radius, as a fraction of the selected "
        "ones; fewer are warned of",
    )
    unknown_matches: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="most indices of `match` beyond the list of truth jets, as a fraction; their jets are unmatched. A "
        "few are normal in NanoAOD (3 % in CMS Open Data ttbar), which stores truth jets above 10 GeV only",
    )
    event: str | None = Field(
        default=None,
        description="branch with a number of each collision, unique in the split, that its events are known by; "
        "without it they are known by file and entry",
    )
    weight: str | None = Field(
        default=None, description="branch with the event weight; LHEPdfWeight[3] is one of a vector, from 0 on"
    )
    y_pt_min: float = Field(
        default=5.0, ge=5, description="GeV, selection on reconstructed jets: that of the problem, `reco_pt_min`"
    )
    x_pt_min: float = Field(
        default=30.0,
        ge=0,
        description="GeV, selection on truth jets; the likelihood of the built-in detector needs at least 20",
    )

    @property
    def has_truth(self) -> bool:
        """Whether truth jets are mapped."""
        return self.x is not None

    @property
    def columns(self) -> dict[str, str]:
        """File and entry of a jet, unless collisions are numbered; the event weight."""
        place = {} if self.event else {"source_entry": "int64", "source_index": "int32"}
        return {**place, "weight": "float64"} if self.weight else place

    def branches(self, with_truth: bool) -> list[str]:
        """The branches that are read; without truth, those of observations only."""
        truth = [*(self.x.named if self.x else ()), self.match] if with_truth else []
        return [*self.y.named, *filter(None, (*truth, self.weight, self.event))]


class SelectedJets:
    """The selected and matched jets of one table.

    Attributes:
        left_out: events that are not in the blocks, by reason.
        warnings: what may be wrong. Both are complete when the last block was given.
    """

    def __init__(self, spec: JetSelection, file: OutsideFile, table: RootTable):
        self.spec, self.file, self.table = spec, file, table
        self.tally: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.first: dict[tuple[str, str, str], int] = {}
        self.weights = Weights(file.path, spec.weight, file.split) if spec.weight else None
        self.warnings: list[str] = []
        self.numbers: list[np.ndarray] = []
        self.reco = JetColumns(table, spec.y, spec.placeholders, self.warnings)
        self.truth = None
        if spec.x and file.has_truth:
            self.truth = JetColumns(table, spec.x, spec.placeholders, self.warnings)

    @property
    def converted(self) -> list[str]:
        """The branches that are not in GeV and radians, with their units."""
        maps = [self.reco, *([self.truth] if self.truth else [])]
        return [
            f"'{each.columns[of]}' in {unit}" for each in maps for of, unit in each.units.items() if of in each.columns
        ]

    def blocks(self, first: int, last: int) -> Iterator[Block]:
        """The events of some entries, and the checks of them all."""
        for start, stop in self.table.chunks(first, last):
            block = self._block(start, stop)
            if stop == last:
                # Before the last block is given: who reads one block alone has then seen the checks of a small file.
                self._check_file()
            if block is not None:
                yield block

    def _block(self, start: int, stop: int) -> Block | None:
        """The events of some entries; None where no jet is left."""
        spec, table = self.spec, self.table
        reco, keep = self._jets(self.reco, spec.y_pt_min, start, stop)
        self.tally["entries"] += stop - start
        self.tally["reconstructed jets"] += int((reco.features[:, 0] > 0).sum())
        if self.truth:
            truth, has_truth = self._jets(self.truth, spec.x_pt_min, start, stop)
            self.tally["truth jets"] += int((truth.features[:, 0] > 0).sum())
            index = self._match_index(spec.match, reco, keep, start, stop) if spec.match else None
            cuts = {"radius": spec.match_radius, "y_pt_min": spec.y_pt_min, "x_pt_min": spec.x_pt_min}
            keep &= has_truth
            rows, partners = match(reco, truth, index, tally=self.tally, **cuts)
        else:
            rows = np.flatnonzero(reco.features[:, 0] >= spec.y_pt_min)
            partners = rows
        numbers: dict[str, np.ndarray] = {}
        events = np.bincount(reco.entry[rows], minlength=stop - start)
        for name in filter(None, (spec.weight, spec.event)):
            numbers[name], valid = self._numbers(name, start, stop, events)
            keep &= valid
        rows, partners = rows[keep[reco.entry[rows]]], partners[keep[reco.entry[rows]]]
        self.tally["events"] += len(rows)
        if not len(rows):
            return None
        entry = reco.entry[rows]
        jet = rows - reco.start[entry]
        bits = NUMBERED_JET_BITS if spec.event else JET_BITS
        if (most := int(jet.max())) >= 1 << bits:
            raise ReadError(
                f"{table.path}: {most + 1} jets in entry {start + int(entry[np.argmax(jet)])}, wanted at most "
                f"{1 << bits}; raise `y_pt_min`"
            )
        columns: dict[str, np.ndarray] = {}
        if spec.event:
            group = self._collisions(spec.event, numbers[spec.event], keep)[entry]
            self.numbers.append(np.stack([group, entry + start])[:, np.unique(entry, return_index=True)[1]])
        else:
            group = (entry + start).astype(np.int64) | (np.int64(self.file.number) << ENTRY_BITS)
            columns = {"source_entry": (entry + start).astype(np.int64), "source_index": jet.astype(np.int32)}
        if self.weights:
            weight = numbers[self.weights.name].astype(np.float64)
            used = np.isin(np.arange(stop - start), entry)
            self.weights.add(weight[keep], np.arange(start, stop)[keep], used[keep])
            columns["weight"] = weight[entry]
        x = truth.features[partners] if self.truth else None
        return Block(reco.features[rows, :3], x, (group << bits) | jet, group, columns)

    def _jets(self, columns: JetColumns, pt_min: float, start: int, stop: int) -> tuple[Jets, np.ndarray]:
        """Jets of some entries, and which entries have them (entry,).

        Jets with a value that is none are refused, or left out and counted; so are entries without a list. Jets below
        the cut are no events: where such a one is left out, it is not counted.
        """
        found = columns.read(start, stop)
        self._leave_out(found.wrong, "jets", found.jets.entry + start, ~(found.pt < pt_min))
        self._leave_out_entries(found.absent, start, stop)
        return found.jets, ~np.any(list(found.absent.values()), axis=0)

    def _leave_out_entries(self, absent: dict[str, np.ndarray], start: int, stop: int) -> None:
        """Refuse or count entries without a list, by branch (entry,); each loses an event at least."""
        wrong = {(name, "missing (None)"): where for name, where in absent.items()}
        self._leave_out(wrong, "entries", np.arange(start, stop), np.ones(stop - start, int))

    def _leave_out(self, wrong: Wrong, of: str, entry: np.ndarray, events: np.ndarray) -> None:
        """Refuse or count values that are none.

        Args:
            wrong: (branch, what they are) -> where (value,).
            of: what has a value: jets, or entries.
            entry: that each value is of (value,).
            events: that are lost with each (value,).
        """
        for (name, what), where in wrong.items():
            if not where.any():
                continue
            first = int(entry[np.argmax(where)])
            if self.spec.invalid == "refuse":
                raise ReadError(
                    f"{self.table.path}: branch '{name}' is {what} in entry {first} ({int(where.sum())} of "
                    f"{len(where)} {of} up to entry {int(entry[-1])}): repair the file, or leave such {of} out by "
                    f"read.invalid: drop{'; `placeholders` lists what is one' if what == 'a placeholder' else ''}"
                )
            self.first.setdefault((of, name, what), first)
            self.tally[f"{of} left out as '{name}' is {what}"] += int(where.sum())
            if lost := int(events[where].sum()):
                self.left_out[f"'{name}' is {what}"] += lost

    def _match_index(self, name: str, reco: Jets, has_jets: np.ndarray, start: int, stop: int) -> np.ndarray:
        """The truth jet of each reconstructed one within its collision (jet,), -1 for none; of entries with a list."""
        path = self.table.path
        (column,), _ = self.table.lists([name], start, stop)
        column = column.without(~has_jets)
        counts, absent = column.counts, column.absent & (reco.counts > 0)
        assert counts is not None
        self._leave_out_entries({name: absent}, start, stop)
        if (different := np.flatnonzero((counts != reco.counts) & ~absent)).size:
            row = int(different[0])
            raise ReadError(
                f"{path}: in entry {start + row} the match branch '{name}' has {counts[row]} values for "
                f"{reco.counts[row]} reconstructed jets; wanted one for each, correct `match`"
            )
        if column.values.dtype.kind not in "iu":
            raise ReadError(
                f"{path}: the match branch '{name}' holds {column.values.dtype}, wanted whole numbers; correct `match`"
            )
        values = column.values.astype(np.int64)
        if column.values.dtype.kind == "u":
            values[column.values == np.iinfo(column.values.dtype).max] = -1  # what -1 is without a sign
        named = ~np.repeat(absent, reco.counts)
        index, missing = np.full(len(named), -1), np.zeros(len(named), bool)
        index[named], missing[named] = values, column.missing
        there = reco.features[:, 0] > 0
        index[~there] = -1
        none = np.isin(index, [*self.spec.placeholders, *NONE]) & (index < -1)
        wrong = {(name, "missing (None)"): missing & there, (name, "a placeholder"): none & ~missing}
        self._leave_out(wrong, "jets", reco.entry + start, reco.features[:, 0] >= self.spec.y_pt_min)
        index[missing | none] = -1
        if (index < -1).any():
            row = int(np.argmax(index < -1))
            raise ReadError(
                f"{path}: the match branch '{name}' holds {index[row]} in entry {start + int(reco.entry[row])}, out of "
                "range: wanted -1 (none) or the number of a truth jet; correct `match`, or list it in `placeholders`"
            )
        return index

    def _numbers(self, name: str, start: int, stop: int, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A number of each collision, and where it is one (entry,); ``events`` (entry,) are lost where it is not."""
        column = self.table.numbers(name, start, stop)
        values, missing = column.values, column.missing
        finite = np.isfinite(values)
        # A collision may have the number 9999.
        listed = [each for each in self.spec.placeholders if each < 0 or name != self.spec.event]
        wrong = {
            (name, "missing (None)"): missing,
            (name, "not finite"): ~finite & ~missing,
            (name, "a placeholder"): placeholders(np.where(missing, np.nan, values), listed) & finite,
        }
        self._leave_out(wrong, "entries", np.arange(start, stop), events)
        return values, ~np.any(list(wrong.values()), axis=0)

    def _collisions(self, name: str, numbers: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """The number that each collision is known by (entry,), int64."""
        known, largest = numbers[keep], 1 << (63 - NUMBERED_JET_BITS)
        if numbers.dtype.kind not in "iu" or (known < 0).any() or (known >= largest).any():
            raise ReadError(
                f"{self.table.path}: '{name}' holds {numbers.dtype} from {known.min()} to {known.max()}, wanted "
                f"whole numbers from 0 to {largest - 1}; name another branch in `event`, or leave it out"
            )
        return numbers.astype(np.int64)

    def _check_file(self) -> None:
        """What shows in the whole file: matches, weights, whether anything is left."""
        spec, path, tally = self.spec, self.table.path, self.tally
        log.info("%s: %s", path, _say(tally))
        for (of, name, what), entry in self.first.items():
            count = tally[f"{of} left out as '{name}' is {what}"]
            self.warnings.append(f"{path}: {count} {of} left out: branch '{name}' is {what}, first in entry {entry}")
        beyond, named = tally["of these beyond the truth list"], tally["named by the match branch"]
        if beyond > spec.unknown_matches * named:
            raise ReadError(
                f"{path}: {beyond} of {named} indices in '{spec.match}' are out of range of the list of truth jets, "
                f"wanted at most {spec.unknown_matches:.0%} (`unknown_matches`); `match` must number "
                "the jets of `x` from 0 on"
            )
        if beyond > USUAL_UNKNOWN * named:
            self.warnings.append(
                f"{path}: {beyond} of {named} matched jets name a truth jet that is not stored: unmatched"
            )
        far, pairs = tally["of these further apart than match_radius"], tally["selected pairs by the match branch"]
        if far > spec.far_matches * pairs:
            raise ReadError(
                f"{path}: {far} of {pairs} pairs by '{spec.match}' are further apart than match_radius "
                f"{spec.match_radius:g}, wanted at most {spec.far_matches:.0%} (`far_matches`); `match` must number "
                "the jets of `x` from 0 on. Without `match` the nearest are taken"
            )
        if far:
            self.warnings.append(
                f"{path}: {far} of {pairs} matched jets are further from their truth jet than match_radius "
                f"{spec.match_radius:g}: kept"
            )
        if not tally["events"]:
            raise ReadError(
                f"{path}: no jets are left after selection (y_pt_min {spec.y_pt_min:g}, x_pt_min {spec.x_pt_min:g} "
                f"GeV), wanted at least one; found {_say(tally)}. Lower the cuts or check the branch map and its "
                "`units`"
            )
        refuse_too_many(path, self.left_out, tally["events"], spec.invalid_fraction)
        self._refuse_numbers_twice()
        if self.weights:
            self.warnings += self.weights.check()

    def _refuse_numbers_twice(self) -> None:
        """Collisions are known by their numbers, and so are their events."""
        if not self.numbers:
            return
        number, entry = np.concatenate(self.numbers, axis=1)
        order = np.argsort(number, kind="stable")
        twice = np.flatnonzero(np.diff(number[order]) == 0)
        if twice.size:
            one, other = entry[order[twice[0] : twice[0] + 2]]
            raise ReadError(
                f"{self.table.path}: '{self.spec.event}' is {number[order[twice[0]]]} in entry {one} and in entry "
                f"{other}, wanted each number once; name another branch in `event`, or leave it out"
            )


def _say(tally: Counter) -> str:
    return ", ".join(f"{count} {what}" for what, count in tally.items())
