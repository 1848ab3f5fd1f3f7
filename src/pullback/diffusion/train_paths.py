"""The files that a training writes."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pullback.core.atomic import write_atomic

if TYPE_CHECKING:
    from pullback.diffusion.checkpoint import Artifact


@dataclass(frozen=True)
class TrainPaths:
    """Output paths of a training; nothing is written where one is None.

    Attributes:
        artifact: final model, written under a temporary name and renamed at the end.
        curves: CSV of loss curves, written likewise.
        checkpoints: folder that belongs to exactly this training (named by its fingerprint); deleted on success.
        job_digest: digest of the training job, stored in the artifact's meta values; inference compares it.
    """

    artifact: Path | None = None
    curves: Path | None = None
    checkpoints: Path | None = None
    job_digest: str = ""

    def write(
        self, weights: dict[str, Any], meta: dict[str, Any], curves: Sequence[Mapping[str, float]] = ()
    ) -> "Artifact":
        """Write a finished training, and return its artifact.

        Args:
            weights: tensors by name.
            meta: plain values (dicts, lists, numbers, text).
            curves: rows of the loss curves, with ``step``, ``train_loss`` and ``validation_loss``, and any more
                numbers under the same names in each.
        """
        from pullback.diffusion.checkpoint import Artifact, save_artifact

        meta = {**meta, "job": self.job_digest}
        if self.curves:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(curves[0] if curves else ("step", "train_loss", "validation_loss"))
            for row in curves:
                writer.writerow([v if isinstance(v, int) else f"{v:.8g}" for v in row.values()])
            write_atomic(self.curves, text.getvalue().encode())
        if self.artifact:
            save_artifact(self.artifact, weights, meta)
        return Artifact({name: value.detach().cpu() for name, value in weights.items()}, meta)
