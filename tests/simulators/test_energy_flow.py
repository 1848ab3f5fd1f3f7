"""Energy flow of particles: helix against integration, towers against loops, resolutions against the card's numbers."""

import numpy as np
import pytest

from pullback.simulators import energy_flow as flow

pytest.importorskip("fastjet", reason="pip install 'pullback[collider]'")
import awkward as ak

from pullback.simulators.detectors.base import Collisions
from pullback.simulators.detectors.particle_flow import ParticleFlow


def particles(pt, eta, phi, identity, charge, mass=0.0, collision=None):
    columns = np.broadcast_arrays(*(np.asarray(v, float) for v in (pt, eta, phi, mass, identity, charge)))
    pt, eta, phi, mass, identity, charge = (np.atleast_1d(np.array(c)) for c in columns)
    where = np.arange(len(pt)) if collision is None else np.asarray(collision)
    return flow.Particles(where, pt, eta, phi, mass, identity.astype(int), charge)


def integrated(pt, eta, phi, charge, steps=40_000):
    """Where a particle leaves the cylinder, by small steps in the field: dp/ds = 0.3 q p x B / |p|, dx/ds = p / |p|."""
    p, x = np.array([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]), np.zeros(3)
    size = np.linalg.norm(p)
    ds = 60.0 / steps

    def force(q):
        return 0.299792458 * charge * 3.8 * np.array([q[1], -q[0], 0.0]) / size

    for _ in range(steps):
        middle = p + force(p) * ds / 2
        x, p = x + middle / size * ds, p + force(middle) * ds
        if np.hypot(x[0], x[1]) >= 1.29 or abs(x[2]) >= 3.0:
            return np.arcsinh(x[2] / np.hypot(x[0], x[1])), np.arctan2(x[1], x[0])
    raise AssertionError("it does not come out")


@pytest.mark.parametrize(
    "particle",
    [(0.9, 0.4, 1.0, 1), (5.0, -1.2, 3.1, -1), (0.8, 1.8, -2.0, 1), (0.4, 0.7, 0.2, -1), (50.0, 2.4, -3.1, 1)],
)
def test_charged_particles_follow_a_helix(particle):
    eta, phi = flow.at_calorimeter(particles(*particle[:3], 211, particle[3]))
    wanted = integrated(*particle)
    # The last of 40,000 steps of 1.5 mm is up to that much beyond a wall at 1.29 m.
    assert eta[0] == pytest.approx(wanted[0], abs=6e-3)
    assert np.angle(np.exp(1j * (phi[0] - wanted[1]))) == pytest.approx(0, abs=6e-3)


def test_neutral_particles_go_straight():
    eta, phi = flow.at_calorimeter(particles([0.2, 9.0], [1.7, -4.0], [0.3, -3.1], 22, 0))
    assert (eta.tolist(), phi.tolist()) == ([1.7, -4.0], [0.3, -3.1])


def test_tracking_is_that_of_the_card():
    cases = [  # pt, eta, id, efficiency, relative resolution
        (0.05, 0.0, 211, 0.0, np.hypot(0.06, 1.3e-3 * 0.05)),
        (0.5, 0.3, 211, 0.70, np.hypot(0.06, 1.3e-3 * 0.5)),
        (20.0, 1.0, 211, 0.95, np.hypot(0.10, 1.7e-3 * 20)),
        (20.0, 2.0, 211, 0.85, np.hypot(0.25, 3.1e-3 * 20)),
        (20.0, 2.6, 211, 0.0, np.hypot(0.25, 3.1e-3 * 20)),
        (200.0, 0.3, 11, 0.99, np.hypot(0.03, 1.3e-3 * 200)),
        (50.0, 2.0, 11, 0.83, np.hypot(0.15, 3.1e-3 * 50)),
        (50.0, 0.3, 13, 0.99, np.hypot(0.01, 1e-4 * 50)),
        (2000.0, 2.0, 13, 0.98 * np.exp(0.5 - 1.0), np.hypot(0.025, 3.5e-4 * 2000)),
        (2000.0, 2.0, 211, 0.85, 1.0),
    ]
    pt, eta, identity, efficiency, resolution = (np.array(c) for c in zip(*cases, strict=True))
    made = particles(pt, eta, 0.0, identity, 1)
    np.testing.assert_allclose(flow.tracking_efficiency(made), efficiency)
    np.testing.assert_allclose(flow.track_resolution(made), resolution)
    assert flow.tracking_efficiency(particles(20.0, 0.0, 0.0, 22, 0)).tolist() == [0.0]


