"""Kinds by name: problems, detectors, methods, priors, likelihoods, readers and metrics, built in or from outside.

A study names a kind in one of three ways, which are equivalent:

- a built-in name (`BUILT_IN`, name -> ``"module:Name"``);
- the name of an entry point in the group ``pullback.<group>`` of an installed package;
- ``./my.py:Name``, a file relative to the study's folder and a name in it.

This module imports nothing of the package: kinds are imported when they are loaded.
"""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

BUILT_IN: dict[str, dict[str, str]] = {
    "problems": {
        "gaussian": "pullback.problems.gaussian:Gaussian",
        "fwi": "pullback.problems.fwi:Fwi",
        "unfolding": "pullback.problems.unfolding:Unfolding",
        "linear-gaussian": "pullback.problems.linear_gaussian:LinearGaussian",
        "gaussian-mixture": "pullback.problems.gaussian_mixture:Mixture",
        "digits": "pullback.problems.digits:Digits",
        "imaging": "pullback.problems.imaging.problem:Imaging",
        "command": "pullback.problems.command:Command",
        "observables": "pullback.problems.observables:Observables",
    },
    "detectors": {
        "smearing": "pullback.simulators.detectors.smearing:Smearing",
        "acceptance": "pullback.simulators.detectors.acceptance:Acceptance",
        "particle-flow": "pullback.simulators.detectors.particle_flow:ParticleFlow",
        "learned": "pullback.simulators.detectors.learned:Learned",
    },
    "methods": {
        "cfm": "pullback.methods.amortised.spec:CfmSpec",
        "cddpm": "pullback.methods.amortised.spec:CddpmSpec",
        "ei-fm": "pullback.methods.amortised.spec:EiFmSpec",
        "ei-ddpm": "pullback.methods.amortised.spec:EiDdpmSpec",
        "regression": "pullback.methods.amortised.spec:RegressionSpec",
        "velocity-gan": "pullback.methods.amortised.velocity_gan_spec:VelocityGanSpec",
        "hvae": "pullback.methods.amortised.hvae_spec:HvaeSpec",
        "sbunfold": "pullback.methods.unfolding.sbunfold_spec:SbUnfoldSpec",
        "sourcerer": "pullback.methods.unfolding.sourcerer_spec:SourcererSpec",
        "oracle": "pullback.methods.classical.oracle:OracleSpec",
        "random-truth": "pullback.methods.classical.random_truth:RandomTruthSpec",
        "lbfgs-fwi": "pullback.methods.classical.lbfgs:LbfgsSpec",
        "enkg": "pullback.methods.guided.spec:EnkgSpec",
        "prior-draws": "pullback.methods.guided.spec:PriorDrawsSpec",
        "afdps": "pullback.methods.guided.particle_spec:AfdpsSpec",
        "afdps-sde": "pullback.methods.guided.particle_spec:AfdpsSdeSpec",
        "afdps-ode": "pullback.methods.guided.particle_spec:AfdpsOdeSpec",
        "fk-corrector": "pullback.methods.guided.particle_spec:FkCorrectorSpec",
        "fkc": "pullback.methods.guided.particle_spec:FkcSpec",
        "tds": "pullback.methods.guided.particle_spec:TdsSpec",
        "fk-steering": "pullback.methods.guided.particle_spec:FkSteeringSpec",
        "dps": "pullback.methods.guided.guidance_spec:DpsSpec",
        "pigdm": "pullback.methods.guided.guidance_spec:PigdmSpec",
        "tmpd": "pullback.methods.guided.guidance_spec:TmpdSpec",
        "flat": "pullback.methods.guided.guidance_spec:FlatSpec",
        "exact-score": "pullback.methods.guided.guidance_spec:ExactScoreSpec",
        "ddrm": "pullback.methods.guided.guidance_spec:DdrmSpec",
        "ibu": "pullback.methods.unfolding.binned_spec:IbuSpec",
        "bin-by-bin": "pullback.methods.unfolding.binned_spec:BinByBinSpec",
        "matrix-inversion": "pullback.methods.unfolding.binned_spec:MatrixInversionSpec",
        "tikhonov": "pullback.methods.unfolding.binned_spec:TikhonovSpec",
        "omnifold": "pullback.methods.unfolding.omnifold_spec:OmnifoldSpec",
    },
    "priors": {
        "edm": "pullback.methods.guided.prior_spec:EdmPriorSpec",
        "exact": "pullback.methods.guided.prior_spec:ExactPriorSpec",
        "file": "pullback.methods.guided.file_spec:FilePriorSpec",
        "shared": "pullback.methods.guided.prior_spec:SharedPriorSpec",
    },
    "likelihoods": {"gmm": "pullback.methods.likelihood_spec:GmmLikelihoodSpec"},
    "readers": {
        "root": "pullback.readers.root:RootFiles",
        "openfwi": "pullback.readers.openfwi:OpenFwiFiles",
        "segy": "pullback.readers.segy:SegyFiles",
        "netcdf": "pullback.readers.netcdf:NetcdfFiles",
        "table": "pullback.readers.table_files:TableFiles",
        "numpy": "pullback.readers.numpy_files:NumpyFiles",
    },
    "metrics": {
        "failed_draws": "pullback.metrics.errors:FAILED_DRAWS",
        "swd": "pullback.metrics.floors:SWD",
        "swd_exact": "pullback.metrics.exact_rows:SWD_EXACT",
        "w1": "pullback.metrics.floors:W1",
        "mse": "pullback.metrics.errors:MSE",
        "mae": "pullback.metrics.errors:MAE",
        "relative_l2": "pullback.metrics.errors:RELATIVE_L2",
        "psnr": "pullback.metrics.errors:PSNR",
        "ssim": "pullback.metrics.errors:SSIM",
        "spread_skill": "pullback.metrics.errors:SPREAD_SKILL",
        "energy_score": "pullback.metrics.energy:ENERGY_SCORE",
        "crps": "pullback.metrics.calibration:CRPS",
        "coverage": "pullback.metrics.calibration:COVERAGE",
        "fold_back_swd": "pullback.metrics.checks:FOLD_BACK",
        "seen_swd": "pullback.metrics.seen:SEEN_SWD",
        "embedding_distance": "pullback.metrics.diagnostics:EMBEDDING_DISTANCE",
        "set_size": "pullback.metrics.diagnostics:SET_SIZE",
        "set_size_outside": "pullback.metrics.diagnostics:SET_SIZE_OUTSIDE",
        "effective_pool": "pullback.metrics.diagnostics:EFFECTIVE_POOL",
        "effective_pool_low": "pullback.metrics.diagnostics:EFFECTIVE_POOL_LOW",
        "ess_min": "pullback.metrics.diagnostics:ESS_MIN",
        "ess_final": "pullback.metrics.diagnostics:ESS_FINAL",
        "unique_ancestors": "pullback.metrics.diagnostics:UNIQUE_ANCESTORS",
        "resamplings": "pullback.metrics.diagnostics:RESAMPLINGS",
        "dead_particles": "pullback.metrics.diagnostics:DEAD_PARTICLES",
        "log_evidence": "pullback.metrics.diagnostics:LOG_EVIDENCE",
        "final_misfit": "pullback.metrics.diagnostics:FINAL_MISFIT",
        "source_misfit": "pullback.metrics.diagnostics:SOURCE_MISFIT",
        "source_entropy": "pullback.metrics.diagnostics:SOURCE_ENTROPY",
        "sbc_ks": "pullback.metrics.credibility:SBC",
        "tarp_gap": "pullback.metrics.credibility:TARP",
        "posterior_mean_error": "pullback.metrics.exact_rows:POSTERIOR_MEAN_ERROR",
        "posterior_covariance_error": "pullback.metrics.exact_rows:POSTERIOR_COVARIANCE_ERROR",
        "posterior_w1": "pullback.metrics.posterior_distance:POSTERIOR_W1",
        "posterior_swd": "pullback.metrics.posterior_distance:POSTERIOR_SWD",
        "mode_weight_error": "pullback.metrics.modes:MODE_WEIGHT_ERROR",
        "log_evidence_error": "pullback.metrics.evidence:LOG_EVIDENCE_ERROR",
        "energy_score_excess": "pullback.metrics.exact_rows:ENERGY_SCORE_EXCESS",
        "crps_excess": "pullback.metrics.exact_rows:CRPS_EXCESS",
        "c2st": "pullback.metrics.exact_rows:C2ST",
        "misfit": "pullback.metrics.checks:MISFIT",
        "unfolded_ess": "pullback.metrics.unfolding:UNFOLDED_ESS",
        "bins_w1": "pullback.metrics.unfolding:BINS_W1",
        "triangular": "pullback.metrics.spectra:TRIANGULAR",
        "chi2": "pullback.metrics.spectra:CHI2",
        "chi2_dof": "pullback.metrics.spectra:CHI2_DOF",
        "chi2_counts": "pullback.metrics.spectra:CHI2_COUNTS",
        "chi2_counts_dof": "pullback.metrics.spectra:CHI2_COUNTS_DOF",
        "bottom_line": "pullback.metrics.bottom_line:BOTTOM_LINE",
        "mean_bias": "pullback.metrics.spectra:MEAN_BIAS",
        "injected_mean": "pullback.metrics.spectra:INJECTED_MEAN",
        "negative_weights": "pullback.metrics.diagnostics:NEGATIVE_WEIGHTS",
        "fake_fraction": "pullback.metrics.acceptance:FAKE_FRACTION",
        "purity_ratio": "pullback.metrics.acceptance:PURITY_RATIO",
        "efficiency_ratio": "pullback.metrics.acceptance:EFFICIENCY_RATIO",
        "truths_ratio": "pullback.metrics.acceptance:TRUTHS_RATIO",
        "refolded_chi2": "pullback.metrics.binned:REFOLDED_CHI2",
        "unfolding_iterations": "pullback.metrics.binned:UNFOLDING_ITERATIONS",
        "iteration_change": "pullback.metrics.binned:ITERATION_CHANGE",
        "regularisation_strength": "pullback.metrics.binned:REGULARISATION_STRENGTH",
        "response_condition": "pullback.metrics.binned:RESPONSE_CONDITION",
        "outside_bins": "pullback.metrics.binned:OUTSIDE_BINS",
        "unexplained": "pullback.metrics.binned:UNEXPLAINED",
        "negative_bins": "pullback.metrics.binned:NEGATIVE_BINS",
        "failed_resimulations": "pullback.metrics.checks:FAILED_RESIMULATIONS",
    },
}


