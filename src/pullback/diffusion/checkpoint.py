"""Atomic files of tensors: training checkpoints and trained models (artifacts).

A checkpoint starts with the SHA-256 of the rest: a truncated or changed file is detected before torch reads it. Both
kinds are read with ``weights_only=True``: files hold tensors and plain values, no code.
"""

import io
import logging
import re
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pullback.core.atomic import DamagedError, StoreError, read_sealed, write_atomic, write_sealed

log = logging.getLogger("pullback")

FORMAT = 1
KEEP = 2


class CheckpointError(ValueError):
    """A checkpoint that belongs to another training."""


class ArtifactError(ValueError):
    """A model file that is missing, cut short, or not one of pullback's."""


class Artifact(NamedTuple):
    """A trained model.

    Attributes:
        weights: tensors by name.
        meta: plain values (numbers, strings, lists, dicts, tensors) that describe the model.
    """

    weights: dict[str, torch.Tensor]
    meta: dict[str, Any]


def _packed(value: Any) -> bytes:
    # Through memory: torch writes the name of a file into it, and the temporary name would make equal models differ.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def save_artifact(path: Path, weights: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
    """Write a model: its weights (moved to the CPU) and plain values (`Artifact`)."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
    write_atomic(path, _packed(_unshared({"format": FORMAT, "weights": weights, "meta": meta})))


def _unshared(value: Any) -> Any:
    """A copy in which equal strings are one object, and no other object stands twice.

    Pickle writes an object that it meets again as a reference: without this, equal values would differ in bytes.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {_unshared(key): _unshared(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_unshared, value))
    return value


def load_artifact(path: Path | str) -> Artifact:
    """The model of a file, on the CPU.

    Raises:
        ArtifactError: the file is missing, cut short, foreign, or of another version.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactError(f"{path}: there is no such model; train it first")
    try:
        # torch does not look at the checksums in its files.
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {damaged} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        raise ArtifactError(
            f"{path}: cannot be read as a model ({type(error).__name__}, {path.stat().st_size} bytes): it is damaged, "
            f"cut short, or not a file of pullback; to have it trained again: rm {path}, and run again"
        ) from None
    if not isinstance(content, dict) or not {"format", "weights", "meta"} <= set(content):
        raise ArtifactError(f"{path}: a torch file, but not a model of pullback (wanted format, weights and meta)")
    if content["format"] != FORMAT:
        raise ArtifactError(f"{path}: model format {content['format']}, this pullback reads {FORMAT}; train again")
    return Artifact(content["weights"], content["meta"])


class Checkpoints:
    """The checkpoints of exactly one training, in a folder named by its fingerprint; the last two are kept.

    Args:
        folder: made when the first checkpoint is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.fingerprint = folder.name

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*.pt") if re.fullmatch(r"step-\d{9}\.pt", path.name))

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step`` steps, and remove all but the last two.

        Raises:
            StoreError: it cannot be written; those before it stay, and the message says so.
        """
        payload = _packed({"fingerprint": self.fingerprint, "step": step, "state": state})
        try:
            write_sealed(self.folder / f"step-{step:09d}.pt", payload)
        except StoreError as error:
            before = self._files()
            kept = f"{before[-1].name} is kept, and the training goes on from it" if before else "none was kept yet"
            raise StoreError(f"{error} (of its checkpoints, {kept})") from error
        for old in self._files()[:-KEEP]:
            old.unlink(missing_ok=True)

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """The newest good checkpoint (step, state), or None; a damaged one is logged and skipped.

        Raises:
            CheckpointError: a good checkpoint that another training wrote.
        """
        for path in reversed(self._files()):
            try:
                payload = read_sealed(path)
            except DamagedError as error:
                log.warning("%s: the checkpoint before it is used", error)
                continue
            found = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            if found["fingerprint"] != self.fingerprint:
                raise CheckpointError(
                    f"{path}: written by the training {found['fingerprint']}, wanted {self.fingerprint}, the name of "
                    f"its folder; somebody moved files here: delete {self.folder} to start from scratch"
                )
            return found["step"], found["state"]
        return None

    def remove(self) -> None:
        """Delete the folder."""
        if self.folder.exists():
            for path in self.folder.iterdir():
                path.unlink(missing_ok=True)
            self.folder.rmdir()
