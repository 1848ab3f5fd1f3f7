"""Tiles cut from a velocity model in a file: where they lie, and what is said of it."""

import functools
import os
from collections.abc import Mapping

import numpy as np

from pullback.readers.section import Section, VelocityFileError
from pullback.readers.velocity import read_section
from pullback.simulators.wave_settings import Tiles
from pullback.study.kinds import Review

CLIPPED = 0.2
"""A larger part of a section outside the simulator's velocities is a warning."""
FALLS = 1.2
"""So is a mean velocity at the top that is this many times that at the bottom."""
FOOT = 0.3048


@functools.lru_cache(maxsize=4)
def _section(options: str, changed: int) -> Section:
    return read_section(Tiles.model_validate_json(options))


def section_of(options: Tiles) -> Section:
    """As `read_section`, of which the last few are kept, whatever is cut from them."""
    changed = os.stat(options.path).st_mtime_ns if os.path.exists(options.path) else 0
    return _section(options.model_copy(update={"area": "anywhere"}).model_dump_json(), changed)


def nodes_of(part: tuple[float, float], nodes: int) -> slice:
    """Nodes along the offset of a part of a section's width; parts that do not overlap have none in common."""
    return slice(round(part[0] * nodes), round(part[1] * nodes))


def sample_tiles(
    options: Tiles, rng: np.random.Generator, n: int, shape: tuple[int, int], extent: tuple[float, float]
) -> np.ndarray:
    """Tiles at random places of an area of a section, interpolated linearly to the nodes of x.

    A tile covers ``stretch`` times the extent and is compressed to the extent. Where the file's nodes are
    closer than those of x, the area is first smoothed over the distance between the nodes of x.

    Args:
        options: the file and how to cut it.
        rng: where tiles lie; the only source of randomness.
        n: tiles.
        shape: nodes (depth, offset) of x.
        extent: m (depth, offset) from the first node of x to the last.

    Returns:
        (n, depth, offset), float32, m/s.

    Raises:
        VelocityFileError: the file, or an area that is smaller than a tile.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    section = section_of(options)
    tile = [options.stretch * length for length in extent]
    _check_size(options, section, tile)
    # Smoothing stays inside the area, too.
    velocity = section.velocity[:, nodes_of(options.part, section.velocity.shape[1])]
    room = [(nodes - 1) * step - t for nodes, step, t in zip(velocity.shape, section.spacing, tile, strict=True)]
    room[0] -= options.depth_from
    steps = [length / (count - 1) for length, count in zip(tile, shape, strict=True)]
    # Half the ratio of the spacings: what is finer than the new nodes can carry goes, and nothing where they are finer.
    sigma = [max(0.0, (new / old - 1) / 2) for new, old in zip(steps, section.spacing, strict=True)]
    velocity = gaussian_filter(velocity, sigma, mode="nearest")
    first = rng.random((n, 2)) * np.clip(room, 0, None) + [options.depth_from, 0.0]
    where = [(first[:, i, None] + steps[i] * np.arange(shape[i])) / section.spacing[i] for i in range(2)]
    rows = np.broadcast_to(where[0][:, :, None], (n, *shape))
    columns = np.broadcast_to(where[1][:, None, :], (n, *shape))
    return map_coordinates(velocity, [rows, columns], order=1, mode="nearest")


def _check_size(options: Tiles, section: Section, tile: list[float]) -> None:
    """Refuse a section, or an area of it, that is smaller than a tile."""
    deep, wide = extent_of(section)
    # A tile as large as the section fits, whatever its spacing is in binary.
    least = [length * (1 - 1e-6) for length in tile]
    if deep - options.depth_from < least[0] or wide < least[1]:
        km = " (coordinates in km need the attribute units)" if 100 * wide < tile[1] else ""
        raise VelocityFileError(
            f"{options.file}: {deep:g} m deep and {wide:g} m wide{km}, too small for tiles of {tile[0]:g} m x "
            f"{tile[1]:g} m below {options.depth_from:g} m: lower tiles.stretch or tiles.depth_from"
        )
    nodes = nodes_of(options.part, section.velocity.shape[1])
    found = (nodes.stop - nodes.start - 1) * section.spacing[1]
    if found < least[1]:
        share = options.part[1] - options.part[0]
        raise VelocityFileError(
            f"{options.file}: {wide:g} m wide, and tiles of this split come from {100 * share:.0f} % of it, {found:g} "
            f"m, narrower than a tile of {tile[1]:g} m: give a section "
            f"{(tile[1] + 2 * section.spacing[1]) / share:.0f} m wide, lower tiles.stretch, or let tiles of all splits "
            "lie anywhere with tiles.area: anywhere"
        )


def extent_of(section: Section) -> tuple[float, float]:
    """How deep and how wide a section is, m."""
    deep, wide = ((n - 1) * step for n, step in zip(section.velocity.shape, section.spacing, strict=True))
    return deep, wide


def describe(splits: Mapping[str, Tiles], bounds: tuple[float, float]) -> Review:
    """What was read from a file, where the tiles of a split lie, and how far they are from those of other splits.

    Args:
        splits: the split that is described and then others, by their names; those of another file do not matter.
        bounds: velocities (m/s) that tiles are clipped to.
    """
    (split, options), *others = splits.items()
    section = section_of(options)
    velocity, (deep, wide) = section.velocity, extent_of(section)
    top, bottom = (float(row.mean(dtype=np.float64)) for row in (velocity[0], velocity[-1]))
    first, last = _ends(options.part, section)
    said = [f"{top:.0f} m/s at the top, {bottom:.0f} at the bottom; {wide:g} m x {deep:g} m", *section.taken]
    warnings = list(section.warnings)
    if top > FALLS * bottom:
        warnings.append(
            f"velocity falls from {top:.0f} m/s at the top to {bottom:.0f} at the bottom: if the file is upside down, "
            "turn it, or correct its coordinate of depth"
        )
    below = velocity[min(int(options.depth_from / section.spacing[0]), len(velocity) - 1) :]
    outside = _outside(below, bounds)
    if outside:
        clipped = f"{100 * outside:.1f} % outside {bounds[0]:g} to {bounds[1]:g} m/s is clipped"
        said.append(clipped)
        if outside > CLIPPED:
            feet = "say tiles.units: ft/s if it is in that, " if _outside(FOOT * below, bounds) < outside / 2 else ""
            warnings.append(f"{clipped}: {feet}correct its units, or velocity_min and velocity_max of the simulator")
    where = [f"tiles of {split} between offsets of {first:g} and {last:g} m"]
    for name, other in others:
        if other.path == options.path:
            start, stop = _ends(other.part, section)
            distance = max(start - last, first - stop)
            if distance > 0:
                where.append(f"at least {distance:g} m from those of {name}")
            else:
                warnings.append(f"tiles of {split} may overlap those of {name}: see tiles.area")
    said.append(", ".join(where))
    return Review([f"{options.file}: {warning}" for warning in warnings], f"{options.file}: {'; '.join(said)}")


def _ends(part: tuple[float, float], section: Section) -> tuple[float, float]:
    """Offsets of the first and the last node of a part of the width, from the section's first node, m."""
    nodes = nodes_of(part, section.velocity.shape[1])
    return nodes.start * section.spacing[1], (nodes.stop - 1) * section.spacing[1]


def _outside(velocity: np.ndarray, bounds: tuple[float, float]) -> float:
    return float(((velocity < bounds[0]) | (velocity > bounds[1])).mean())