class KindError(ValueError):
    """An unknown kind, or one that cannot be loaded.

    Attributes:
        group, kind: of the failed look-up.
    """

    def __init__(self, group: str, kind: str, reason: str):
        super().__init__(reason)
        self.group, self.kind = group, kind


def is_path(kind: str) -> bool:
    """Whether a kind is named by file and class, ``./my.py:Name``."""
    return kind.rpartition(":")[0].endswith(".py")


def file_of(kind: str, folder: Path | str = ".") -> Path | None:
    """The user's file that defines a kind; None for built-in kinds and entry points."""
    return Path(folder) / kind.rpartition(":")[0] if is_path(kind) else None


def kinds(group: str) -> dict[str, str]:
    """Kind -> ``"module:Name"`` of everything built in or installed; a built-in name wins."""
    installed = _entries(group) if _INSTALLED.get() else ()
    return {entry.name: entry.value for entry in installed} | BUILT_IN[group]


_INSTALLED = ContextVar("installed", default=True)


@contextmanager
def built_in_only() -> Iterator[None]:
    """Context in which `kinds` leaves out entry points: files of the repository are the same on every machine."""
    token = _INSTALLED.set(False)
    try:
        yield
    finally:
        _INSTALLED.reset(token)


@cache
def _entries(group: str) -> tuple[Any, ...]:
    return tuple(entry_points(group=f"pullback.{group}"))


