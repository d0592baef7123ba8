"""The demo and the bundled backbone, with a few steps; `.ci/run` runs the real one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load

from medusa_core.backbones.fingerprint import fingerprint
from medusa_core.cli import main
from medusa_core.model.assembly import description_of
from medusa_core.workflows import demo as demo_workflow
from medusa_core.workflows.bundled import bundled_backbone, model_card

MAX_BYTES = 8_000_000


@pytest.fixture
def short_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("TRAIN_IMAGES", 24),
        ("VAL_IMAGES", 4),
        ("STEPS", 3),
    ):
        monkeypatch.setattr(demo_workflow, name, value)


def test_bundled_backbone_is_what_its_record_says() -> None:
    record, weights = bundled_backbone()
    assert len(weights) <= MAX_BYTES
    assert hashlib.sha256(weights).hexdigest() == record.weights_sha256
    assert fingerprint(description_of(record).identity(), load(weights)) == record.fingerprint


def test_model_card_belongs_to_the_bundled_backbone() -> None:
    record, _ = bundled_backbone()
    card = model_card()
    assert card["fingerprint"] == record.fingerprint
    assert card["trained_on"] == record.provenance["trained_on"]
    assert len(card["held_out"]) >= 2
    assert not set(card["held_out"]) & set(card["trained_on"])
    assert set(card["demo_tasks"]) <= set(card["held_out"])
    assert set(card["unseen_scores"]) == set(card["held_out"])


@pytest.mark.usefixtures("short_demo")
def test_demo_adds_scores_removes_and_proves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "demo"
    assert main(["--quiet", "demo", "-m", str(model), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    first, second = model_card()["demo_tasks"]
    assert result["ok"]
    assert result["removed"] == second
    assert set(result["digests_before"]) == {"backbone", first, second}
    assert set(result["digests_after"]) == {"backbone", first}
    for row in result["scores"].values():
        assert row["primary"] in row["medusa"]
        assert set(row["medusa"]) == set(row["linear"]) == set(row["constant"])
    for picture in result["pictures"]:
        assert np.asarray(Image.open(picture)).std() > 5
    assert main(["verify", "-m", str(model)]) == 0
    out = capsys.readouterr().out
    assert f"{first}: equal" in out
    assert main(["--quiet", "demo", "-m", str(model)]) == 1, "a folder in use is refused"
