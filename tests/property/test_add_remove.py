"""Adding, removing and renaming heads changes no other head and not the backbone. Ever.

Hypothesis makes up sequences of changes, through the real workflows, of faults in the middle of
them, and of readers that stay open meanwhile. Everything that must hold is checked after every
step. Then the same with a guard taken away: an invariant that cannot fail proves nothing.
"""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from torch import nn

from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.errors import FingerprintError, StoreError
from medusa_core.store import commit, files, head_file
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.verify import verify
from tests.property.changes import Changes, Template, make_template, opened


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def machine(template: Template, monkeypatch, tmp_path: Path) -> Iterator[type[Changes]]:
    """The machine over a disk in memory, where there is one; syncs are simulated."""
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: None)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield type("Changes", (Changes,), {"template": template})


def run(machine: type[Changes], examples: int, steps: int) -> None:
    """So many sequences of at most so many steps, the same each time; no shrinking."""
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=profile)


def test_no_change_touches_anything_else(machine):
    run(machine, examples=4, steps=8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(4))
def test_no_change_touches_anything_else_for_long(machine, part):
    """Twenty sequences, in parts that run beside each other."""
    run(hypothesis.seed(part)(machine), examples=5, steps=30)


@pytest.mark.slow
def test_every_step_can_be_made(machine):
    """One of each, in an order in which each has something to do; then a whole verification."""
    one = machine()
    one.train("alpha", "edges", linear=False, seed=1)
    one.import_("beta", 1)
    one.open()
    one.export(0)
    one.rename(0, "train", through_model=True)
    one.import_exported("alpha", 0)
    for kind in ("error", "full", "read-only", "read", "crash", "power failure"):
        for change in ("import", "export", "remove", "rename"):
            one.fault(kind, 7, change, 1, "float", 0.5, seed=0)
            one.everything_is_as_it_was()
    one.graft("alpha", honest=True)
    one.import_("beta", 0)
    one.predict({0, 1})
    one.everything_is_as_it_was()
    report = verify(one.path)
    assert report["ok"], report["problems"]
    assert set(report["probes"].values()) == {"equal"}
    one.remove(0, through_model=False)
    one.everything_is_as_it_was()
    one.teardown()


def power_failures(machine: type[Changes], seeds: int) -> None:
    """The power fails at each call of a removal in turn; some of what was not synced is lost."""
    one = machine()
    for seed, at in itertools.product(range(seeds), range(1, 30)):
        if not one.known:
            one.import_("alpha", 0)
        one.fault("power failure", at, "remove", 0, "alpha", 0.5, seed=seed)
        one.everything_is_as_it_was()
    one.teardown()


def test_power_failures_at_every_call(machine):
    power_failures(machine, seeds=2)


# -- a machine that cannot fail proves nothing ----------------------------------------------------


def test_without_the_batchnorm_freeze_it_would_be_noticed(machine, monkeypatch):
    """Whatever calls `.train()` lets the statistics drift, and the outputs with them."""
    monkeypatch.setattr(Backbone, "train", nn.Module.train)
    with pytest.raises(AssertionError):
        run(machine, examples=2, steps=3)


def test_without_the_fingerprint_check_of_a_commit_it_would_be_noticed(machine, monkeypatch):
    monkeypatch.setattr(commit, "_check_fingerprint", lambda *_: None)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        run(machine, examples=20, steps=20)


def test_without_the_fingerprint_check_of_a_read_it_would_be_noticed(machine, monkeypatch):
    """A head of another backbone that got into the folder some other way is not read."""
    one = machine()
    found = head_file.read(one.template.stranger)
    head = NewHead(found.manifest, found.weights)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "_check_fingerprint", lambda *_: None)
        commit.commit_head(one.path, "alpha", head, expect_fingerprint=head.manifest.fingerprint)
    with pytest.raises(FingerprintError):
        opened(one.path)

    def careless(folder: ModelFolder, name: str) -> bytes:
        return folder._read(folder._weights[name], folder._weights_path(name), 1 << 30)

    monkeypatch.setattr(ModelFolder, "read_head_bytes", careless)
    opened(one.path)
    with pytest.raises(AssertionError):
        one.everything_is_as_it_was()
    one.teardown()


@pytest.mark.parametrize("guard", ["sync before the rename", "sync of folders"])
def test_without_syncs_it_would_be_noticed(machine, monkeypatch, guard):
    def careless(path: Path, data: bytes) -> None:
        descriptor = files.os.open(files.temporary(path), files._CREATE, 0o666)
        rest = memoryview(data)
        while rest:
            rest = rest[files.os.write(descriptor, rest) :]
        files.os.replace(files.temporary(path), path)
        files.os.fsync(descriptor)
        files.os.close(descriptor)

    if guard == "sync of folders":
        monkeypatch.setattr(files, "sync_folder", lambda path: None)
    else:
        monkeypatch.setattr(files, "write", careless)
    with pytest.raises((AssertionError, StoreError, FileNotFoundError)):
        power_failures(machine, seeds=10)
