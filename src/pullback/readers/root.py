"""ROOT files (TTree and RNTuple), read as matched jets through a branch map.

A file holds, for each collision, a list of reconstructed jets and (but for observed data) one of truth jets. Each
matched pair is an event: x the truth jet, y the reconstructed one. Of observed data every selected reconstructed jet
is an event.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from pullback.readers import root_contents
from pullback.readers.base import Block, Events, Inspection, OutsideFile, ReadError, short
from pullback.readers.branches import Branches, JetColumns, Wrong
from pullback.readers.event_weights import Weights
from pullback.readers.invalid import placeholders
from pullback.readers.jets import Jets, match
from pullback.readers.table import RootTable, open_root
from pullback.study.base import canonical, job_digest
from pullback.study.kinds import Message, Package
from pullback.study.reader_spec import ReaderSpec

if TYPE_CHECKING:
    from pullback.study.model import Problem

log = logging.getLogger("pullback")

ENTRY_BITS, JET_BITS = 36, 8
"""event_id of events by file and entry: ``file << 44 | entry << 8 | jet``."""
NUMBERED_JET_BITS = 6
"""event_id of numbered collisions: ``number << 6 | jet``."""
_WITH_TREE = re.compile(r"(.+\.root[^:/]*):(?!//)(.+)")
"""``file.root:Events``, as uproot has it."""


class RootFiles(ReaderSpec):
    """Outside ROOT files (TTree or RNTuple): per-event lists of jets, read through a branch map."""

    records: ClassVar[str] = "jets"
    truth: ClassVar[str] = "x"
    requires: ClassVar[tuple[Package, ...]] = tuple(
        Package(name, name, "hep", "ROOT files") for name in ("uproot", "awkward")
    )

    takes_entries: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = (".root",)

    kind: Literal["root"]
    tree: str = Field(
        default="Events",
        description="the TTree or RNTuple: Events, /folder/Events, Events;1 of several with the name; also behind the "
        "name of a file, file.root:Events",
    )
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

    @model_validator(mode="before")
    @classmethod
    def _trees_beside_files(cls, value: Any) -> Any:
        """``file.root:Events`` as the file and its tree; files that are not on a disk are refused."""
        files = value.get("files") if isinstance(value, dict) else None
        if not isinstance(files, dict) or not all(isinstance(names, list) for names in files.values()):
            return value
        trees = {str(value["tree"]).strip("/")} if "tree" in value else set()
        local: dict[str, list[str]] = {}
        for split, names in files.items():
            for name in names:
                if not isinstance(name, str):
                    return value
                if "://" in name:
                    raise ValueError(
                        f"`files`: {name} is not on a disk here, and a rerun depends on the file's content: copy it "
                        "(xrdcp, curl -O) or mount its folder, and give the path"
                    )
                found = _WITH_TREE.fullmatch(name)
                trees |= {found[2].strip("/")} if found else set()
                local.setdefault(split, []).append(found[1] if found else name)
        if len(trees) > 1:
            raise ValueError(f"`files` and `tree` name the trees {', '.join(sorted(trees))}: give a family one tree")
        return {**value, "files": {**files, **local}, **({"tree": trees.pop()} if trees else {})}

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
        truth = [*(self.x.columns.values() if self.x else ()), self.match] if with_truth else []
        return [*self.y.columns.values(), *filter(None, (*truth, self.weight, self.event))]

    def check(self, problem: "Problem") -> Iterator[Message]:
        """A factor on all of y is none on jets."""
        if self.scale != 1:
            yield "scale", "a factor on all of y would stretch angles, too: convert by `units` of the branch map"

    @contextmanager
    def open(self, problem: Any, file: OutsideFile) -> Iterator[Events]:
        """The jets of one file."""
        with RootTable(file.path, self.tree) as table:
            table.require(self.branches(file.has_truth))
            found = {
                "source_file": file.path.name,
                "source_tree": self.tree,
                "source_format": table.format,
                "source_entries": table.entries,
            }
            first, last = file.span(table.entries)
            part = f", of them {first} to {last}" if (first, last) != (0, table.entries) else ""
            selection = _Selection(self, file, table)
            units = "".join(f", {each}" for each in selection.converted)
            summary = f"{table.format} '{self.tree}', {table.entries} entries{part}{units}"
            yield Events(selection.blocks(first, last), summary, found, selection.left_out)

    @classmethod
    def inspect(cls, path: Path) -> Inspection:
        """The trees of a file with their columns, and a block that its names suggest."""
        return root_contents.inspect(path)

    def job_digest(self, path: Path) -> str | None:
        """The job digest of a file of `pullback.simulators.collider`."""
        file, _ = open_root(path)
        with file:
            try:
                found = file.get("settings")
                return job_digest(canonical(json.loads(str(found))["job"])) if found is not None else None
            except Exception as error:
                raise ReadError(
                    f"{path}: how it was made cannot be read ({short(error)}); delete it, and run again"
                ) from None


class _Selection:
    """The selected and matched jets of one table."""

    def __init__(self, spec: RootFiles, file: OutsideFile, table: RootTable):
        self.spec, self.file, self.table = spec, file, table
        self.tally: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.first: dict[tuple[str, str, str], int] = {}
        self.weights = Weights(file.path, spec.weight, file.split) if spec.weight else None
        self.reco = JetColumns(table, spec.y, spec.placeholders)
        self.truth = JetColumns(table, spec.x, spec.placeholders) if spec.x and file.has_truth else None

    @property
    def converted(self) -> list[str]:
        """The branches that are not in GeV and radians, with their units."""
        maps = [self.reco, *([self.truth] if self.truth else [])]
        return [
            f"'{each.columns[of]}' in {unit}" for each in maps for of, unit in each.units.items() if of in each.columns
        ]

    def blocks(self, first: int, last: int) -> Iterator[Block]:
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
        reco = self._jets(self.reco, spec.y_pt_min, start, stop)
        self.tally["entries"] += stop - start
        self.tally["reconstructed jets"] += int((reco.features[:, 0] > 0).sum())
        if self.truth:
            truth = self._jets(self.truth, spec.x_pt_min, start, stop)
            self.tally["truth jets"] += int((truth.features[:, 0] > 0).sum())
            index = self._match_index(spec.match, reco, start, stop) if spec.match else None
            cuts = {"radius": spec.match_radius, "y_pt_min": spec.y_pt_min, "x_pt_min": spec.x_pt_min}
            rows, partners = match(reco, truth, index, tally=self.tally, **cuts)
        else:
            rows = np.flatnonzero(reco.features[:, 0] >= spec.y_pt_min)
            partners = rows
        keep = np.ones(stop - start, bool)
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

    def _jets(self, columns: JetColumns, pt_min: float, start: int, stop: int) -> Jets:
        """Jets of some entries; those with a value that is none are refused, or left out and counted.

        Jets below the cut are no events: where such a one is left out, it is not counted.
        """
        jets, pt, wrong = columns.read(start, stop)
        self._leave_out(wrong, "jets", jets.entry + start, ~(pt < pt_min))
        return jets

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

    def _match_index(self, name: str, reco: Jets, start: int, stop: int) -> np.ndarray:
        """The truth jet of each reconstructed one within its collision (jet,), -1 for none."""
        path = self.table.path
        (column,), counts = self.table.lists([name], start, stop)
        if (different := np.flatnonzero(counts != reco.counts)).size:
            row = int(different[0])
            raise ReadError(
                f"{path}: in entry {start + row} the match branch '{name}' has {counts[row]} values for "
                f"{reco.counts[row]} reconstructed jets; wanted one for each, correct `match`"
            )
        if column.values.dtype.kind not in "iu":
            raise ReadError(
                f"{path}: the match branch '{name}' holds {column.values.dtype}, wanted whole numbers; correct `match`"
            )
        there = reco.features[:, 0] > 0
        index = np.where(there, column.values.astype(np.int64), -1)
        none = np.isin(index, self.spec.placeholders) & (index < -1)
        wrong = {(name, "missing (None)"): column.missing & there, (name, "a placeholder"): none & ~column.missing}
        self._leave_out(wrong, "jets", reco.entry + start, reco.features[:, 0] >= self.spec.y_pt_min)
        index[column.missing | none] = -1
        if (index < -1).any():
            row = int(np.argmax(index < -1))
            raise ReadError(
                f"{path}: the match branch '{name}' holds {index[row]} in entry {start + int(reco.entry[row])}, out of "
                "range: wanted -1 (none) or the number of a truth jet; correct `match`"
            )
        return index

    def _numbers(self, name: str, start: int, stop: int, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A number of each collision, and where it is one (entry,); ``events`` (entry,) are lost where it is not."""
        column = self.table.numbers(name, start, stop)
        values, missing = column.values, column.missing
        finite = np.isfinite(values)
        wrong = {
            (name, "missing (None)"): missing,
            (name, "not finite"): ~finite & ~missing,
            (name, "a placeholder"): placeholders(np.where(missing, np.nan, values), self.spec.placeholders) & finite,
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
            log.warning("%s: %d %s left out: branch '%s' is %s, first in entry %d", path, count, of, name, what, entry)
        beyond, named = tally["of these beyond the truth list"], tally["named by the match branch"]
        if beyond > spec.unknown_matches * named:
            raise ReadError(
                f"{path}: {beyond} of {named} indices in '{spec.match}' are out of range of the list of truth jets, "
                f"wanted at most {spec.unknown_matches:.0%} (`unknown_matches`); `match` must number the jets of `x`"
            )
        if beyond:
            log.warning("%s: %d of %d matched jets name a truth jet that is not stored: unmatched", path, beyond, named)
        far, pairs = tally["of these further apart than match_radius"], tally["selected pairs by the match branch"]
        if far > spec.far_matches * pairs:
            raise ReadError(
                f"{path}: {far} of {pairs} pairs by '{spec.match}' are further apart than match_radius "
                f"{spec.match_radius:g}, wanted at most {spec.far_matches:.0%} (`far_matches`); `match` must number "
                "the jets of `x` from 0 on. Without `match` the nearest are taken"
            )
        if far:
            log.warning(
                "%s: %d of %d matched jets are further from their truth jet than match_radius %g: kept",
                path, far, pairs, spec.match_radius,
            )  # fmt: skip
        if not tally["events"]:
            raise ReadError(
                f"{path}: no jets are left after selection (y_pt_min {spec.y_pt_min:g}, x_pt_min {spec.x_pt_min:g} "
                f"GeV), wanted at least one; found {_say(tally)}. Lower the cuts or check the branch map and its "
                "`units`"
            )
        if self.weights:
            self.weights.check()


def _say(tally: Counter) -> str:
    return ", ".join(f"{count} {what}" for what, count in tally.items())
