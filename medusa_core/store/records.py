"""Manifests as bytes and back, and the hashes that tie them to weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from packaging.version import Version
from pydantic import ValidationError
from pydantic_core import from_json

from medusa_core import __version__
from medusa_core.errors import StoreError
from medusa_core.store import files
from medusa_core.store.layout import Layout
from medusa_core.store.manifest import SCHEMA_VERSION, HeadManifest, ModelManifest, Record

MAX_JSON = 16 << 20
"""Longest manifest that is read or written, in bytes."""

_LONGEST_VERSION = 50
_NO_SCHEMA_VERSION = 1_000_000
"""From here on, numbers and texts are damage."""

R = TypeVar("R", bound=Record)


def sha256(data: bytes) -> str:
    """Hash of weights, as manifests record it."""
    return hashlib.sha256(data).hexdigest()


def revision(head_json: bytes, weights: bytes) -> str:
    """The name of a revision: it follows from the content, so equal heads have equal revisions."""
    digest = hashlib.sha256(head_json)
    digest.update(weights)
    return digest.hexdigest()[:16]


def dump(record: Record, path: Path) -> bytes:
    """The file content of a manifest that will be stored at `path`.

    Raises:
        StoreError: it could not be read back.
    """
    data = (record.model_dump_json(indent=2) + "\n").encode()
    parse(type(record), data, path)
    return data


def parse(kind: type[R], data: bytes, path: Path | str, hint: str | None = None) -> R:
    """The manifest read from `path`.

    Args:
        kind: of manifest.
        data: its text.
        path: what to call it in an error.
        hint: what to do about a damaged one; None: as befits a file of a model folder.

    Raises:
        StoreError: it is not JSON, of a newer format, or does not fit the schema.
    """
    if len(data) > MAX_JSON:
        raise StoreError(f"{path} would have {len(data)} bytes, more than {MAX_JSON}.")
    restore = "Restore it from a copy."
    if kind is HeadManifest:
        restore = "Restore it from a copy, or remove the head it belongs to: medusa remove-task"
    restore = hint or restore
    try:
        document = from_json(data)
    except ValueError as err:
        raise StoreError(f"{path} is not valid JSON: {err}.", hint=restore) from err
    if not isinstance(document, dict):
        raise StoreError(f"{path} holds no JSON object.", hint=restore)
    version = document.get("schema_version")
    if isinstance(version, int) and SCHEMA_VERSION < version < _NO_SCHEMA_VERSION:
        writer = _writer(document)
        raise StoreError(
            f"{path} was written{f' by medusa {writer}' if writer else ''} in format {version}; "
            f"this is medusa {__version__}, which reads format {SCHEMA_VERSION}.",
            hint=f"Upgrade: pip install --upgrade 'medusa-heads>={writer}'"
            if writer
            else "Upgrade: pip install --upgrade medusa-heads",
        )
    try:
        return kind.model_validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        more = f" (and {err.error_count() - 1} more)" if err.error_count() > 1 else ""
        raise StoreError(f"{path} is damaged: {where}: {first['msg']}{more}.", restore) from err


def _writer(document: dict[str, Any]) -> Version | None:
    """The version of medusa that wrote a manifest: one that can read it."""
    inner: Any = document
    for key in ("provenance", "versions", "medusa"):  # of a head
        inner = inner.get(key) if isinstance(inner, dict) else None
    try:
        text = str(document.get("medusa_version", inner))
        return Version(text) if len(text) < _LONGEST_VERSION else None
    except ValueError:  # an invalid version, or a number with thousands of digits
        return None


@dataclass(frozen=True)
class State:
    """`model.json` as it was at one moment. After every commit it is another one.

    identity: of the file, so that a change and its reversal do not pass for none.
    """

    identity: tuple[int, int]
    data: bytes


def read_state(layout: Layout) -> State:
    """The present state.

    Raises:
        StoreError: there is no model folder, or it cannot be read.
    """
    if not files.exists(layout.model):
        if files.is_folder(layout.root) and files.children(layout.root):
            raise StoreError(
                f"There is no model folder at {layout.root}: it has no model.json.",
                hint="Name a model folder, or make one in another place: medusa init NEW",
            )
        raise StoreError(
            f"There is no model folder at {layout.root}.",
            hint=f"Make one: medusa init {layout.root}",
        )
    return State(*files.read_state(layout.model, layout.root, MAX_JSON))


def states(layout: Layout, attempts: int) -> Iterator[State]:
    """The present state, again and again, for a reader that found it changed meanwhile.

    Raises:
        StoreError: as of `read_state`; or `attempts` were not enough.
    """
    for _ in range(attempts):
        yield read_state(layout)
    raise StoreError(
        f"{layout.root} keeps being changed by other processes.", hint="Run the command again."
    )


def read_model(layout: Layout) -> ModelManifest:
    """`model.json` as it is now; errors as of `read_state` and `parse`."""
    return parse(ModelManifest, read_state(layout).data, layout.model)


def read_head(layout: Layout, name: str, rev: str) -> tuple[bytes, HeadManifest]:
    """`head.json` of a revision, as bytes and parsed; errors as of `files.read` and `parse`."""
    path = layout.head_json(name, rev)
    data = files.read(path, layout.root, MAX_JSON)
    return data, parse(HeadManifest, data, path)
