"""Training sets: members (x, y) of one ensemble, drawn at addressed random from memory or HDF5."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from pullback.ensembles.acceptance import Missed
from pullback.ensembles.arrays import Ensemble
from pullback.ensembles.family_events import Family, Pairs, SetsError, common_fields, windows
from pullback.ensembles.prior_reweighting import window
from pullback.ensembles.resampling import bootstrap_sample
from pullback.ensembles.scaling import Scaling

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("pullback")

Part = Literal["train", "validation"]
BLOCK = 65_536
SCALING_EVENTS = 50_000
LEAST_SCALING_EVENTS = 16


class Sets(NamedTuple):
    """Several sets, padded to the largest.

    Attributes:
        x: truths (set, member, *x), float32; zero where there is no member.
        y: observations (set, member, *y), float32; zero where there is no member.
        mask: whether there is a member, (set, member), bool; members stand first.
        theta: parameters of each set's prior (set, parameter), NaN where a family states none; None where none does.
        weight: event weights (set, member), zero where there is no member; None where no family has any.
        real: which members have a truth (set, member), bool, x is zero elsewhere; None where no family has fakes.
    """

    x: np.ndarray
    y: np.ndarray
    mask: np.ndarray
    theta: np.ndarray | None
    weight: np.ndarray | None = None
    real: np.ndarray | None = None

    def resampled(self, rng: np.random.Generator) -> "Sets":
        """Each set with members drawn from its own with replacement."""
        counts = self.mask.sum(axis=1, keepdims=True)
        members = np.arange(len(counts))[:, None], (rng.random(self.mask.shape) * counts).astype(int)
        weight = None if self.weight is None else self.weight[members] * self.mask
        real = None if self.real is None else self.real[members] & self.mask
        return Sets(self.x[members], self.y[members], self.mask, self.theta, weight, real)

    def tensors(self, device: Any) -> dict[str, "Tensor"]:
        """The arrays that are not None as tensors on a device, by name."""
        import torch

        found = {name: array for name, array in self._asdict().items() if array is not None}
        return {name: torch.from_numpy(array).to(device) for name, array in found.items()}


class Parameters(NamedTuple):
    """Parameters of the priors that are trained on.

    Attributes:
        names: of the parameters.
        values: (ensemble, parameter) float64.
    """

    names: list[str]
    values: np.ndarray


Simulate = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""Truths x (event, *x), and a generator -> observations y (event, *y), and which simulations succeeded (event,)."""


