"""ROOT files (TTree and RNTuple) -> ensembles of matched jets.

A file holds, for each collision, a list of reconstructed jets and (but for observed data) one of truth jets. Each
matched pair is an event: x the truth jet, y the reconstructed one. Of observed data every selected reconstructed jet
is an event.
"""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import Column, EnsembleWriter
from pullback.readers.jets import X_FIELD, Y_FIELD, Jets, match
from pullback.readers.table import ReadError, RootTable
from pullback.simulators.collider_settings import UnfoldingSimulator
from pullback.study.base import canonical, job_digest
from pullback.study.families import Branches, RootFiles

__all__ = ["OWN_FILES", "ReadError", "read"]

log = logging.getLogger("pullback")

JUDGED = ("test", "reference")
"""Splits whose events are compared as distributions."""

UNKNOWN_MATCHES_MAX = 0.2
"""Most indices of `match` beyond the truth list, as a fraction. A few are normal in NanoAOD (3 % in CMS Open Data
ttbar), which stores truth jets above 10 GeV only and leaves the indices of the others: these jets are unmatched."""

OWN_FILES = RootFiles(
    files={},
    tree="Events",
    y=Branches(pt="Jet_pt", eta="Jet_eta", phi="Jet_phi", mass="Jet_mass"),
    x=Branches(pt="GenJet_pt", eta="GenJet_eta", phi="GenJet_phi", mass="GenJet_mass"),
    match="Jet_genJetIdx",
    weight="genWeight",
)
"""The branch map of files that `pullback.simulators.collider` wrote; they number their collisions in `OWN_EVENT`."""
OWN_EVENT = "event"
OWN_JET_BITS = 6
"""event_id of our files: ``event << 6 | jet``."""
ENTRY_BITS, JET_BITS = 36, 8
"""event_id of outside files: ``shard << 44 | entry << 8 | jet``."""


def _read_index(table: RootTable, name: str, reco: Jets, start: int, stop: int) -> np.ndarray:
    (index,), counts = table.lists([name], start, stop)
    if (different := np.flatnonzero(counts != reco.counts)).size:
        row = int(different[0])
        raise ReadError(
            f"{table.path}: in entry {start + row} the match branch '{name}' has {counts[row]} values for "
            f"{reco.counts[row]} reconstructed jets; wanted one for each, correct `match`"
        )
    if index.dtype.kind not in "iu":
        raise ReadError(
            f"{table.path}: the match branch '{name}' holds {index.dtype}, wanted whole numbers; correct `match`"
        )
    index = index.astype(np.int64)
    if (index < -1).any():
        raise ReadError(
            f"{table.path}: the match branch '{name}' holds {int(index.min())}, out of range: wanted -1 (none) or the "
            "number of a truth jet; correct `match`"
        )
    return index


def branches(files: RootFiles, with_truth: bool) -> list[str]:
    """The branches that a branch map names; without truth, those of observations only."""
    named = [name for name in files.y.model_dump().values() if name]
    if with_truth:
        named += [name for name in files.x.model_dump().values() if name] if files.x else []
        named += [files.match] if files.match else []
    return named + ([files.weight] if files.weight else [])


def _job_digest_of_collisions(path: Path) -> str | None:
    """What a ROOT file of ours was asked to be: it holds its job."""
    import uproot

    with uproot.open(path) as file:
        found = file.get("settings")
        return job_digest(canonical(json.loads(str(found))["job"])) if found is not None else None