def test_log_normal_numbers_have_the_mean_and_width():
    n = 200_000
    found = flow.log_normal(np.full(n, 3.0), np.full(n, 1.2), np.random.default_rng(1).standard_normal(n))
    assert abs(found.mean() - 3) < 5 * 1.2 / np.sqrt(n)
    fourth = ((found - 3) ** 4).mean() / 1.2**4
    assert abs(found.std() / 1.2 - 1) < 5 * np.sqrt((fourth - 1) / 4 / n)
    assert flow.log_normal(np.zeros(2), np.ones(2), np.ones(2)).tolist() == [0, 0]


@pytest.mark.parametrize("calorimeter", [flow.ECAL, flow.HCAL])
def test_towers_hold_what_falls_into_them(calorimeter):
    rng = np.random.default_rng(2)
    eta, phi = rng.uniform(-5.2, 5.2, 5000), rng.uniform(-np.pi, np.pi, 5000)
    tower = calorimeter.tower(eta, phi)
    assert ((tower < 0) == (np.abs(eta) > 5)).all()
    inside = tower >= 0
    low, high, start, width = calorimeter.bounds(tower[inside])
    assert ((eta[inside] > low) & (eta[inside] <= high)).all()
    assert ((phi[inside] >= start) & (phi[inside] < start + width)).all()
    central, forward = width[np.abs(eta[inside]) < 1.4], width[np.abs(eta[inside]) > 4.8]
    assert np.degrees(central) == pytest.approx(1.0 if calorimeter is flow.ECAL else 5.0)
    assert np.degrees(forward) == pytest.approx(10.0 if calorimeter is flow.ECAL else 20.0)


def towers_one_by_one(calorimeter, where, tower, deposit, track, sigma, smearing, positions):
    """The rule of a tower, one at a time."""
    energies, factors = [], np.ones(len(where))
    hit = sorted({(int(c), int(t)) for c, t, d, k in zip(where, tower, deposit, track, strict=True) if d > 0 or k > 0})
    normal = smearing.standard_normal(len(hit))
    for z, key in zip(normal, hit, strict=True):
        members = [i for i in range(len(where)) if (where[i], tower[i]) == key]
        true, charged = sum(deposit[members]), sum(track[members])
        low, high, *_ = (float(each[0]) for each in calorimeter.bounds(np.array([key[1]])))
        centre = np.array([(low + high) / 2])
        width = float(calorimeter.resolution(centre, np.array([true]))[0])
        b = np.sqrt(np.log(1 + width**2 / true**2)) if true > 0 else 0.0
        energy = np.exp(np.log(true) - b**2 / 2 + b * z) if true > 0 else 0.0
        s = float(calorimeter.resolution(centre, np.array([energy]))[0])
        if energy < calorimeter.energy_min or energy < calorimeter.significance * s:
            energy = 0.0
        variance = sum(sigma[members] ** 2)
        excess = max(energy - charged, 0.0)
        if excess > calorimeter.energy_min and excess / np.sqrt(variance + s**2) > calorimeter.significance:
            energies.append(excess)
        elif charged > 0:
            best = (charged / variance + energy / s**2) / (1 / variance + 1 / s**2)
            factors[[i for i in members if track[i] > 0]] = best / charged
    return energies, factors


