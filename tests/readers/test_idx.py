"""idx files: what is written comes back; whatever is not one is one clear error."""

import gzip
import struct

import numpy as np
import pytest

from pullback.readers.idx import IdxError, read_idx


def idx(values) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


IMAGES = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_images_come_back(tmp_path, pack):
    (tmp_path / "images").write_bytes(pack(idx(IMAGES)))
    np.testing.assert_array_equal(read_idx(tmp_path / "images", 3), IMAGES)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (idx(IMAGES)[:-1], "75 bytes, wanted 76; the file is cut short"),
        (idx(IMAGES) + b"\0", "77 bytes, wanted 76"),
        (idx(IMAGES)[:9], "9 bytes, wanted a whole header"),
        (gzip.compress(idx(IMAGES))[:-10], "cannot be read .*ended before"),
        (b"\x89PNG and so on", "is no idx file .begins with 89 50 4e 47"),
        (b"", "is no idx file .begins with nothing"),
        (idx(IMAGES[:, 0, 0]), "with 1 axes, wanted unsigned bytes .type 8. with 3; are `images` and `labels` swapped"),
        (bytes([0, 0, 13, 3]) + bytes(12), "holds type 13"),
    ],
    ids=["cut", "too-long", "header-cut", "packed-and-cut", "foreign", "empty", "labels", "type"],
)
def test_what_is_no_whole_idx_file_is_one_error(tmp_path, content, said):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(IdxError, match=f"images: .*{said}"):
        read_idx(tmp_path / "images", 3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(IdxError, match=r"nowhere: cannot be read \(No such file"):
        read_idx(tmp_path / "nowhere", 1)
