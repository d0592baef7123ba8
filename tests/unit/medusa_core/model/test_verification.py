"""`verify`: files against their hashes, and what the heads compute against their probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor

from medusa_core.errors import StoreError
from medusa_core.heads.medusa import MedusaHead
from medusa_core.model import MedusaModel, open_model
from medusa_core.store.commit import NewHead, commit_head

from .conftest import HEADS, MakeHead, orphaned, without_tasks


def _kinds(report: dict[str, object]) -> set[str]:
    problems = report["problems"]
    assert isinstance(problems, list)
    return {problem["kind"] for problem in problems}


def damage(path: Path) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_sound_folder_verifies(model: MedusaModel) -> None:
    report = model.verify()
    assert report["ok"] is True
    assert report["problems"] == []
    assert report["probes"] == dict.fromkeys(HEADS, "equal")


def test_verify_reports_a_damaged_head(model: MedusaModel) -> None:
    damage(next((model.path / "heads" / "depth").glob("*/head.safetensors")))
    report = model.verify()
    assert report["ok"] is False
    assert "hash" in _kinds(report)
    assert report["probes"] == {"depth": "not replayed", "normals": "equal", "semseg": "equal"}


def test_verify_reports_a_damaged_backbone(model: MedusaModel) -> None:
    damage(model.path / "backbone.safetensors")
    report = model.verify()
    assert report["ok"] is False
    assert "hash" in _kinds(report)
    assert report["probes"] == dict.fromkeys(HEADS, "not replayed")


def test_verify_reports_another_fingerprint(model: MedusaModel) -> None:
    """The mean colour is part of the fingerprint: an edited record does not go unnoticed."""
    path = model.path / "model.json"
    mean = model.record.mean[0]
    path.write_text(path.read_text().replace(str(mean), str(mean + 0.001), 1))
    report = model.verify()
    assert report["ok"] is False
    assert "fingerprint" in _kinds(report)


def test_verify_reports_an_output_that_changed(
    model: MedusaModel, untrained_head: MakeHead
) -> None:
    """Whole files, but a head that does not compute what it did when it was committed."""
    head = untrained_head(model.path, "depth", seed=5)
    lying = head.manifest.model_copy(update={"probe": model.heads["depth"].probe})
    commit_head(
        model.path,
        "lying",
        NewHead(lying, head.weights),
        expect_fingerprint=model.record.fingerprint,
    )
    report = model.verify()
    assert report["ok"] is False
    assert _kinds(report) == {"probe"}
    assert report["probes"] == {**dict.fromkeys(HEADS, "equal"), "lying": "different"}


def test_verify_goes_on_after_a_head_that_fails(
    model: MedusaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a plugin's newer version may: its head is named, the others are replayed."""
    forward, runs = MedusaHead.forward, iter(HEADS)

    def fragile(self: MedusaHead, features: Sequence[Tensor]) -> Tensor:
        if next(runs) == "normals":
            raise ZeroDivisionError("in a newer version")
        return forward(self, features)

    monkeypatch.setattr(MedusaHead, "forward", fragile)
    report = model.verify()
    assert report["ok"] is False
    assert report["probes"] == {**dict.fromkeys(HEADS, "equal"), "normals": "not replayed"}
    [problem] = report["problems"]
    assert (problem["path"], problem["kind"]) == ("normals", "probe")
    assert "failed in forward of MedusaHead: ZeroDivisionError" in problem["message"]


def test_verify_replays_what_it_can(path: Path) -> None:
    model = orphaned(path, host=without_tasks())
    report = model.verify()
    assert report["ok"] is True
    assert report["probes"] == dict.fromkeys(HEADS, "not replayed")


def test_verify_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no model folder"):
        open_model(tmp_path / "none")
