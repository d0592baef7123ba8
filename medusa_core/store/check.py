"""Structural verification of a model folder: every hash, every file. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medusa_core.errors import StoreError
from medusa_core.store import container, files, records
from medusa_core.store.folder import fingerprint_error
from medusa_core.store.layout import Layout
from medusa_core.store.manifest import HeadManifest, ModelManifest

ATTEMPTS = 10
"""How often to start again when other processes commit meanwhile."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a model folder.

    kind: "missing", "unreadable", "schema", "hash" or "fingerprint"; "stray" does no harm.
    """

    path: str
    kind: str
    message: str


def check(path: str | os.PathLike[str]) -> list[Problem]:
    """Everything that is wrong with the files of a model folder; nothing for a sound one.

    It takes no lock. A commit meanwhile makes it start again; one under way may show as strays.

    Raises:
        StoreError: there is no model folder at `path`.
    """
    layout = Layout(Path(path))
    for before in records.states(layout, ATTEMPTS):
        problems = list(_problems(layout, before.data))
        if records.read_state(layout) == before:
            break
    return problems


def _problems(layout: Layout, model: bytes) -> Iterator[Problem]:
    try:
        manifest = records.parse(ModelManifest, model, layout.model)
    except StoreError as err:
        yield Problem(str(layout.model), "schema", err.message)
        return
    yield from backbone_problems(layout, manifest)
    for name in manifest.heads:
        yield from read_head(layout, manifest, name)[0]
    yield from stray_problems(layout, manifest)


def stray_problems(layout: Layout, manifest: ModelManifest) -> Iterator[Problem]:
    """What `manifest` does not account for."""
    for path, ours in layout.strays(manifest.heads):
        message = "left over from a change; the next one clears it" if ours else "not part of it"
        yield Problem(str(path), "stray", message)


def backbone_problems(layout: Layout, manifest: ModelManifest) -> list[Problem]:
    """What is wrong with the files of the backbone."""
    found = _backbone(layout, manifest)
    return found if isinstance(found, list) else []


def read_backbone(layout: Layout, manifest: ModelManifest) -> bytes:
    """The file of a backbone without problems."""
    found = _backbone(layout, manifest)
    if isinstance(found, list):
        raise StoreError(found[0].message)
    return files.read(found, layout.root, container.MAX_BACKBONE_BYTES)


def _backbone(layout: Layout, manifest: ModelManifest) -> Path | list[Problem]:
    """Which of the two files a reader would try has the recorded hash, or why neither has."""
    problems = []
    for path in (layout.backbone, layout.next_backbone):
        try:
            found = files.exists(path) and files.sha256(path, layout.root)
        except StoreError as err:
            problems.append(Problem(str(path), "unreadable", err.message))
            continue
        if found == manifest.backbone.weights_sha256:
            return path
        if found:
            message = "its sha256 is not the one that model.json records"
            problems.append(Problem(str(path), "hash", message))
    return problems or [Problem(str(layout.backbone), "missing", "the file is missing")]


def read_head(
    layout: Layout, manifest: ModelManifest, name: str
) -> tuple[list[Problem], tuple[HeadManifest, bytes] | None]:
    """What is wrong with a head, and its record and weights where nothing is."""
    rev = manifest.heads[name]
    head_json, weights = layout.head_json(name, rev), layout.head_weights(name, rev)
    document = _read(layout, head_json, records.MAX_JSON)
    data = _read(layout, weights, container.MAX_HEAD_BYTES)
    if isinstance(document, Problem) or isinstance(data, Problem):
        return [found for found in (document, data) if isinstance(found, Problem)], None
    try:
        head = records.parse(HeadManifest, document, head_json)
    except StoreError as err:
        return [Problem(str(head_json), "schema", err.message)], None
    problems = []
    if records.sha256(data) != head.sha256:
        message = "its sha256 is not the one that head.json records"
        problems.append(Problem(str(weights), "hash", message))
    elif records.revision(document, data) != rev:
        problems.append(Problem(str(head_json), "hash", "it is not what was committed"))
    if head.fingerprint != manifest.backbone.fingerprint:
        error = fingerprint_error(name, head.fingerprint, manifest.backbone.fingerprint)
        problems.append(Problem(str(head_json), "fingerprint", error.message))
    return problems, None if problems else (head, data)


def _read(layout: Layout, path: Path, limit: int) -> bytes | Problem:
    try:
        if not files.exists(path):
            return Problem(str(path), "missing", "the file is missing")
        return files.read(path, layout.root, limit)
    except StoreError as err:
        return Problem(str(path), "unreadable", err.message)
