"""Images on grids of pixels: interpolation to another size, and mass shared by pixels."""

import numpy as np


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Images (image, row, column) on a square grid of another size, values within the range that they had.

    Linear between centres of pixels, the border continued outwards; a coarser grid averages with a triangle as wide as
    its pixels.
    """
    weights = []
    for cells in images.shape[1:]:
        step = cells / size
        centre = (np.arange(size) + 0.5) * step - 0.5
        weight = np.clip(1 - np.abs(centre[:, None] - np.arange(cells)) / max(step, 1), 0, None)
        weights.append(weight / weight.sum(axis=1, keepdims=True))
    return weights[0] @ images @ weights[1].T


def splat(
    event: np.ndarray, row: np.ndarray, column: np.ndarray, mass: np.ndarray, shape: tuple[int, int, int]
) -> np.ndarray:
    """Masses at real positions inside the grid, each shared bilinearly by the four pixels around it.

    Args:
        event: image that each mass belongs to (mass,).
        row, column, mass: (mass,).
        shape: of the result (event, row, column).
    """
    events, rows, columns = shape
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    down, right = row - top, column - left
    out = np.zeros(events * rows * columns)
    for i, share_down in ((top, 1 - down), (np.minimum(top + 1, rows - 1), down)):
        for j, share_right in ((left, 1 - right), (np.minimum(left + 1, columns - 1), right)):
            out += np.bincount((event * rows + i) * columns + j, mass * share_down * share_right, out.size)
    return out.reshape(shape)
