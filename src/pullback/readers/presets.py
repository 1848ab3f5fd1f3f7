"""Branch maps of formats that many people have."""

from typing import Any, Literal

Preset = Literal["nanoaod", "nanoaod-data"]


def _jets(name: str) -> dict[str, str]:
    return {feature: f"{name}_{feature}" for feature in ("pt", "eta", "phi", "mass")}


PRESETS: dict[Preset, dict[str, Any]] = {
    "nanoaod": {
        "tree": "Events",
        "y": _jets("Jet"),
        "x": _jets("GenJet"),
        "match": "Jet_genJetIdx",
        "weight": "genWeight",
    },
    "nanoaod-data": {"tree": "Events", "y": _jets("Jet")},
}
"""Name -> keys of the reader `root` that a study need not give."""


def preset_of(block: dict[str, Any]) -> Preset | None:
    """The preset with which a block ``read`` says the same; None where none does."""
    keys = {key: value for key, value in block.items() if key not in ("kind", "files")}
    return next((name for name, preset in PRESETS.items() if preset == keys), None)
