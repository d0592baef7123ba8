"""What all tests share: an environment of their own, and model folders that need no training."""

import hashlib
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from medusa_core.api import HeadRef, LabelSchema
from medusa_core.plugin_host import default_host
from medusa_core.plugin_host.host import Host
from medusa_core.store.commit import NewHead, commit_head, create
from medusa_core.store.manifest import BackboneRecord, HeadManifest, Owner, Probe
from medusa_core.testing.fixtures import medusa_cli, medusa_environment

__all__ = ["medusa_cli", "medusa_environment"]  # fixtures

WEIGHTS = b"not tensors: nothing here reads them"
FINGERPRINT = "f" * 64
TINY_BACKBONE = "test_resnet"
LABELS = LabelSchema(names=("wall", "floor", "chair", "lamp"))

# For workers and the processes that tests start: there is a worker a core, and threads that take
# turns on one are far slower than one thread.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def isolated_environment(medusa_environment: Path) -> None:
    """Every test has an environment of its own."""


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C works, even where the tests run in the background of a shell, which ignores it.

    In every test anew: what some library leaves as the handler may end the whole process.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are slower on several threads, and their number may change the last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def fresh_host() -> Iterator[None]:
    """Plugins are found anew by every test."""
    yield
    default_host.cache_clear()


BAD_PLUGINS = Path(__file__).parent / "fixtures" / "bad_plugins"


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Puts a distribution with one plugin on the path of this process and of those it starts.

    Called with the source of its module, or the name of a file of fixtures/bad_plugins (those in
    `loads` can be loaded); returns the name of the plugin, `medusa-<file>` where none is given.
    """
    site, modules = tmp_path / "site", []
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def install(
        source: str,
        name: str | None = None,
        *,
        dist: str | None = None,
        version: str = "1.0",
        requires: Sequence[str] = (),
    ) -> str:
        [file] = BAD_PLUGINS.rglob(f"{source}.*") if source.isidentifier() else [None]
        name = name or f"medusa-{source.replace('_', '-')}"
        dist = dist or name
        module = f"{dist}_{name}_plugin".replace("-", "_")
        text = file.read_text(encoding="utf-8") if file else source
        (site / f"{module}.py").write_text(text.replace("MODULE", module), encoding="utf-8")
        info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        metadata = ["Metadata-Version: 2.1", f"Name: {dist}", f"Version: {version}"]
        metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join([*metadata, ""]), encoding="utf-8")
        points = f"[medusa.plugins]\n{name} = {module}\n"
        (info / "entry_points.txt").write_text(points, encoding="utf-8")
        modules.append(module)
        importlib.invalidate_caches()
        default_host.cache_clear()
        return name

    yield install
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def make_head() -> Callable[..., NewHead]:
    """Makes a head to put into `make_folder`; keywords replace fields of its manifest."""

    def make(**changes: Any) -> NewHead:
        owner = Owner(distribution="medusa-good", version="0.2")
        fields = {
            "task": "sharpness",
            "head": HeadRef(name="slim"),
            "owner": owner,
            "head_owner": owner,
            "api_version": "1.0",
            "size": (64, 96),
            "fingerprint": FINGERPRINT,
            "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
            "params": 12_300,
            "gmacs": 0.25,
            "metrics": {"other": 9.0, "mae": 0.125},
            "probe": Probe(
                shape=(1, 1, 1, 1), values="AAAAAA==", torch="2", cpu_capability="X", device="cpu"
            ),
            "provenance": {"data": ["photos"]},
        }
        return NewHead(HeadManifest(**{**fields, **changes}), WEIGHTS)

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder with the given heads that can be listed, not run."""

    def make(**heads: NewHead) -> Path:
        backbone = BackboneRecord(
            name="tiny",
            out_indices=(1, 2),
            channels=(8, 16),
            strides=(4, 8),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
            fingerprint=FINGERPRINT,
            params=3_860_720,
            gmacs=10.0,
        )
        create(tmp_path / "model", backbone, WEIGHTS, heads)
        return tmp_path / "model"

    return make


@pytest.fixture
def untrained_head() -> Callable[..., NewHead]:
    """Makes a head for the backbone of a model folder: random weights, a true record."""
    return _untrained_head


@pytest.fixture(scope="session")
def model_templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Model folders that run, each made once. Do not change them: `make_model` copies them."""
    made: dict[object, Path] = {}

    def get(heads: Mapping[str, str], seed: int) -> Path:
        from medusa_core.workflows.init import init

        key = (*heads.items(), seed)
        if key not in made:
            path = tmp_path_factory.mktemp("template") / "model"
            init(path, backbone=TINY_BACKBONE, from_scratch=True, seed=seed)
            for index, (name, task) in enumerate(heads.items()):
                head = _untrained_head(path, task, seed=index)
                commit_head(path, name, head, expect_fingerprint=head.manifest.fingerprint)
            made[key] = path
        return made[key]

    return get


@pytest.fixture
def make_model(tmp_path: Path, model_templates: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a model folder that runs: tiny backbone, untrained heads (tasks, or name=task)."""

    def make(*tasks: str, folder: str = "model", seed: int = 0, **named: str) -> Path:
        template = model_templates({**{task: task for task in tasks}, **named}, seed)
        return Path(shutil.copytree(template, tmp_path / folder))

    return make


def _untrained_head(
    model: Path,
    task: str,
    head: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    host: Host | None = None,
) -> NewHead:
    import torch

    from medusa_core.engine.outcome import Outcome
    from medusa_core.model import probe
    from medusa_core.model.assembly import complete_head_ref, make_head, make_task
    from medusa_core.model.opening import restore_backbone
    from medusa_core.store.folder import ModelFolder
    from medusa_core.workflows.training import finishing

    host = host or default_host()
    with ModelFolder.open(model) as folder:
        record = folder.manifest.backbone
        backbone = restore_backbone(record, folder.read_backbone())
    spec = host.tasks.get(task)
    if settings is None:
        settings = {} if head else {"width": 4, "fused_width": 8}
    ref = complete_head_ref(host, spec, head, settings)
    bound = make_task(host, spec, LABELS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make_head(host, ref, backbone.info, bound.out_channels)
        for key, tensor in module.state_dict().items():  # so that losing statistics shows
            if key.endswith("running_mean"):
                tensor.copy_(torch.randn_like(tensor) * 0.1)
            if key.endswith("running_var"):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return finishing.new_head(
        host,
        bound,
        ref,
        module,
        backbone,
        record.fingerprint,
        probe.probe_features(backbone),
        (64, 96),
        Outcome(best={spec.primary_metric.name: 0.5}),
        {"data": ["none"]},
    )


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video of 64×48: frame i is of grey 20 i, with a bright corner at the top left."""

    def write(name: str, frames: int, rotation: int = 0, faststart: bool = False) -> Path:
        av = pytest.importorskip("av")
        import numpy as np

        path = tmp_path / name
        options = {"movflags": "faststart"} if faststart else {}
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream("mjpeg" if path.suffix == ".avi" else "mpeg4", rate=10)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if path.suffix == ".avi" else "yuv420p"
            if rotation:
                stream.set_display_rotation(rotation)
            for index in range(frames):
                image = np.full((48, 64, 3), 20 * index, np.uint8)
                image[:16, :16] = 255
                for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return path

    return write
