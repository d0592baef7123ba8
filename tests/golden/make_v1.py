"""Write the golden files of format 1: `python -m tests.golden.make_v1`, then copy the digest.

The same code, torch and kind of machine give the same files. They are written anew while 0.1.0 is
not released and a change of an architecture needs it; afterwards never.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import torch

from medusa_core.store import commit
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.head_files import export_head
from medusa_core.workflows.init import init

ROOT = Path(__file__).parent / "v1"
OPTIONS = {"data": ["rooms:64x64"], "steps": 4, "batch": 2, "limit": 6, "views": 1}
SMALL = {"width": 4, "fused_width": 4}


def write(root: Path) -> None:
    """A model folder with a head of each of two architectures, and the second as a head file."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder) / "model"
        init(trained, backbone="test_efficientnet", from_scratch=True)
        add_task("depth", model=trained, head="linear", **OPTIONS)
        add_task("semseg", model=trained, name="rooms_classes", settings=SMALL, **OPTIONS)
        with ModelFolder.open(trained) as found:
            heads = {name: _timeless(found, name) for name in found.heads}
            backbone = found.manifest.backbone
            commit.create(root / "model", backbone, found.read_backbone_bytes(), heads)
    (root / "model" / ".lock").unlink(missing_ok=True)
    export_head("rooms_classes", root / "rooms_classes.medusa", model=root / "model")


def _timeless(folder: ModelFolder, name: str) -> NewHead:
    """A head whose record does not say how long its training took."""
    stored = folder.heads[name]
    provenance = {**stored.provenance, "cpu_seconds": 0.0}
    manifest = stored.model_copy(update={"provenance": provenance})
    return NewHead(manifest, folder.read_head_bytes(name))


def digest(root: Path) -> str:
    """Hash of the names and contents of all golden files of a format."""
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix in (".json", ".safetensors", ".medusa"):
            found.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()


def main() -> None:
    """Put new files in the place of the old ones."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        shutil.rmtree(ROOT / "model")
        for path in Path(folder).iterdir():
            (shutil.copytree if path.is_dir() else shutil.copy)(path, ROOT / path.name)
    print(digest(ROOT))


if __name__ == "__main__":
    main()
