"""Mutated head files, manifests, data-set descriptions and images: each is taken or refused.

Refused means a MedusaError. Nothing may crash, hang, be loaded in part, need more memory than
stated, write a file, start a program or unpickle anything: an audit hook watches the interpreter.

`python -m benchmarks.reliability.fuzz --files 100000 --images 10000`
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.reliability import toy
from benchmarks.reliability.mutations import (
    mutated_bytes,
    mutated_document,
    mutated_head_file,
    mutated_json,
)
from medusa_core.data.folder import FolderDataset
from medusa_core.data.images import image_size, read_raw, read_rgb
from medusa_core.errors import MedusaError
from medusa_core.store import container, head_file
from medusa_core.store.check import check
from medusa_core.workflows.head_files import add_head

SECONDS = 20
"""An input that takes longer is a hang."""

_BACKBONES = (
    "vit_giant_patch14_224",
    "regnety_1280",
    "resnet18",
    "vgg11",
    "hrnet_w18",
    "tf_mixnet_l",
)
# what no input may make the program do; the audit hook below fails the run if one does
_FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class")


# -- the watch ----------------------------------------------------------------------------------

_watching = False
_violations: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        path, mode, flags = arguments
        if isinstance(flags, int) and flags & 0o3 and str(path) != "/dev/null":
            _violations.append(f"{event} {path} {mode}")
    elif event.startswith(_FORBIDDEN) or event in ("os.mkdir", "os.rename", "os.remove"):
        _violations.append(f"{event} {arguments}")


sys.addaudithook(_audit)


@contextmanager
def _watched() -> Iterator[None]:
    """Nothing is written or started, and it ends in time."""
    global _watching
    signal.alarm(SECONDS)
    _watching = True
    try:
        yield
    finally:
        _watching = False
        signal.alarm(0)


def _hang(number: int, frame: object) -> None:
    raise AssertionError(f"an input took more than {SECONDS} seconds")


# -- the campaign -------------------------------------------------------------------------------


def attack(
    count: int,
    chance: random.Random,
    mutate: Callable[[random.Random], None],
    use: Callable[[], None],
) -> dict[str, Any]:
    """Mutate and use so many times.

    Returns:
        How many were taken and refused, the longest time, and by how much memory grew.
    """
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _hang)
    result: Counter[str] = Counter(taken=0, refused=0)
    longest, memory, told = 0.0, _peak(), 0
    for _ in range(count):
        mutate(chance)
        started = time.perf_counter()
        try:
            with _watched():
                use()
            result["taken"] += 1
        except MedusaError as err:
            told += bool(err.message)
            result["refused"] += 1
        longest = max(longest, time.perf_counter() - started)
        assert not _violations, _violations
    assert told == result["refused"]
    figures = {"longest_ms": round(1000 * longest, 1), "grown_mb": round(_peak() - memory)}
    return {"inputs": count, **result, **figures}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def head_files(root: Path, count: int, chance: random.Random) -> dict[str, Any]:
    """Files that `add-task FILE` is given, as far as they need no network to be judged."""
    good, path = toy.export(toy.weights(chance, 500)), root / "x.medusa"

    def mutate(chance: random.Random) -> None:
        path.write_bytes(mutated_head_file(good, chance))

    def use() -> None:
        found = head_file.read(path)
        assert sha256(found.weights).hexdigest() == found.manifest.sha256

    return attack(count, chance, mutate, use)


def heads_on_a_model(model: Path, file: Path, count: int, chance: random.Random) -> dict[str, Any]:
    """The same up to the commit, on a real model: built, loaded, and run on the probe."""
    good, path = file.read_bytes(), file.with_name("y.medusa")

    def mutate(chance: random.Random) -> None:
        path.write_bytes(mutated_head_file(good, chance))

    def use() -> None:
        problems = add_head(path, model=model, name="new", dry_run=True)["problems"]
        if problems:
            raise MedusaError(problems[0])

    use_once = add_head(file, model=model, name="new", dry_run=True)
    assert not use_once["problems"], use_once
    return attack(count, chance, mutate, use)


def manifests(root: Path, count: int, chance: random.Random) -> dict[str, Any]:
    """`model.json` and `head.json` of a model folder, read and checked."""
    path = root / "model"
    toy.create(path, {"head_a": toy.weights(chance, 50), "head_b": toy.weights(chance, 50)})
    documents = {file: file.read_bytes() for file in path.rglob("*.json")}

    def mutate(chance: random.Random) -> None:
        for file, good in documents.items():
            file.write_bytes(good)
        file = chance.choice(sorted(documents))
        file.write_bytes(mutated_document(documents[file], chance))

    def use() -> None:
        check(path)
        toy.contents(path)

    return attack(count, chance, mutate, use)


def descriptions(root: Path, count: int, chance: random.Random) -> dict[str, Any]:
    """`dataset.json` and the list of ids of a folder data set, whose first sample is read."""
    path = root / "data"
    path.mkdir()
    Image.new("RGB", (8, 8)).save(path / "a.png")
    np.save(path / "a_depth.npy", np.ones((8, 8), np.float32))
    Image.new("L", (8, 8)).save(path / "a_classes.png")
    good = {
        "schema_version": 1,
        "name": "own",
        "image": "{id}.png",
        "splits": {"train": "train.txt"},
        "targets": {
            "depth": {"encoding": "linear", "path": "{id}_depth.npy", "unit": "m", "invalid": 0},
            "semseg": {"encoding": "index", "path": "{id}_classes.png", "labels": ["a", "b"]},
        },
    }
    (path / "dataset.json").write_text(json.dumps(good))
    (path / "train.txt").write_text("a\n")
    FolderDataset(str(path), "train").load(0)

    def mutate(chance: random.Random) -> None:
        text = mutated_document(json.dumps(good).encode(), chance)
        (path / "dataset.json").write_bytes(text)
        ids = b"a\n" if chance.random() < 0.8 else mutated_bytes(b"a\n../../etc/passwd\n", chance)
        (path / "train.txt").write_bytes(ids)

    def use() -> None:
        dataset = FolderDataset(str(path), "train")
        dataset.size(0)
        dataset.load(0)

    return attack(count, chance, mutate, use)


def tables(root: Path, count: int, chance: random.Random) -> dict[str, Any]:
    """Values of whole images: the table, and what `dataset.json` says about it."""
    path = root / "tables"
    path.mkdir()
    Image.new("RGB", (8, 8)).save(path / "a.png")
    (path / "train.txt").write_text("a\n")
    table = b"id,x,y,place\na,1.5,-2,hall\n" + b"".join(b"b%d,,3,yard\n" % i for i in range(50))
    good = {
        "schema_version": 1,
        "name": "own",
        "image": "{id}.png",
        "splits": {"train": "train.txt"},
        "targets": {
            "pose": {"encoding": "numbers", "table": "known.csv", "columns": ["x", "y"]},
            "scene": {
                "encoding": "class",
                "table": "known.csv",
                "column": "place",
                "labels": ["yard", "hall"],
                "swap_pairs": [[0, 1]],
            },
        },
    }

    def mutate(chance: random.Random) -> None:
        both = chance.random() < 0.5
        text = json.dumps(good).encode()
        (path / "dataset.json").write_bytes(mutated_document(text, chance) if both else text)
        (path / "known.csv").write_bytes(mutated_bytes(table, chance))

    def use() -> None:
        FolderDataset(str(path), "train").load(0)

    return attack(count, chance, mutate, use)


def models(model: Path, count: int, chance: random.Random) -> dict[str, Any]:
    """A model folder that runs: its records and weights, hashes set right, opened and used."""
    good = {file: file.read_bytes() for file in model.rglob("*") if file.is_file()}
    weights = model / "backbone.safetensors"
    picture = np.zeros((32, 48, 3), np.uint8)

    def mutate(chance: random.Random) -> None:
        for file, data in good.items():
            file.write_bytes(data)
        if chance.random() < 0.2:
            file = chance.choice(sorted(good))
            file.write_bytes(mutated_bytes(good[file], chance))
            return
        record = json.loads(good[model / "model.json"])
        if chance.random() < 0.3:
            header, values = container.split(good[weights], "it")
            try:
                data = container.join(mutated_json(header, chance), bytes(values))
            except ValueError:  # a lone surrogate, which no file can hold
                data = mutated_bytes(good[weights], chance)
            weights.write_bytes(data)
            record["backbone"]["weights_sha256"] = sha256(data).hexdigest()
        elif chance.random() < 0.2:
            record["backbone"]["name"] = chance.choice(_BACKBONES)
        else:
            record["backbone"] = mutated_json(record["backbone"], chance)
        (model / "model.json").write_text(json.dumps(record))

    def use() -> None:
        from medusa_core.model import open_model
        from medusa_core.model.execution import Execution

        opened = open_model(model, execution=Execution("plain"))
        opened.predict(picture)
        if opened.orphans:
            raise next(iter(opened.orphans.values()))

    return attack(count, chance, mutate, use)


def images(root: Path, count: int, chance: random.Random) -> dict[str, Any]:
    """Pictures and target files of every common format."""
    noise = np.random.RandomState(0)
    rgb = Image.fromarray(noise.randint(0, 256, (40, 60, 3), dtype=np.uint8))
    grey = Image.fromarray(noise.randint(0, 2**16, (40, 60)).astype(np.uint16))
    good: list[tuple[str, bytes]] = []
    for suffix, image in (
        *((s, rgb) for s in ("png", "jpeg", "webp", "gif", "bmp", "tiff", "ppm", "tga", "ico")),
        *((s, grey) for s in ("png", "tiff")),
        ("png", rgb.convert("P")),
    ):
        buffer = io.BytesIO()
        image.save(buffer, suffix)
        good.append((suffix, buffer.getvalue()))
    path = root / "image"

    def mutate(chance: random.Random) -> None:
        path.write_bytes(mutated_bytes(chance.choice(good)[1], chance))

    def use() -> None:
        taken = None
        for read in (image_size, read_rgb, read_raw):
            try:
                taken = read(path)
            except MedusaError as err:
                refusal = err
        if taken is None:
            raise refusal

    return attack(count, chance, mutate, use)


def campaign(root: Path, files: int, pictures: int, seed: int = 0) -> dict[str, Any]:
    """All but those that need a real model; so many files, a quarter of each kind."""
    chance = random.Random(seed)
    before = sorted(path.name for path in root.iterdir())
    assert not before
    return {
        "head files": head_files(root, files - 3 * (files // 4), chance),
        "manifests": manifests(root, files // 4, chance),
        "dataset.json": descriptions(root, files // 4, chance),
        "tables": tables(root, files // 4, chance),
        "images": images(root, pictures, chance),
    }


def real_model(root: Path) -> tuple[Path, Path]:
    """A tiny model folder that runs, and a head file that fits it."""
    from medusa_core.workflows.add_task import add_task
    from medusa_core.workflows.head_files import export_head
    from medusa_core.workflows.init import init

    model = root / "real"
    init(model, backbone="test_efficientnet", from_scratch=True)
    options: dict[str, Any] = {"steps": 1, "limit": 2, "views": 1, "size": (32, 32)}
    settings = {"width": 4, "fused_width": 4}
    add_task("semseg", model=model, data=["rooms:32x32"], settings=settings, **options)
    export_head("semseg", root / "semseg.medusa", model=model)
    return model, root / "semseg.medusa"


def main() -> None:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument(
        "--built", type=int, default=2_000, help="head files, and records, tried on a real model"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        figures = campaign(Path(folder), options.files, options.images, options.seed)
        model, file = real_model(Path(other))
        chance = random.Random(options.seed)
        figures["head files on a model"] = heads_on_a_model(model, file, options.built, chance)
        figures["models, opened"] = models(model, options.built, chance)
    print(json.dumps({**figures, "seconds": round(time.perf_counter() - started, 1)}, indent=2))


if __name__ == "__main__":
    main()
