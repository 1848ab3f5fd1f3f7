"""Draws docs/geology.png: every geology of the fwi problem, and one of its shot gathers.

python docs/geology.py        ($PULLBACK_DATA/fwi with Marmousi for the last row, which is left out without it)
"""

import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

from pullback.problems.fwi import Fwi
from pullback.simulators.geology import GEOLOGIES
from pullback.simulators.wave_settings import FwiSimulator

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
MARMOUSI = Path(os.environ.get("PULLBACK_DATA", HERE / "../../shared/data")) / "fwi/marmousi_vp_1601x401_float32.bin"
SAMPLES = 4


def rows() -> list[tuple[str, list[dict[str, Any]]]]:
    """The name of each row, and the parameters of its kinds: A, and B where there is one."""
    kinds: dict[str, dict[str, Any]] = {name: {"sorted": False} for name in GEOLOGIES}
    kinds |= {"style": {"rough": True}, "gradient": {}}
    found = [
        (name, [{"geology": name}, *([{"geology": name, **other}] if other else [])]) for name, other in kinds.items()
    ]
    if MARMOUSI.exists():
        tiles = {
            "file": str(MARMOUSI),
            "shape": [1601, 401],
            "first_axis": "offset",
            "spacing": 7.5,
            "units": "km/s",
            "stretch": 2.0,
        }
        found.append(("tiles\n(Marmousi)", [{"geology": "tiles", "tiles": tiles}]))
    return found


def draw() -> None:
    """Make the figure."""
    problem = Fwi(FwiSimulator(preset="openfwi"))
    drawn = rows()
    columns = 2 * SAMPLES + 1
    figure, axes = plt.subplots(len(drawn), columns, figsize=(10.6, 1.12 * len(drawn) + 0.5), squeeze=False)
    figure.subplots_adjust(left=0.1, right=0.995, bottom=0.045, top=0.97, wspace=0.06, hspace=0.06)
    for line, (name, kinds) in zip(axes, drawn, strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
        for kind, params in enumerate(kinds):
            models = problem.sample_prior(np.random.default_rng(7), SAMPLES, params)
            for axis, model in zip(line[kind * SAMPLES :], models, strict=False):
                image = axis.imshow(model / 1000, cmap="viridis", vmin=1.5, vmax=4.5)
            if kind == 0:
                gathers, _ = problem.apply(models[:1])
                # Late reflections are seen beside the direct wave: amplitudes times time to the power 1.5.
                shot = gathers[0, len(gathers[0]) // 2] * problem.acquisition.times[:, None] ** 1.5
                loud = np.quantile(np.abs(shot), 0.95)
                line[-1].imshow(shot, cmap="gray", vmin=-loud, vmax=loud, aspect="auto")
        for axis in line[len(kinds) * SAMPLES : -1]:
            axis.set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for column, title in ((0, "A"), (SAMPLES, "B"), (columns - 1, "shot of first")):
        axes[0, column].set_title(title, fontsize=9, loc="left")
    place = figure.add_axes((0.1, 0.024, 0.4, 0.008))
    figure.colorbar(image, cax=place, orientation="horizontal").ax.tick_params(labelsize=7, length=2, pad=1)
    figure.text(0.51, 0.02, "km/s; sections of 690 m x 690 m; shots in their middle, 1 s, late times louder", size=8)
    out = HERE / "geology.png"
    figure.savefig(out, dpi=110)
    # A palette: a quarter of the bytes.
    Image.open(out).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    draw()
