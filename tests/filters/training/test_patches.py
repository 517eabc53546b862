from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from PIL import Image

from vvc_nnr.errors import InputError
from vvc_nnr.filters.training.scenes import filter_pictures, reduced_pictures, split
from vvc_nnr.sequences.images import image_files
from vvc_nnr.sequences.source import open_source, open_sources
from vvc_nnr.sequences.y4m import Y4mWriter


def save(path, picture):
    Image.fromarray(np.ascontiguousarray(picture)).save(path)
    return path


def sizes(source):
    return {name: (frame.width, frame.height) for name, frame in filter_pictures([source])}


def test_an_image_whole_and_at_half_size(tmp_path):
    source = open_source(save(tmp_path / "chelsea.png", skimage.data.chelsea()))
    pictures = dict(filter_pictures([source]))
    assert list(pictures) == [f"{source.name}_0000_x1", f"{source.name}_0000_x2"]
    whole, half = pictures.values()
    assert [(f.width, f.height) for f in (whole, half)] == [(448, 288), (224, 144)]
    (frame,) = source.frames()
    assert whole.tobytes() == frame.cropped(448, 288).tobytes()
    luma = frame.planes[0][:288, :448].astype(float).reshape(144, 2, 224, 2).mean(axis=(1, 3))
    assert np.abs(half.planes[0] - luma).max() <= 0.5


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), []),
        ((3, 200), []),
        ((127, 300), []),
        ((128, 143), [(128, 128)]),
        ((255, 255), [(240, 240)]),
        ((256, 256), [(256, 256), (128, 128)]),
        ((257, 259), [(256, 256), (128, 128)]),
    ],
)
def test_small_pictures_are_left_out(tmp_path, size, expected):
    picture = skimage.data.astronaut()[: size[1], : size[0]]
    assert list(sizes(open_source(save(tmp_path / "a.png", picture))).values()) == expected


def test_every_eighth_picture_of_a_sequence(photographs, tmp_path):
    frames = photographs(10, 160, 128)
    with Y4mWriter(tmp_path / "clip.y4m", frames[0].format(30)) as writer:
        for frame in frames:
            writer.write(frame)
    source = open_source(tmp_path / "clip.y4m")
    pictures = dict(filter_pictures([source]))
    assert list(pictures) == [f"{source.name}_0000_x1", f"{source.name}_0008_x1"]
    assert [f.tobytes() for f in pictures.values()] == [frames[0].tobytes(), frames[8].tobytes()]
    assert len(list(filter_pictures([source], every=3))) == 4


def test_10_bit_pictures_keep_their_depth(random_frame, tmp_path):
    frame = random_frame(256, 256)
    with Y4mWriter(tmp_path / "a.y4m", frame.format(30)) as writer:
        writer.write(frame)
    for _, picture in filter_pictures([open_source(tmp_path / "a.y4m")]):
        assert picture.bit_depth == 10
        assert picture.planes[0].max() > 255


def test_names_are_fit_for_folders(tmp_path):
    (tmp_path / "deep").mkdir()
    save(tmp_path / "deep" / "a b.png", skimage.data.astronaut())
    names = [name for name, _ in filter_pictures(open_sources(tmp_path / "deep"))]
    assert names
    assert not any("/" in name for name in names)


def test_reductions_of_a_folders_images(tmp_path):
    save(tmp_path / "a.png", skimage.data.chelsea())
    save(tmp_path / "b.png", skimage.data.camera()[:130, :70])
    pictures = reduced_pictures(image_files(tmp_path))
    assert [p.shape for p in pictures] == [(300 // r, 451 // r, 3) for r in (2, 3, 4, 6, 8)] + [(65, 35, 3)]
    assert all(p.dtype == np.uint8 for p in pictures)
    mean = skimage.data.chelsea()[:, :450].astype(float).reshape(150, 2, 225, 2, 3).mean(axis=(1, 3))
    assert np.abs(pictures[0] - mean).mean() < 2


def test_images_too_small_to_reduce(tmp_path):
    save(tmp_path / "a.png", skimage.data.camera()[:63, :200])
    with pytest.raises(InputError, match="at least 64 samples"):
        reduced_pictures(image_files(tmp_path))


def test_no_images_at_all():
    with pytest.raises(InputError, match="none of 0"):
        reduced_pictures([])


def named(sources, numbered):
    names = [f"{s}_{i:04d}_x{x}" for s in sources for i in (0, 8) for x in (1, 2)]
    return [f"{i:04d}_{name}" for i, name in enumerate(names)] if numbered else names


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("kind", ["kodim{:02d}", "clip_{}", "{}", "0007_scene_{}", "a_xray_{}"])
def test_all_pictures_of_a_source_fall_on_one_side(numbered, kind):
    sources = [kind.format(i) for i in range(60)]
    names = named(sources, numbered)
    training, validation = split(names)
    assert sorted(training + validation) == list(range(240))
    assert len(validation) == 8
    assert {i // 4 for i in training}.isdisjoint(i // 4 for i in validation)


def test_few_sources_still_leave_one_for_validation():
    names = named(["b", "a"], numbered=True)
    assert split(names) == ([4, 5, 6, 7], [0, 1, 2, 3])
    assert split(names, every=2) == ([4, 5, 6, 7], [0, 1, 2, 3])


@pytest.mark.parametrize("names", [[], named(["a"], numbered=True)])
def test_one_source_is_too_few(names):
    with pytest.raises(
        InputError, match=r"at least 2 sources, got [01]; pictures below 128 samples on a side are left"
    ):
        split(names)
