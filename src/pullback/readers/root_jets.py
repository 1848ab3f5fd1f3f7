"""The selected and matched jets of a ROOT file, checked."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from pullback.ensembles.acceptance import Missed
from pullback.readers.base import Block, OutsideFile, ReadError
from pullback.readers.event_weights import Weights
from pullback.readers.invalid import is_listed, placeholders, refuse_too_many
from pullback.readers.jet_acceptance import UNKNOWN, unmatched
from pullback.readers.jet_columns import JetColumns, ReadJets
from pullback.readers.jet_selection import JetSelection
from pullback.readers.jet_values import NONE
from pullback.readers.jets import match
from pullback.readers.left_out import LeftOut
from pullback.readers.root_table import RootTable

log = logging.getLogger("pullback")

ENTRY_BITS, JET_BITS = 36, 8
"""event_id of events by file and entry: ``file << 44 | entry << 8 | jet``."""
NUMBERED_JET_BITS = 6
"""event_id of numbered collisions: ``number << 6 | jet``."""

USUAL_UNKNOWN = 0.05
"""Fraction of indices of `match` beyond the list of truth jets that is not warned of: NanoAOD stores hard ones only."""


class SelectedJets:
    """The selected and matched jets of one table.

    Attributes:
        lost: values that are none; its ``events`` are not in the blocks.
        warnings: what may be wrong. Both are complete when the last block was given.
    """

    def __init__(self, spec: JetSelection, problem: Any, file: OutsideFile, table: RootTable):
        self.spec, self.file, self.table = spec, file, table
        self.tally: Counter[str] = Counter()
        self.lost = LeftOut(file.path, spec, table.what)
        self.weights = Weights(file.path, spec.weight) if spec.weight else None
        self.warnings: list[str] = []
        self.numbers: list[np.ndarray] = []
        self.reco = JetColumns(table, spec.y, spec.placeholders, self.warnings, problem.y)
        self.truth = None
        if spec.x and file.has_truth:
            self.truth = JetColumns(table, spec.x, spec.placeholders, self.warnings, problem.x)

    @property
    def converted(self) -> list[str]:
        """The branches that are not in GeV and radians, with their units."""
        maps = [self.reco, *([self.truth] if self.truth else [])]
        return [f"'{each.named[of]}' in {unit}" for each in maps for of, unit in each.units.items() if of in each.named]

    def blocks(self, first: int, last: int) -> Iterator[Block]:
        """The events of some entries, and the checks of them all."""
        for start, stop in self.table.parts(self.spec.branches(self.truth is not None), first, last, self.spec.chunk):
            block = self._block(start, stop)
            if stop == last:
                # Before the last block is given: who reads one block alone has then seen the checks of a small file.
                self._check_file()
            if block is not None:
                yield block

    def _block(self, start: int, stop: int) -> Block | None:
        """The events of some entries and the truth jets that were missed there; None where there are neither."""
        spec = self.spec
        keep = self._selected(start, stop)
        reco, present = self._jets(self.reco, spec.y_pt_min, keep, start, stop)
        keep &= present
        self.tally["entries"] += stop - start
        self.tally["reconstructed jets"] += int((reco.jets.features[:, 0] > 0).sum())
        if self.truth:
            truth, present = self._jets(self.truth, spec.x_pt_min, keep, start, stop)
            keep &= present
            index = None
            if spec.match:
                index, keep = self._match_index(spec.match, reco, keep, start, stop)
            self.tally["truth jets"] += int((truth.jets.features[:, 0] > 0).sum())
            rows, partners, missed = self._matched(reco, truth, index, keep)
        else:
            rows = np.flatnonzero(reco.jets.features[:, 0] >= spec.y_pt_min)
            partners, missed = rows, np.zeros(0, int)
        entry, entry_missed = reco.jets.entry[rows], truth.jets.entry[missed] if self.truth else missed
        events = np.bincount(entry, minlength=stop - start)
        numbers: dict[str, np.ndarray] = {}
        for name in filter(None, (*spec.all_weights.values(), spec.event)):
            if name not in numbers:
                numbers[name], valid = self._numbers(name, start, stop, events, keep)
                keep = keep & valid
        if not keep.all():
            left, left_missed = keep[entry], keep[entry_missed]
            rows, partners, entry = rows[left], partners[left], entry[left]
            missed, entry_missed = missed[left_missed], entry_missed[left_missed]
        fake = partners < 0
        self.tally["pairs" if self.truth else "events"] += int((~fake).sum())
        if self.truth:
            self.tally["fakes"] += int(fake.sum())
            self.tally["misses"] += len(missed)
        used = np.zeros(stop - start, bool)
        used[entry] = used[entry_missed] = True
        if not used.any():
            return None
        group, places = self._places(numbers, keep, used, entry, rows - reco.jets.start[entry], start)
        if self.weights:
            self.weights.add(
                numbers[self.weights.name].astype(np.float64)[keep], np.arange(start, stop)[keep], used[keep]
            )
        for name, text in spec.all_weights.items():
            places[name] = numbers[text].astype(np.float64)[entry]
        event_id = places.pop("event_id")
        y = _features(reco, rows, self.reco.order)
        if not self.truth:
            return Block(y, None, event_id, group[entry], places)
        x = np.full((len(rows), len(self.truth.order)), np.nan, np.float32)
        x[~fake] = _features(truth, partners[~fake], self.truth.order)
        weight = numbers[spec.weight].astype(np.float64)[entry_missed] if spec.weight else np.ones(len(missed))
        lost = Missed(_features(truth, missed, self.truth.order), weight, group[entry_missed])
        return Block(y, x, event_id, group[entry], places, fake, lost)

    def _selected(self, start: int, stop: int) -> np.ndarray:
        """Which entries are selected (entry,)."""
        text, n = self.spec.selection, stop - start
        if text is None:
            return np.ones(n, bool)
        column = self.table.numbers(text, start, stop)
        if column.values.dtype.kind != "b":
            raise ReadError(
                f"{self.table.path}: `selection: {text}` gives {column.values.dtype}, wanted a truth value for each "
                "entry: compare it"
            )
        chosen = column.values & ~column.missing
        wrong = {(text, "missing (None)"): column.missing}
        self.lost.add(wrong, "entries", np.arange(start, stop), np.ones(n, int))
        self.tally["entries selected"] += int(chosen.sum())
        return chosen

    def _matched(
        self, reco: ReadJets, truth: ReadJets, index: np.ndarray | None, keep: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The selected reconstructed jets of the entries that are kept, with their partners, and the missed truth jets.

        Returns:
            Rows of reconstructed jets (event,), of their truth jets (event,), -1 for fakes, and of truth jets without a
            reconstructed one (miss,).
        """
        spec = self.spec
        cuts = {"radius": spec.match_radius, "y_pt_min": spec.y_pt_min, "x_pt_min": spec.x_pt_min}
        masked = None if index is None else np.where(reco.jets.features[:, 0] > 0, np.maximum(index, -1), -1)
        rows, partners = match(reco.jets, truth.jets, masked, tally=self.tally, **cuts)
        lost = [each.lost & ~(each.pt < cut) for each, cut in ((reco, spec.y_pt_min), (truth, spec.x_pt_min))]
        selected = [each.jets.features[:, 0] >= cut for each, cut in ((reco, spec.y_pt_min), (truth, spec.x_pt_min))]
        found = unmatched(reco.jets, truth.jets, index, (rows, partners), selected, lost)
        if found.unknown:
            self.tally["jets whose partner has no valid value"] += found.unknown
        of = np.full(len(reco.pt), -2)
        of[rows], of[found.reco] = partners, -1
        every = np.flatnonzero((of > -2) & keep[reco.jets.entry])
        return every, of[every], found.truth[keep[truth.jets.entry[found.truth]]]

    def _places(
        self,
        numbers: dict[str, np.ndarray],
        keep: np.ndarray,
        used: np.ndarray,
        entry: np.ndarray,
        jet: np.ndarray,
        start: int,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The collision of each entry (entry,), and of each event its ``event_id`` and where it stood."""
        spec = self.spec
        bits = NUMBERED_JET_BITS if spec.event else JET_BITS
        if (most := int(jet.max(initial=0))) >= 1 << bits:
            raise ReadError(
                f"{self.table.path}: {most + 1} jets in entry {start + int(entry[np.argmax(jet)])}, wanted at most "
                f"{1 << bits}; raise `y_pt_min`"
            )
        entries = np.arange(start, start + len(keep), dtype=np.int64)
        if spec.event:
            group = self._collisions(spec.event, numbers[spec.event], keep)
            self.numbers.append(np.stack([group, entries])[:, used])
            return group, {"event_id": (group[entry] << bits) | jet}
        group = entries | (np.int64(self.file.number) << ENTRY_BITS)
        places = {"source_entry": entries[entry], "source_index": jet.astype(np.int32)}
        return group, {"event_id": (group[entry] << bits) | jet, **places}

    def _jets(
        self, columns: JetColumns, pt_min: float, keep: np.ndarray, start: int, stop: int
    ) -> tuple[ReadJets, np.ndarray]:
        """Jets of some entries, and which entries have them (entry,).

        Jets with a value that is none are refused, or left out and counted; so are entries without a list. Jets below
        the cut are no events: where such a one is left out, it is not counted.
        """
        found = columns.read(start, stop)
        entry = found.jets.entry
        self.lost.add(found.wrong, "jets", entry + start, ~(found.pt < pt_min), keep[entry])
        self.lost.add_entries({name: where & keep for name, where in found.absent.items()}, start, stop)
        return found, ~np.any(list(found.absent.values()), axis=0)

    def _match_index(
        self, name: str, found: ReadJets, keep: np.ndarray, start: int, stop: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The truth jet of each reconstructed one within its collision (jet,), -1 for none, `UNKNOWN` where missing.

        Also which of the entries that are kept have a list of indices (entry,).
        """
        path, reco = self.table.path, found.jets
        (column,), _ = self.table.lists([name], start, stop)
        counts, absent = column.counts, column.absent & (reco.counts > 0) & keep
        assert counts is not None
        self.lost.add_entries({name: absent}, start, stop)
        keep = keep & ~absent
        if (different := np.flatnonzero((counts != reco.counts) & keep)).size:
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
        named, used = np.repeat(keep, reco.counts), np.repeat(keep, counts)
        index, missing = np.full(len(named), -1), np.zeros(len(named), bool)
        index[named], missing[named] = values[used], column.missing[used]
        there = reco.features[:, 0] > 0
        index[~(there | found.lost)] = -1
        none = is_listed(index, [each for each in (*self.spec.placeholders, *NONE) if each < -1])
        wrong = {(name, "missing (None)"): missing & there, (name, "a placeholder"): none & ~missing}
        self.lost.add(wrong, "jets", reco.entry + start, reco.features[:, 0] >= self.spec.y_pt_min)
        index[missing | none | ((index < -1) & ~there)] = UNKNOWN
        if (bad := (index < -1) & (index != UNKNOWN)).any():
            row = int(np.argmax(bad))
            raise ReadError(
                f"{path}: the match branch '{name}' holds {index[row]} in entry {start + int(reco.entry[row])}, out of "
                "range: wanted -1 (none) or the number of a truth jet; correct `match`, or list it in `placeholders`"
            )
        return index, keep

    def _numbers(
        self, name: str, start: int, stop: int, events: np.ndarray, keep: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """A number of each collision that is kept, and where it is one (entry,).

        ``events`` (entry,) are lost where it is not.
        """
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
        self.lost.add(wrong, "entries", np.arange(start, stop), events, keep)
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
        log.info("%s: %s", path, ", ".join([_say(tally), *self.lost.said]))
        self.warnings += self.lost.warnings
        turned = [name for name, side in (("y", self.reco), ("x", self.truth)) if side and side.positive_angles]
        if turned:
            log.info("%s: azimuths of %s from 0 to 2 pi are wrapped to -pi to pi", path, " and ".join(turned))
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
        events = tally["events"] + tally["pairs"]
        if spec.selection and not tally["entries selected"]:
            raise ReadError(
                f"{path}: none of {tally['entries']} entries is selected by `{spec.selection}`, wanted at least one: "
                "correct `selection`"
            )
        if not events:
            cuts = f"y_pt_min {spec.y_pt_min:g}, x_pt_min {spec.x_pt_min:g} GeV"
            raise ReadError(
                f"{path}: no jets are left after selection ({cuts}), wanted at least one; found {_say(tally)}. Lower "
                "the cuts or check the branch map and its `units`"
            )
        refuse_too_many(path, self.lost.events, events + tally["fakes"], spec.invalid_fraction)
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


def _features(found: ReadJets, rows: np.ndarray, order: list[int]) -> np.ndarray:
    """Some features of some jets (jet, feature), float32."""
    values = np.empty((len(rows), len(order)), np.float32)
    for place, feature in enumerate(order):
        values[:, place] = found.jets.features[rows, feature]
    return values


def _say(tally: Counter) -> str:
    return ", ".join(f"{count} {what}" for what, count in tally.items())
