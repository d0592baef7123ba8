from __future__ import annotations

import re

import pytest

from medusa_core.errors import StoreError
from medusa_core.store.check import check


def found(model):
    """(kind, path below the folder without revisions) of every problem."""
    problems = check(model)
    assert all(problem.message for problem in problems)
    return sorted((p.kind, re.sub(f"^{model}/|/[0-9a-f]{{16}}", "", p.path)) for p in problems)


def file_of(model, name, file):
    return next((model / "heads" / name).glob(f"*/{file}"))


def test_a_sound_folder(model):
    (model / ".work" / "depth").mkdir(parents=True)
    assert check(model) == []


def test_every_flipped_byte_is_found(model):
    for path in [
        p for p in model.rglob("*") if p.is_file() and p.name not in ("model.json", ".lock")
    ]:
        sound = path.read_bytes()
        for position in range(0, len(sound), 5):
            path.write_bytes(
                sound[:position] + bytes([sound[position] ^ 1]) + sound[position + 1 :]
            )
            assert {p.path for p in check(model)} <= {
                str(path),
                str(path.parent / "head.safetensors"),
            }
            assert check(model)
        path.write_bytes(sound)
    assert check(model) == []


def test_missing_files(model):
    (model / "backbone.safetensors").unlink()
    file_of(model, "depth", "head.json").unlink()
    file_of(model, "normals", "head.safetensors").unlink()
    assert found(model) == [
        ("missing", "backbone.safetensors"),
        ("missing", "heads/depth/head.json"),
        ("missing", "heads/normals/head.safetensors"),
    ]


def test_a_head_of_another_backbone(model):
    path = model / "model.json"
    path.write_text(path.read_text().replace("f" * 64, "a" * 64))
    assert [kind for kind, _ in found(model)] == ["fingerprint", "fingerprint"]


def test_malformed_manifests(model):
    file_of(model, "depth", "head.json").write_text("{}")
    assert found(model) == [("schema", "heads/depth/head.json")]
    (model / "model.json").write_text("{}")
    assert found(model) == [("schema", "model.json")]


def test_strays(model):
    (model / "note").write_text("")
    (model / "heads" / "gone" / ("0" * 16)).mkdir(parents=True)
    (model / "heads" / "Upper").mkdir()
    file_of(model, "depth", "head.json").with_name("extra").write_text("")
    (model / "model.json.tmp").write_text("")
    (model / "backbone.next.safetensors").write_bytes(b"never committed")
    assert found(model) == [
        ("stray", "backbone.next.safetensors"),
        ("stray", "heads/Upper"),
        ("stray", "heads/depth/extra"),
        ("stray", "heads/gone"),
        ("stray", "model.json.tmp"),
        ("stray", "note"),
    ]


def test_a_backbone_that_has_not_moved_yet_is_sound(model):
    (model / "backbone.safetensors").rename(model / "backbone.next.safetensors")
    assert found(model) == [("stray", "backbone.next.safetensors")]


def test_links_are_unreadable(model, tmp_path):
    path = file_of(model, "depth", "head.safetensors")
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    assert found(model) == [("unreadable", "heads/depth/head.safetensors")]


def test_no_model_folder(tmp_path):
    with pytest.raises(StoreError, match="There is no model folder"):
        check(tmp_path)
