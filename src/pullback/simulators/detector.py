"""A detector as smearing of each jet: p(y|x) in closed form.

The formulas are those of the object smearing of the published jet-unfolding benchmarks (an ATLAS-like
detector; jet resolution from ATLAS 1910.04482), with pT in GeV, for a jet x = (pT, eta, phi, mass)::

    pT'  ~ N(mu, s),  mu = pT (0.00639 sqrt(pT - 20) + 0.6),  s = pT sqrt(11.09 / pT^2 + 0.504 / pT + 0.0009)
    eta' ~ N(eta, 5.6e-8 pT^2 - 1.12e-4 pT + 0.06)
    phi' ~ N(phi, 8.4e-8 pT^2 - 1.68e-4 pT + 0.09), wrapped to [-pi, pi)

A reconstructed jet y = (pT', eta', phi') is massless: its energy is pT' cosh eta'. It is kept when pT' >= 5 and
|eta'| <= 4.5; an analysis may cut at a higher pT' (``pt_min``). A pair (x, y) exists only where the jet was kept, so
p(y|x) here is the law of *kept* jets: the likelihood is normalised on the kept region. The mass of the truth jet does
not enter. The detectors of these formulas are `pullback.simulators.detectors.smearing` and ``acceptance``.
"""

import math
from collections.abc import Callable

import numpy as np

from pullback.core.angles import wrap
from pullback.simulators.collider_settings import PT_MIN_TRUTH

PT_MIN = 5.0
"""GeV; a reconstructed jet below is lost."""
ETA_MAX = 4.5
"""A reconstructed jet beyond is lost."""


