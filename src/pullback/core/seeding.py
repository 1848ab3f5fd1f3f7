"""Addressed random numbers: each generator is derived from an address (where it is used), without a shared stream.

The address is a tuple such as ``(study seed, problem, family, split, block)`` for data or
``(study seed, problem, method, seed, stage)`` for methods. The same address always gives the same numbers, so data and
draws do not depend on how work is cut into shards, parts, jobs or cores.
"""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

Address = tuple[str | int, ...]


def _key(address: Iterable[str | int]) -> int:
    """A 128-bit key for an address. Types are kept apart: ``("1",)`` and ``(1,)`` differ."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in address)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def generator(*address: str | int) -> np.random.Generator:
    """An independent generator for this address (Philox, a counter-based generator; Salmon et al. 2011)."""
    return np.random.Generator(np.random.Philox(key=_key(address)))


def integer_seed(*address: str | int, bits: int = 31) -> int:
    """A non-negative integer seed for libraries that take one (torch, Pythia), below ``2**bits``."""
    return _key(address) % (1 << bits)


def event_normals(address: Address, event_ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normals (event, *shape), float32, each event's from its own stream.

    Event ``i`` reads the Philox stream of ``address`` at a counter block that only its ``event_id`` names: its numbers
    do not depend on the other events.
    """
    out = np.empty((len(event_ids), *shape), dtype=np.float32)
    for row, rng in zip(out, _event_generators(address, event_ids), strict=True):
        row[...] = rng.standard_normal(shape, dtype=np.float32)
    return out


def event_uniforms(address: Address, event_ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Uniforms in [0, 1) (event, *shape), float32, each event's from its own stream like `event_normals`."""
    out = np.empty((len(event_ids), *shape), dtype=np.float32)
    for row, rng in zip(out, _event_generators(address, event_ids), strict=True):
        row[...] = rng.random(shape, dtype=np.float32)
    return out


def _event_generators(address: Address, event_ids: np.ndarray) -> Iterator[np.random.Generator]:
    philox = np.random.Philox(key=_key(address))
    generator, start = np.random.Generator(philox), philox.state
    for event_id in np.asarray(event_ids, dtype=np.int64):
        # The counter is four 64-bit words; the lowest is left free for the draws of this event. One generator set back
        # to its start each time: making a new one takes ten times as long.
        start["state"]["counter"][2] = event_id
        philox.state = start
        yield generator