def load_object(target: str) -> Any:
    """The object at ``"module:Name"``."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def load(group: str, kind: str, folder: Path | str = ".") -> Any:
    """The Spec of a kind (of problems the problem's class, of metrics the Metric).

    Args:
        group: a key of `BUILT_IN`.
        kind: a name, or ``./my.py:Name``.
        folder: that of the study, which paths are relative to.

    Raises:
        KindError: there is no such kind, or importing it failed.
    """
    if not is_path(kind):
        target = kinds(group).get(kind)
        if target is None:
            raise KindError(group, kind, f"there is no kind '{kind}'{did_you_mean(kind, kinds(group))}")
        try:
            return load_object(target)
        except (ImportError, AttributeError) as error:
            if kind in BUILT_IN[group]:
                raise
            raise KindError(group, kind, f"entry point '{kind}' ({target}) cannot be loaded: {error}") from error
    file, name = Path(folder) / kind.rpartition(":")[0], kind.rpartition(":")[2]
    if not file.exists():
        raise KindError(group, kind, f"there is no file {file}")
    try:
        return getattr(_module(file.resolve()), name)
    except AttributeError:
        raise KindError(group, kind, f"{file} holds no '{name}'") from None
    except Exception as error:  # The user's own file may raise anything.
        raise KindError(group, kind, f"{file} cannot be imported: {type(error).__name__}: {error}") from error


def _module(file: Path) -> Any:
    """The module of a user's file, imported once in a process."""
    name = f"pullback_user_{file.stem}_{abs(hash(str(file)))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """The nearest of some names as the end of a message; nothing where none is near."""
    near = difflib.get_close_matches(word, list(names), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