class TrainingData:
    """The seen families' train and validation splits.

    Each source is one family, a file or arrays; a sweep's holds many ensembles. Data below ``memory_mb`` (both splits)
    are held in memory as networks see them and a set is a random choice of its ensemble's members; larger data are read
    when they are needed and a set is a contiguous window at a random place, since events of one ensemble are
    independent.

    Args:
        train, validation: one for each seen family.
        memory_mb: most memory for the events, in megabytes.
        bootstrap: draws bootstrap samples of the training events; None trains on the events themselves.

    Attributes:
        simulator: the problem's forward process, whose calls are counted, for methods that simulate while they learn;
            None where there is none.
        x, y: fields.
        in_memory: whether the events are held in memory.
        digests: content digests of the files, by split.

    Raises:
        SetsError: no ensembles, one without truth, or one with other fields than the first.
    """

    def __init__(
        self,
        train: Sequence[Ensemble],
        validation: Sequence[Ensemble],
        memory_mb: int,
        bootstrap: np.random.Generator | None = None,
    ):
        self.simulator: Simulate | None = None
        for split, sources in (("train", train), ("validation", validation)):
            if not sources:
                raise SetsError(f"there are no {split} ensembles; training needs the {split} split of a seen family")
        self.x, self.y = common_fields([*train, *validation])
        if bootstrap is not None:
            train = [bootstrap_sample(source, bootstrap) for source in train]
        self._families: dict[Part, list[Family]] = {
            "train": [Family(source) for source in train],
            "validation": [Family(source) for source in validation],
        }
        self.digests = {split: [f.source.digest for f in families] for split, families in self._families.items()}
        event = 4 * (int(np.prod(self.x.shape)) + int(np.prod(self.y.shape)))
        size = event * sum(source.n for source in (*train, *validation))
        self.in_memory = size <= memory_mb * 1_000_000
        fit = memory_mb * 1_000_000 // event
        self._scaling_events = max(LEAST_SCALING_EVENTS, min(SCALING_EVENTS, fit))
        if not self.in_memory:
            log.info(
                "%.0f MB of events, more than memory_mb = %d: sets are windows of the events, read when needed",
                size / 1e6,
                memory_mb,
            )
        self._scaling: Scaling | None = None

    def pairs(self, split: Part = "train", block: int = BLOCK) -> Iterator[Pairs]:
        """All pairs of a split, family after family in the order of the files, in blocks of at most ``block``."""
        for family in self._families[split]:
            for real, events in family.blocks(block):
                if real.any():
                    yield events.of(real)

    def fakes(self, split: Part = "train", block: int = BLOCK) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Observations without a truth, y (event, *y) and their weights (event,), in blocks as `pairs`."""
        for family in self._families[split]:
            for real, events in family.blocks(block):
                if not real.all():
                    yield events.y[~real], events.weight[~real]

    def misses(self, split: Part = "train") -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Truths that were not recorded, x (miss, *x) and their weights (miss,), a block for each family with some."""
        for family in self._families[split]:
            if family.source.missed is not None and len(family.source.missed.x):
                yield family.source.missed.x, family.source.missed.weight

    def recorded_and_missed(self, split: Part = "train") -> Iterator[tuple[Pairs, Missed]]:
        """The pairs and the misses of each family that records misses."""
        for family in self._families[split]:
            if family.source.missed is not None:
                for real, events in family.blocks(family.source.n):
                    yield events.of(real), family.source.missed

    @property
    def has_fakes(self) -> bool:
        """Whether a training family holds observations without a truth."""
        return any(family.has_fakes for family in self._families["train"])

    def use(self, scaling: Scaling) -> None:
        """Make ``sets`` return scaled x and y from now on."""
        self._scaling = scaling
        for family in (*self._families["train"], *self._families["validation"]):
            family.x = family.y = None

    @property
    def validation_families(self) -> int:
        """Number of families with a validation split."""
        return len(self._families["validation"])

    @property
    def least_members(self) -> int:
        """Number of events of the smallest training ensemble."""
        return min(int(np.diff(family.source.offsets).min()) for family in self._families["train"])

    def fit_scaling(self, rng: np.random.Generator) -> Scaling:
        """How networks see x and y, fitted on `SCALING_EVENTS` training events, or on what ``memory_mb`` holds."""
        return Scaling.fit(self.x, self.y, *self.sample_for_scaling(self._scaling_events, rng))

    def sample_for_scaling(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """About n training events x (event, *x), y (event, *y), as many of each family; physical units.

        They are read as windows spread evenly over each file: a sweep gives some of many ensembles.
        """
        families = self._families["train"]
        wanted = max(1, n // len(families))
        xs, ys = [], []
        for family in families:
            for start, stop in windows(family.source.n, wanted, rng):
                real, events = family.events(start, stop)
                xs.append(events.x[real])
                ys.append(events.y[real])
        return np.concatenate(xs), np.concatenate(ys)

    def sets(
        self,
        rng: np.random.Generator,
        sets: int,
        set_size: tuple[int, int],
        split: Part = "train",
        share: slice = slice(None),
        prior_reweighting: float = 0.0,
        turn: int = 0,
    ) -> Sets:
        """Draw sets.

        One size is drawn for all, log-uniform in the range (a size for each set would pad, and cost a third more). A
        set's family is drawn uniformly (for validation the families take turns, so that a few sets cover all), then one
        of its ensembles uniformly, then members without replacement, in random order. A size above the ensemble's is
        cut to it.

        Args:
            rng: an addressed generator; the same one gives the same sets.
            sets: how many.
            set_size: least and most members.
            split: ``"train"`` or ``"validation"``.
            share: which of the sets are read and returned, for one of several processes; all are drawn.
            prior_reweighting: fraction of the sets that are reweighted in x, with replacement.
            turn: index of the family of the first set in validation.

        Raises:
            SetsError: reweighting of data that are not in memory, or of truths that are arrays.
        """
        families = self._families[split]
        low, high = set_size
        size = min(high, int(np.exp(rng.uniform(np.log(low), np.log(high + 1)))))
        chosen = []
        for i in range(sets):
            family = families[(turn + i) % len(families) if split == "validation" else int(rng.integers(len(families)))]
            ensemble = int(rng.integers(len(family.source.offsets) - 1))
            chosen.append((family, ensemble, self._members(rng, family, ensemble, size, prior_reweighting)))
        most = max(
            members.stop - members.start if isinstance(members, slice) else len(members) for *_, members in chosen
        )
        chosen = chosen[share]
        found = [self._events(family, members) for family, _, members in chosen]
        x = np.zeros((len(chosen), most, *found[0][0].shape[1:]), dtype=np.float32)
        y = np.zeros((len(chosen), most, *found[0][1].shape[1:]), dtype=np.float32)
        mask = np.zeros((len(chosen), most), dtype=bool)
        for i, (some_x, some_y) in enumerate(found):
            x[i, : len(some_x)], y[i, : len(some_y)], mask[i, : len(some_x)] = some_x, some_y, True
        thetas = _thetas([(family, ensemble) for family, ensemble, _ in chosen])
        return Sets(x, y, mask, thetas, self._weights(chosen, mask), self._real(chosen, mask))

    def _real(self, chosen: Sequence[tuple[Family, int, np.ndarray | slice]], mask: np.ndarray) -> np.ndarray | None:
        """Which of the chosen members have a truth (set, member)."""
        if not any(family.has_fakes for families in self._families.values() for family in families):
            return None
        out = mask.copy()
        for row, there, (family, _, members) in zip(out, mask, chosen, strict=True):
            if family.has_fakes:
                row[there] = family.real[members]
        return out

    def _weights(self, chosen: Sequence[tuple[Family, int, np.ndarray | slice]], mask: np.ndarray) -> np.ndarray | None:
        """Weights of the chosen members (set, member), relative to the mean magnitude in their ensemble."""
        if not any(family.weighted for families in self._families.values() for family in families):
            return None
        out = mask.astype(np.float32)
        for row, there, (family, ensemble, members) in zip(out, mask, chosen, strict=True):
            if not family.weighted:
                continue
            first, last = family.bounds(ensemble)
            row[there] = family.weight[members] / np.abs(family.weight[first:last]).mean()
        return out

    def parameters(self) -> Parameters:
        """The parameters of all training ensembles.

        Raises:
            SetsError: a seen family is not a sweep, or sweeps have different parameters.
        """
        sources = [family.source for family in self._families["train"]]
        names = sources[0].theta_names
        for family in self._families["train"]:
            if not family.source.theta_names or family.source.theta_names != names:
                raise SetsError(
                    f"family '{family.name}' states the parameters {family.source.theta_names or 'none'}, wanted "
                    f"{names or 'some'} as the first one; a method that is told parameters needs every seen family to "
                    "be a sweep over the same ones"
                )
        return Parameters(names, np.concatenate([source.theta for source in sources]))  # type: ignore[misc]

    def _members(
        self, rng: np.random.Generator, family: Family, ensemble: int, size: int, prior_reweighting: float
    ) -> np.ndarray | slice:
        first, last = family.bounds(ensemble)
        if size > last - first:
            if not family.capped:
                family.capped = True
                log.warning(
                    "a set of %d members is asked for; an ensemble of family '%s' has %d: its sets are cut to it",
                    size,
                    family.name,
                    last - first,
                )
            size = last - first
        if prior_reweighting and rng.random() < prior_reweighting:
            return first + rng.choice(last - first, size, p=self._window(family, first, last, rng))
        if self.in_memory:
            return first + rng.choice(last - first, size, replace=False)
        start = first + int(rng.integers(last - first - size + 1))
        return slice(start, start + size)

    def _window(self, family: Family, first: int, last: int, rng: np.random.Generator) -> np.ndarray:
        """Probabilities of the events of one ensemble under another prior (event,); fakes keep their share."""
        truths, fake = self._truths(family)[first:last], family.source.fake(first, last)
        if not fake.any():
            return window(truths, rng)
        chance = np.full(len(truths), 1.0 / len(truths))
        chance[~fake] = window(truths[~fake], rng) * (~fake).mean()
        return chance

    def _truths(self, family: Family) -> np.ndarray:
        """What a window looks at, (event, feature): truths, but none that networks see relative to y."""
        if not self.in_memory or len(self.x.shape) != 1:
            raise SetsError(
                "train.prior_reweighting reweights training sets by their truths, which must be vectors and in memory; "
                f"found x of shape {self.x.shape}, {'in memory' if self.in_memory else 'on disk'}: raise "
                "train.memory_mb, or set prior_reweighting to 0"
            )
        self._hold(family)
        assert family.x is not None
        alone = [t != "periodic" for t in self.x.transforms]
        if not any(alone):
            raise SetsError(
                "train.prior_reweighting reweights sets by truths that are not periodic, and here all are: set it to 0"
            )
        return family.x if all(alone) else family.x[:, alone]

    def _hold(self, family: Family) -> None:
        if family.x is None or family.y is None:
            family.x, family.y = self._seen(family.source.read("x"), family.source.read("y"))

    def _events(self, family: Family, members: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        if self.in_memory:
            self._hold(family)
        if family.x is not None and family.y is not None:
            return family.x[members], family.y[members]
        assert isinstance(members, slice)
        x, y = (family.source.read(name, members.start, members.stop) for name in ("x", "y"))
        return self._seen(x, y)

    def _seen(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._scaling is not None:
            x, y = self._scaling.encode_x(x, y), self._scaling.encode_y(y)
        return np.nan_to_num(x, nan=0.0) if np.isnan(x).any() else x, y


def _thetas(chosen: list[tuple[Family, int]]) -> np.ndarray | None:
    given = [None if f.source.theta is None else f.source.theta[ensemble] for f, ensemble in chosen]
    width = max((len(theta) for theta in given if theta is not None), default=0)
    if not width:
        return None
    out = np.full((len(given), width), np.nan)
    for row, theta in zip(out, given, strict=True):
        if theta is not None:
            row[: len(theta)] = theta
    return out
