"""Structural verification of a model folder: every hash, every file. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medusa_core.errors import StoreError
from medusa_core.store import files, records
from medusa_core.store.folder import fingerprint_error
from medusa_core.store.layout import Layout
from medusa_core.store.manifest import HeadManifest, ModelManifest

_ATTEMPTS = 10


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a model folder.

    kind: "missing", "unreadable", "schema", "hash" or "fingerprint"; "stray" does no harm.
    """

    path: str
    kind: str
    message: str


def check(path: str | os.PathLike[str]) -> list[Problem]:
    """Everything that is wrong with a model folder; nothing for a sound one.

    It takes no lock. A commit meanwhile makes it start again; one under way may show as strays.

    Raises:
        StoreError: there is no model folder at `path`.
    """
    layout = Layout(Path(path))
    for _ in range(_ATTEMPTS):
        before = records.read_model_bytes(layout)
        problems = list(_problems(layout, before))
        if records.read_model_bytes(layout) == before:
            return problems
    raise StoreError(f"{path} keeps being changed by other processes.", "Run the command again.")


def _problems(layout: Layout, model: bytes) -> Iterator[Problem]:
    try:
        manifest = records.parse(ModelManifest, model, layout.model)
    except StoreError as err:
        yield Problem(str(layout.model), "schema", err.message)
        return
    yield from _backbone(layout, manifest)
    for name, rev in manifest.heads.items():
        yield from _head(layout, manifest, name, rev)
    for path, ours in layout.strays(manifest.heads):
        message = "left over from a change; the next one clears it" if ours else "not part of it"
        yield Problem(str(path), "stray", message)


def _backbone(layout: Layout, manifest: ModelManifest) -> Iterator[Problem]:
    """One of the two files a reader would try must have the recorded hash."""
    problems = []
    for path in (layout.backbone, layout.next_backbone):
        try:
            found = files.exists(path) and files.sha256(path, layout.root)
        except StoreError as err:
            problems.append(Problem(str(path), "unreadable", err.message))
            continue
        if found == manifest.backbone.weights_sha256:
            return
        if found:
            message = "its sha256 is not the one that model.json records"
            problems.append(Problem(str(path), "hash", message))
    yield from problems or [Problem(str(layout.backbone), "missing", "the file is missing")]


def _head(layout: Layout, manifest: ModelManifest, name: str, rev: str) -> Iterator[Problem]:
    head_json, weights = layout.head_json(name, rev), layout.head_weights(name, rev)
    contents = [_read(layout, path) for path in (head_json, weights)]
    unreadable = [content for content in contents if isinstance(content, Problem)]
    if unreadable:
        yield from unreadable
        return
    document, data = (content for content in contents if isinstance(content, bytes))
    try:
        head = records.parse(HeadManifest, document, head_json)
    except StoreError as err:
        yield Problem(str(head_json), "schema", err.message)
        return
    if records.sha256(data) != head.sha256:
        message = "its sha256 is not the one that head.json records"
        yield Problem(str(weights), "hash", message)
    elif records.revision(document, data) != rev:
        yield Problem(str(head_json), "hash", "it is not what was committed")
    if head.fingerprint != manifest.backbone.fingerprint:
        error = fingerprint_error(name, head.fingerprint, manifest.backbone.fingerprint)
        yield Problem(str(head_json), "fingerprint", error.message)


def _read(layout: Layout, path: Path) -> bytes | Problem:
    try:
        if not files.exists(path):
            return Problem(str(path), "missing", "the file is missing")
        return files.read(path, layout.root)
    except StoreError as err:
        return Problem(str(path), "unreadable", err.message)