def read(job: str, source: Path, out: Path) -> None:
    """Read the jets of one ROOT file into one ensemble shard.

    Args:
        job: JSON of `Plan.read_job`.
        source: the ROOT file.
        out: the shard; it appears when it is whole.

    Raises:
        ReadError: whatever is wrong with the file; nothing is written.
        pullback.core.optional.MissingExtraError: uproot or awkward is not installed.
    """
    task = json.loads(job)
    own = task["read"] is None
    if own:
        refuse_stale_files(task, _job_digest_of_collisions, root=[source])
        simulator = UnfoldingSimulator.model_validate(task["simulator"])
        files = OWN_FILES.model_copy(update={"x_pt_min": simulator.truth_pt_min, "y_pt_min": simulator.reco_pt_min})
    else:
        files = RootFiles.model_validate({**task["read"], "files": {}})
    with_truth = bool(task["truth"])
    tally: Counter[str] = Counter()
    with RootTable(Path(source), files.tree) as table:
        table.require(branches(files, with_truth) + [OWN_EVENT] * own)
        # Our own files number their collisions: where one stands in its file depends on how they are cut into shards.
        columns = {} if own else {"source_entry": Column("int64"), "source_index": Column("int32")}
        if files.weight:
            columns["weight"] = Column("float64")
        attributes = {
            "problem": task["problem"],
            "family": task["family"],
            "split": task["split"],
            "source_file": Path(source).name,
            "source_tree": files.tree,
            "source_format": table.format,
            "source_entries": table.entries,
        }
        with EnsembleWriter(
            out, x=X_FIELD if with_truth else None, y=Y_FIELD, spec=job, attributes=attributes, columns=columns
        ) as writer:
            for start, stop in table.chunks():
                _read_chunk(table, files, task, start, stop, writer, tally)
            _check_tally(table, files, tally, own)
    log.info("read: %s, %s '%s': %s", Path(source).name, table.format, files.tree, _say(tally))


def _read_chunk(
    table: RootTable,
    files: RootFiles,
    task: dict[str, Any],
    start: int,
    stop: int,
    writer: EnsembleWriter,
    tally: Counter,
) -> None:
    reco = table.jets(files.y, start, stop)
    tally["entries"] += stop - start
    tally["reconstructed jets"] += len(reco.features)
    x = None
    if task["truth"]:
        assert files.x is not None
        truth = table.jets(files.x, start, stop)
        tally["truth jets"] += len(truth.features)
        index = _read_index(table, files.match, reco, start, stop) if files.match else None
        rows, partners = match(reco, truth, index, files, tally)
        x = truth.features[partners]
    else:
        rows = np.flatnonzero(reco.features[:, 0] >= files.y_pt_min)
    tally["events"] += len(rows)
    if not len(rows):
        return
    entry = reco.entry[rows]
    jet = rows - reco.start[entry]
    bits = JET_BITS if task["read"] else OWN_JET_BITS
    if (most := int(jet.max())) >= 1 << bits:
        raise ReadError(f"{table.path}: {most + 1} jets in one entry, wanted at most {1 << bits}; raise `y_pt_min`")
    extra: dict[str, np.ndarray] = {}
    if task["read"] is None:
        group = table.numbers(OWN_EVENT, start, stop).astype(np.int64)[entry]
    else:
        group = (entry + start).astype(np.int64) | (np.int64(task["shard"]) << ENTRY_BITS)
        extra |= {"source_entry": (entry + start).astype(np.int64), "source_index": jet.astype(np.int32)}
    if files.weight:
        extra["weight"] = weight = table.numbers(files.weight, start, stop).astype(np.float64)[entry]
        if task["split"] in JUDGED and (weight < 0).any():
            raise ReadError(
                f"{table.path}: {int((weight < 0).sum())} of {len(weight)} weights in '{files.weight}' are negative. "
                "Training takes them, evaluation does not, as distances between distributions need probabilities: "
                f"resample the files of the split '{task['split']}' to positive weights, or leave `weight` out"
            )
    writer.append(reco.features[rows, :3], (group << bits) | jet, x=x, group=group, **extra)


def _check_tally(table: RootTable, files: RootFiles, tally: Counter, own: bool) -> None:
    beyond, named = tally["of these beyond the truth list"], tally["named by the match branch"]
    allowed = 0.0 if own else UNKNOWN_MATCHES_MAX
    if beyond > allowed * named:
        raise ReadError(
            f"{table.path}: {beyond} of {named} indices in '{files.match}' are out of range of the list of truth jets, "
            f"wanted at most {allowed:.0%}; `match` must number the jets of `x`"
        )
    if beyond:
        log.warning(
            "%s: %d of %d matched jets name a truth jet that is not stored: unmatched", table.path, beyond, named
        )
    if not tally["events"]:
        raise ReadError(
            f"{table.path}: no jets are left after selection (y_pt_min {files.y_pt_min:g}, x_pt_min {files.x_pt_min:g} "
            f"GeV), wanted at least one; found {_say(tally)}. Lower the cuts or check the branch map"
        )


def _say(tally: Counter) -> str:
    return ", ".join(f"{count} {what}" for what, count in tally.items())
