from pathlib import Path

import numpy as np
import pytest
from medusa_voc import plugin
from medusa_voc.dataset import Voc
from medusa_voc.labels import IGNORED, NAMES, colour_of, read_labels
from PIL import Image

from medusa_core.errors import DataError, MedusaError, UnknownNameError, UsageError
from medusa_core.testing import check_dataset, head_checks, plugin_host
from medusa_core.testing.fakes import fake_image

SIZE = (40, 56)


def classes(seed: int, count: int) -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    numbers = ((x // 8 + y // 10 + seed) % count).astype(np.uint8)
    numbers[:4, :4] = IGNORED
    return numbers


def write(root: Path, count: int = 21, colours: bool = False) -> Path:
    """A data set of four images, of which the last has no class map."""
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    palette = [channel for n in range(256) for channel in colour_of(n)]
    for index in range(4):
        Image.fromarray(fake_image(SIZE, index)).save(root / f"JPEGImages/im{index}.jpg")
        if index == 3:
            continue
        numbers = Image.fromarray(classes(index, count), mode="P")
        numbers.putpalette(palette)
        if colours:
            numbers = numbers.convert("RGB")
        numbers.save(root / f"SegmentationClass/im{index}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text("im0\nim1\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("im2\nim3\n")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "VOC2012")


@head_checks(plugin)
def test_the_head_keeps_the_contract(check):
    check()


@head_checks(plugin, settings={"width": 8, "bins": []})
def test_the_head_without_pooling_keeps_the_contract(check):
    check()


def test_the_data_set_keeps_the_contract(root):
    check_dataset(plugin, location=str(root))


def test_the_palette_is_that_of_voc():
    assert [colour_of(n) for n in (0, 1, 2, 15, 20, 255)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (192, 128, 128),
        (0, 64, 128),
        (224, 224, 192),
    ]
    assert len({colour_of(n) for n in range(256)}) == 256


def test_numbers_and_colours_mean_the_same(tmp_path, root):
    coloured = Voc(str(write(tmp_path / "coloured", colours=True)), "train")
    plain = Voc(str(root), "train")
    for index in range(2):
        target = plain.load(index).targets["semseg"]
        assert np.array_equal(target, classes(index, 21))
        assert np.array_equal(coloured.load(index).targets["semseg"], target)


def test_an_image_without_a_map_lacks_the_target(root):
    assert Voc(str(root), "val").load(1).targets == {}


def test_a_devkit_with_one_year_is_opened(tmp_path):
    write(tmp_path / "VOCdevkit" / "VOC2007")
    assert len(Voc(str(tmp_path / "VOCdevkit"), "train")) == 2
    write(tmp_path / "VOCdevkit" / "VOC2012")
    with pytest.raises(DataError, match="holds 2 data sets"):
        Voc(str(tmp_path / "VOCdevkit"), "train")


def test_classes_of_an_export_are_read(tmp_path):
    root = write(tmp_path / "export", count=3, colours=True)
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,0,0::\nsky:0,128,0::\n"
    (root / "labelmap.txt").write_text(text + "ignored:224,224,192::\n")
    dataset = Voc(str(root), "train")
    assert dataset.labels.names == ("background", "road", "sky")
    assert np.array_equal(dataset.load(0).targets["semseg"], classes(0, 3))
    check_dataset(plugin, location=str(root))


@pytest.mark.parametrize("colours", [False, True])
def test_what_is_void_does_not_count_and_moves_no_class(tmp_path, colours):
    root = write(tmp_path / "export", count=3, colours=colours)
    (root / "labelmap.txt").write_text("background:0,0,0::\nvoid:128,0,0::\nsky:0,128,0::\n")
    dataset = Voc(str(root), "train")
    assert dataset.labels.names == ("background", "sky")
    expected = np.array([0, IGNORED, 1])[np.minimum(before := classes(0, 3), 2)]
    expected[before == IGNORED] = IGNORED
    assert np.array_equal(dataset.load(0).targets["semseg"], expected)


@pytest.mark.parametrize(
    "text",
    ["road 1 2 3", "road:1,2::", "a:1,2,3::\na:3,2,1::", "a:1,2,3::\nb:1,2,3::", "", "a:1,2,999::"],
)
def test_a_labelmap_that_makes_no_sense_is_refused(tmp_path, text):
    (tmp_path / "labelmap.txt").write_text(text)
    with pytest.raises(DataError, match=r"labelmap\.txt"):
        read_labels(tmp_path / "labelmap.txt")


def test_without_a_labelmap_classes_are_those_of_voc(tmp_path):
    schema = read_labels(tmp_path / "labelmap.txt").labels
    assert schema.names == NAMES
    assert len(NAMES) == 21


def test_what_is_wrong_is_said(root):
    with pytest.raises(UsageError, match="needs a path"):
        Voc(None, "train")
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        Voc(str(root), "trian")
    with pytest.raises(DataError, match="there is no ImageSets"):
        Voc(str(root / "JPEGImages"), "train")
    Image.fromarray(np.full(SIZE, 77, np.uint8)).save(root / "SegmentationClass/im0.png")
    with pytest.raises(DataError, match="77 stands for none of 21 classes"):
        Voc(str(root), "train").load(0)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "SegmentationClass/im0.png")
    with pytest.raises(DataError, match="but its image is"):
        Voc(str(root), "train").load(0)
    for line in ("../secret", "/etc/passwd"):
        (root / "ImageSets/Segmentation/train.txt").write_text(line)
        with pytest.raises(MedusaError, match="leaves the folder"):
            Voc(str(root), "train")


def test_the_plugin_loads_on_its_own():
    host = plugin_host(plugin)
    assert "voc" in host.datasets
    assert "upernet" in host.heads
