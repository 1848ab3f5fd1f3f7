"""Model files."""

import torch

from pullback.diffusion.checkpoint import load_artifact, save_artifact


def test_equal_models_are_equal_bytes_whoever_made_their_strings(tmp_path):
    names = ["kind", "".join(["ki", "nd"])]
    assert names[0] is not names[1]
    for number, second in enumerate(names):
        shared = [1.5]
        meta = {"spec": {"kind": "kind", "other": second}, "sizes": [shared, shared if number else [1.5]]}
        save_artifact(tmp_path / f"{number}.pt", {"w": torch.ones(2)}, meta)
    assert (tmp_path / "0.pt").read_bytes() == (tmp_path / "1.pt").read_bytes()
    weights, meta = load_artifact(tmp_path / "0.pt")
    assert torch.equal(weights["w"], torch.ones(2))
    assert meta == {"spec": {"kind": "kind", "other": "kind"}, "sizes": [[1.5], [1.5]]}
