"""A stranger's packages: wheels installed, used, uninstalled, back again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medusa_core.testing.fakes import fake_image

FAST = ("--limit", "6", "--size", "64x64", "--steps", "3", "--batch", "2", "--views", "1")
ROOMS = "rooms:64x64"
HEADS = {"sobel": "medusa-sobel", "gravity": "medusa-gravity", "segments": "medusa-voc"}
"""Head → the plugin it cannot do without."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def heads_on_disk(model: Path) -> dict[str, str]:
    """Head → hash of all its files."""
    result = {}
    for head in sorted((model / "heads").iterdir()):
        digest = hashlib.sha256()
        for file in sorted(path for path in head.rglob("*") if path.is_file()):
            digest.update(file.relative_to(head).as_posix().encode() + file.read_bytes())
        result[head.name] = digest.hexdigest()
    return result


def values(fresh: Any, *heads: str, after: Sequence[Sequence[object]] = ()) -> dict[str, str]:
    """Head → hash of what it predicts for one picture, bit for bit, after some commands."""
    out = fresh.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    predict = ("predict", "picture.png", "--tasks", ",".join(heads), "--raw", "--out", out)
    fresh.together(*after, predict)
    return {h: hashlib.sha256((out / f"picture.{h}.npy").read_bytes()).hexdigest() for h in heads}


def write_voc(root: Path) -> None:
    """Three images in the layout of Pascal VOC."""
    import numpy as np
    from PIL import Image

    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    for index in range(3):
        picture = fake_image((64, 64), index)
        Image.fromarray(picture).save(root / f"JPEGImages/{index}.jpg")
        classes = (picture[..., 0] > 128).astype(np.uint8) * 15
        Image.fromarray(classes).save(root / f"SegmentationClass/{index}.png")
    for split in ("train", "val"):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("0\n1\n2\n")


def test_the_life_of_three_plugins(fresh: Any) -> None:
    from PIL import Image

    model = fresh.folder / "medusa-model"
    Image.fromarray(fake_image((60, 80))).save(fresh.folder / "picture.png")
    write_voc(fresh.folder / "voc")

    # Alone, the host knows its own tasks only.
    names = [row["name"] for row in fresh.document("tasks")["tasks"]]
    assert not set(names) & {"sobel", "gravity"}
    place = fresh.run("-c", "import medusa_core; print(medusa_core.__file__)").stdout
    assert str(fresh.folder) in place

    # Each wheel adds what it brings; nothing is configured.
    for name in HEADS.values():
        fresh.install(name)
    listed = fresh.document("plugins", "list")["plugins"]
    versions = {row["distribution"]: row["version"] for row in listed}
    assert {name: versions[name] for name in HEADS.values()} == dict.fromkeys(
        HEADS.values(), "0.1.0"
    )

    segments = ("add-task", "semseg", "--name", "segments", "--data", "voc:voc")
    fresh.together(
        ("init", "--backbone", "test_resnet", "--from-scratch"),
        ("add-task", "depth", "--data", ROOMS, *FAST),
        ("add-task", "sobel,gravity", "--data", ROOMS, *FAST),
        (*segments, "--head", "upernet", "--set", "head.width=8", *FAST),
    )
    everything = ("depth", *HEADS)
    before = heads_on_disk(model)
    assert set(before) == set(everything)
    data = ("--data", ROOMS, "--data", "segments=voc:voc", "--limit", "3")
    scores = fresh.document("eval", *data)["heads"]
    assert set(scores) == set(everything)
    predicted = values(fresh, *everything)
    assert heads_on_disk(model) == before

    # A head that is removed takes nothing with it, and comes back the same.
    removal = ("remove-task", "sobel", "--yes")
    left = values(fresh, "depth", "gravity", after=[removal])
    assert left == {n: predicted[n] for n in ("depth", "gravity")}
    assert heads_on_disk(model) == {n: d for n, d in before.items() if n != "sobel"}
    addition = ("add-task", "sobel", "--data", ROOMS, *FAST)
    assert values(fresh, *everything, after=[addition]) == predicted
    before = heads_on_disk(model)

    # Uninstalled: orphans with the line that brings them back; the others as before.
    for count, (head, distribution) in enumerate(HEADS.items(), start=1):
        fresh.pip("uninstall", "--yes", distribution)
        done = fresh.medusa("list")
        assert f"pip install {distribution}==0.1.0" in done.stdout + done.stderr
        asked = fresh.medusa("predict", "picture.png", "--tasks", head, code=3)
        assert f"pip install '{distribution}==0.1.0'" in asked.stderr
        others = [n for n in everything if n not in list(HEADS)[:count]]
        assert values(fresh, *others) == {n: predicted[n] for n in others}
        assert heads_on_disk(model) == before
    assert fresh.document("verify", code=0)["ok"]

    # An orphan can be removed; what is installed again works again, bit for bit.
    fresh.medusa("remove-task", "sobel", "--yes")
    for name in HEADS.values():
        fresh.install(name)
    remaining = [name for name in everything if name != "sobel"]
    assert values(fresh, *remaining) == {name: predicted[name] for name in remaining}
    again = fresh.document("eval", "--tasks", ",".join(remaining), *data)["heads"]
    assert {n: s["metrics"] for n, s in again.items()} == {
        n: scores[n]["metrics"] for n in remaining
    }