def response(pt: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean of pT' and standard deviations of pT', eta', phi' for truth pT (...,) in GeV; NaN mean below 20 GeV."""
    pt = np.asarray(pt, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean = pt * (0.00639 * np.sqrt(pt - PT_MIN_TRUTH) + 0.6)
    width_pt = np.sqrt(11.09 + 0.504 * pt + 0.0009 * pt**2)
    width_eta = 5.6e-8 * pt**2 - 1.12e-4 * pt + 0.06
    width_phi = 8.4e-8 * pt**2 - 1.68e-4 * pt + 0.09
    return mean, width_pt, width_eta, width_phi


def in_domain(x: np.ndarray) -> np.ndarray:
    """Whether the formulas hold for x (..., 4): pT >= 20 GeV, |eta| <= 4.5, everything finite."""
    x = np.asarray(x)
    return np.isfinite(x).all(axis=-1) & (x[..., 0] >= PT_MIN_TRUTH) & (np.abs(x[..., 1]) <= ETA_MAX)


def is_kept(y: np.ndarray, pt_min: float = PT_MIN) -> np.ndarray:
    """Whether a reconstructed jet y (..., 3) passes the selection."""
    return (y[..., 0] >= pt_min) & (np.abs(y[..., 1]) <= ETA_MAX)


def smear(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reconstructed jets (event, 3) of truth jets x (event, 4), before any selection.

    The numbers of one jet do not depend on how many follow it: the first n jets of a longer array give the same n.
    """
    return smeared(x, rng.standard_normal((len(x), 3)))


def smeared(x: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Reconstructed jets (event, 3) of truth jets x (event, 4) by standard normal numbers (event, 3)."""
    mean, *widths = response(x[:, 0])
    y = np.stack([mean, x[:, 1], x[:, 2]], axis=1) + normal * np.stack(widths, axis=1)
    y[:, 2] = wrap(y[:, 2])
    return y


def log_kept(x: np.ndarray, pt_min: float = PT_MIN) -> np.ndarray:
    """log of the probability that a truth jet x (..., 4) is kept; -inf where the formulas do not hold."""
    x = np.asarray(x, dtype=np.float64)
    mean, width_pt, width_eta, _ = response(x[..., 0])
    passes_pt = normal_cdf((mean - pt_min) / width_pt)
    passes_eta = normal_cdf((ETA_MAX - x[..., 1]) / width_eta) - normal_cdf((-ETA_MAX - x[..., 1]) / width_eta)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(in_domain(x), np.log(passes_pt * passes_eta), -np.inf)


def log_likelihood(y: np.ndarray, x: np.ndarray, pt_min: float = PT_MIN) -> np.ndarray:
    """log p(y|x) of a kept jet, y (..., 3) and x (..., 4) broadcast over leading axes, float64.

    A density in (GeV, 1, rad), normalised over pT' >= pt_min, |eta'| <= 4.5, phi' in [-pi, pi). The wrapped normal of
    phi' is the sum over its three nearest images (its width is below 0.1 rad up to 2 TeV). -inf where y is outside the
    kept region, or the formulas do not hold for x or leave no chance that it is kept.
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    mean, width_pt, width_eta, width_phi = response(x[..., 0])
    kept = log_kept(x, pt_min)
    turn = np.exp(-2 * (np.pi / width_phi) ** 2)
    offset = wrap(y[..., 2] - x[..., 2])
    # exp(-(d +- 2 pi)^2 / 2 w^2) = exp(-d^2 / 2 w^2) exp(-2 pi^2 / w^2) exp(-+ 2 pi d / w^2), all three in one factor.
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.exp(-2 * np.pi * (np.pi - np.abs(offset)) / width_phi**2)
        images = 1.0 + near + turn * np.exp(-2 * np.pi * np.abs(offset) / width_phi**2)
        value = (
            _log_normal((y[..., 0] - mean) / width_pt, width_pt)
            + _log_normal((y[..., 1] - x[..., 1]) / width_eta, width_eta)
            + _log_normal(offset / width_phi, width_phi)
            + np.log(images)
            - kept
        )
    return np.where(np.isfinite(kept) & is_kept(y, pt_min), value, -np.inf)


def likelihood_beside_phi(x: np.ndarray, pt_min: float = PT_MIN) -> Callable[[np.ndarray], np.ndarray]:
    """log p(pT', eta' | x) of any kept jets y (event, 3) given each of x (jet, 4), as a function y -> (event, jet).

    `log_likelihood` without phi', for very many pairs: the exponent is linear in (pT'^2, pT', eta'^2, eta', 1), so that
    it is one matrix product. -inf as there.
    """
    x = np.asarray(x, dtype=np.float64)
    kept = log_kept(x, pt_min)
    there = np.isfinite(kept)
    safe = np.where(there[:, None], x, (100.0, 0.0, 0.0, 0.0))
    mean, width_pt, width_eta, _ = response(safe[:, 0])
    pt, eta = 1 / width_pt**2, 1 / width_eta**2
    constant = -0.5 * (mean**2 * pt + safe[:, 1] ** 2 * eta) - np.log(2 * np.pi * width_pt * width_eta)
    constant -= np.where(there, kept, 0.0)
    coefficients = np.stack([-0.5 * pt, mean * pt, -0.5 * eta, safe[:, 1] * eta, constant])

    def of(y: np.ndarray) -> np.ndarray:
        y = np.asarray(y, dtype=np.float64)
        features = np.stack([y[:, 0] ** 2, y[:, 0], y[:, 1] ** 2, y[:, 1], np.ones(len(y))], axis=1)
        value = features @ coefficients
        value[:, ~there] = -np.inf
        value[~is_kept(y, pt_min)] = -np.inf
        return value

    return of


def _log_normal(z: np.ndarray, width: np.ndarray) -> np.ndarray:
    return -0.5 * z**2 - np.log(width) - 0.5 * math.log(2 * math.pi)


def normal_cdf(z: np.ndarray) -> np.ndarray:
    """Standard normal distribution function (this package needs it without scipy)."""
    return 0.5 * _erfc(-np.asarray(z) / math.sqrt(2))


def _erfc(z: np.ndarray) -> np.ndarray:
    values = np.fromiter((math.erfc(v) for v in np.ravel(z)), dtype=np.float64, count=np.size(z))
    return values.reshape(np.shape(z))