def test_energy_flow_is_the_rule_of_each_tower():
    rng = np.random.default_rng(3)
    n = 400
    where = np.sort(rng.integers(0, 6, n))
    eta, phi = rng.choice([0.03, 0.1, 1.7, 3.2], n), rng.choice([0.1, 1.0, -2.0], n)
    deposit = np.where(rng.random(n) < 0.9, rng.exponential(6.0, n), 0.0)
    track = np.where(rng.random(n) < 0.3, deposit * rng.uniform(0.8, 1.2, n), 0.0)
    sigma = 0.06 * track
    for calorimeter in (flow.ECAL, flow.HCAL):
        pair = [(np.random.default_rng(4), np.random.default_rng(5)) for _ in range(2)]
        found, factor = flow.energy_flow(calorimeter, where, (eta, phi), deposit, track, sigma, *pair[0])
        tower = calorimeter.tower(eta, phi)
        energies, factors = towers_one_by_one(calorimeter, where, tower, deposit, track, sigma, *pair[1])
        np.testing.assert_allclose(found.energy, energies)
        np.testing.assert_allclose(factor, factors)
        assert len(energies) > 5
        assert (factor != 1).sum() > 5


def collisions_of(px, py, pz, e, identity, charge, counts):
    flat = ak.zip({"px": px, "py": py, "pz": pz, "e": e, "id": identity, "charge": charge})
    made = ak.unflatten(flat, counts)
    pt = np.hypot(px, py)
    truth = {"pt": pt, "eta": np.arcsinh(pz / pt), "phi": np.arctan2(py, px), "mass": np.zeros(len(pt))}
    return Collisions(ak.unflatten(ak.zip(truth), counts), made, 0.4)


def streams(seed):
    return lambda stage: np.random.default_rng([seed, sum(map(ord, stage))])


@pytest.mark.parametrize(
    ("identity", "sigma"),
    [(22, np.sqrt(0.8**2 + 0.11**2 * 100 + 0.4**2)), (2112, np.sqrt(5.0**2 + 1.5**2 * 100))],  # photon, neutron
)
def test_a_lone_neutral_particle_has_the_resolution_of_its_calorimeter(identity, sigma):
    n = 4000
    phi = np.random.default_rng(6).uniform(-np.pi, np.pi, n)
    seen = collisions_of(
        100 * np.cos(phi), 100 * np.sin(phi), np.full(n, 0.1), np.full(n, 100.0), [identity] * n, [0.0] * n, [1] * n
    )
    found = ParticleFlow(kind="particle-flow", jet_energy_scale=False).reconstruct(seen, streams(1))
    assert found.collision.tolist() == list(range(n))
    assert (found.truth == 0).all()
    energy = found.features[:, 0] * np.cosh(found.features[:, 1])
    assert abs(energy.mean() - 100) < 5 * sigma / np.sqrt(n) + 0.01
    assert abs(energy.std() / sigma - 1) < 5 / np.sqrt(2 * n) + 0.03  # (1 + 0.64 eta^2) within a tower, and log-normal


def test_collisions_are_apart_and_a_short_block_begins_like_the_whole():
    rng = np.random.default_rng(7)
    counts = rng.integers(20, 40, 30)
    n = counts.sum()
    pt, eta, phi = rng.exponential(8.0, n) + 0.2, rng.uniform(-3, 3, n), rng.uniform(-np.pi, np.pi, n)
    identity = rng.choice([211, -211, 22, 130, 13], n)
    charge = np.select([identity == 211, identity == -211, identity == 13], [1.0, -1.0, -1.0], 0.0)
    columns = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta), identity, charge]
    detector = ParticleFlow(kind="particle-flow")
    whole = detector.reconstruct(collisions_of(*columns, counts), streams(2))
    cut = counts[:12].sum()
    short = detector.reconstruct(collisions_of(*(c[:cut] for c in columns), counts[:12]), streams(2))
    first = whole.collision < 12
    for name in ("collision", "features", "truth"):
        np.testing.assert_array_equal(getattr(short, name), getattr(whole, name)[first])
    assert len(short.collision) > 20
    assert (short.truth >= 0).any()
