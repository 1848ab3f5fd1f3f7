"""Gray images from folders, NumPy and idx files; the imaging problem refuses what is no image."""

import struct

import numpy as np
import pytest

from pullback.problems.imaging.problem import Imaging, ImagingSimulator
from pullback.readers.pictures import PictureError, gray, open_images
from pullback.study import StudyError, load_study

io = pytest.importorskip("skimage.io")

PROBLEM = Imaging(ImagingSimulator.model_validate({"size": 12}))


def drawn(path, n=20, **params):
    params = {"source": "files", "files": str(path), **params}
    return PROBLEM.sample_prior(np.random.default_rng(0), n, params)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    for i, name in enumerate(("a.png", "b.png", "c.jpg", "d.npy", "e.npy", "notes.txt")):
        image = np.full((14 + i, 20), 40 * i + 20, np.uint8)
        if name.endswith("npy"):
            np.save(tmp_path / name, image if i == 3 else rng.random((13, 13)))
        elif name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            io.imsave(tmp_path / name, image, check_contrast=False)
    return tmp_path


def test_a_folder_of_images(folder):
    images = open_images(folder)
    assert len(images) == 5
    np.testing.assert_array_equal(images[1], np.full((15, 20), 60 / 255))
    # JPEG keeps a constant image to a unit or so.
    np.testing.assert_allclose(images[2], 100 / 255, atol=2 / 255)
    whole = drawn(folder)
    assert whole.shape == (20, 12, 12)
    assert len(np.unique(whole[:, 0, 0].round(2))) > 3
    patches = drawn(folder, cut="patches", images="train")
    assert set(np.unique(patches.round(2))) == set(np.float32([0.08, 0.24, 0.39]))


def test_colours_and_types_become_gray_in_0_to_1(tmp_path):
    rgb = np.zeros((12, 12, 4), np.uint8)
    rgb[..., 0], rgb[..., 3] = 255, 10
    # Luminance of pure red after ITU-R BT.709; opacity is ignored.
    np.testing.assert_allclose(gray(rgb, "red"), 0.2125, atol=1e-12)
    np.testing.assert_allclose(gray(np.full((3, 3), 65535, np.uint16), "deep"), 1.0)
    np.testing.assert_allclose(gray(np.eye(3, dtype=bool), "mask"), np.eye(3))
    io.imsave(tmp_path / "deep.png", np.full((12, 12), 32768, np.uint16), check_contrast=False)
    np.testing.assert_allclose(open_images(tmp_path)[0], 32768 / 65535)


def test_files_of_many_images(tmp_path):
    images = np.random.default_rng(2).integers(0, 256, (6, 12, 12), np.uint8)
    np.save(tmp_path / "stack.npy", images)
    header = struct.pack(">HBB3I", 0, 8, 3, *images.shape)
    (tmp_path / "idx").write_bytes(header + images.tobytes())
    for name in ("stack.npy", "idx"):
        found = open_images(tmp_path / name)
        assert len(found) == 6
        np.testing.assert_array_equal(found[4], images[4] / 255)
        held_out = drawn(tmp_path / name, images="held-out")
        np.testing.assert_array_equal(held_out, np.broadcast_to((images[4] / 255).astype(np.float32), (20, 12, 12)))


def saved(path, image):
    np.save(path / "a.npy", image)
    return path


@pytest.mark.parametrize(
    ("make", "params", "says"),
    [
        (lambda p: p / "nowhere", {}, "there is no such folder or file"),
        (lambda p: p, {}, "the folder holds no images"),
        (lambda p: saved(p, np.full((12, 12), 1.5)), {}, r"values from 1.5 to 1.5, wanted \[0, 1\]"),
        (lambda p: saved(p, np.full((12, 12), np.nan)), {}, r"values from nan to nan, wanted \[0, 1\]"),
        (lambda p: saved(p, np.full((12, 12), 7)), {}, "values of type int64, wanted uint8, uint16, or floats"),
        (lambda p: saved(p, np.zeros((12, 12, 2))), {}, r"shape \(12, 12, 2\)"),
        (lambda p: saved(p, np.zeros((11, 40))), {"cut": "patches"}, "11 x 40 pixels, smaller than a patch of 12 x 12"),
        (
            lambda p: saved(p, np.zeros((40, 40))),
            {"cut": "patches", "shrink": 4},
            "40 x 40 pixels, shrunk by 4, smaller",
        ),
        (lambda p: saved(p, np.zeros((12, 12))), {"images": "train"}, "1 images, wanted at least 5"),
        (lambda p: saved(p, np.zeros((12, 12))) / "a.npy", {}, r"shape \(12, 12\), wanted \(image, row, column\)"),
        (lambda p: (p / "a.png").write_bytes(b"no image") and p, {}, "a.png: cannot be read as an image"),
        (lambda p: (p / "a.npy").write_bytes(b"no array") and p, {}, "a.npy: cannot be read as a NumPy array"),
        (lambda p: (p / "idx").write_bytes(b"\0\0\x08\x01") and p / "idx", {}, "idx: .*; or give a folder of images"),
    ],
    ids=range(13),
)
def test_what_cannot_be_an_image(tmp_path, make, params, says):
    with pytest.raises(PictureError, match=says):
        drawn(make(tmp_path), **params)


def test_an_empty_folder_is_an_error_of_the_study(tmp_path):
    study = {
        "config_version": 2,
        "study": "own",
        "problems": {
            "deblur": {
                "kind": "imaging",
                "families": {"own": {"role": "seen", "params": {"source": "files", "files": str(tmp_path)}}},
                "methods": {"random-truth": {"kind": "random-truth"}},
            }
        },
    }
    with pytest.raises(StudyError, match=r"families\.own\.params\.files: .* holds no images"):
        load_study(study)


def test_jobs_follow_the_files(folder):
    from pullback.problems.imaging.settings import ImagingParams

    files = ImagingParams(source="files", files=str(folder)).user_files()
    assert [name.rpartition("/")[2] for name in files] == ["a.png", "b.png", "c.jpg", "d.npy", "e.npy"]
    assert ImagingParams(source="digits").user_files() == []
