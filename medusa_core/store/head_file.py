"""A head as one file, to be given away: its weights, with its `head.json` as their metadata.

Such a file comes from anybody. Reading one yields a record that fits the schema and weights that
have the hash it records; what they compute is for the model to check.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medusa_core.errors import StoreError
from medusa_core.store import container, files, records
from medusa_core.store.manifest import HeadManifest

KEY = "medusa"
"""The one key of the metadata."""

_HINT = "Have it exported and sent again: medusa export-head"


@dataclass(frozen=True)
class HeadFile:
    """What a head file holds: `head.json`, parsed and as it is, and `head.safetensors`."""

    manifest: HeadManifest
    document: bytes
    weights: bytes


def pack(document: bytes, weights: bytes) -> bytes:
    """The head file for a `head.json` and its `head.safetensors`.

    Raises:
        StoreError: the two would not come out again bit by bit.
    """
    header, values = container.split(weights, "head.safetensors")
    metadata = {container.METADATA: {KEY: document.decode()}}
    data = container.join({**metadata, **header}, values)
    if unpack(data, "the head file").weights != weights:
        raise StoreError(
            "head.safetensors was not written by medusa, so it cannot be put into a head file.",
            hint="Train the head again: medusa add-task --replace",
        )
    return data


def unpack(data: bytes, source: object) -> HeadFile:
    """The head in a head file.

    Args:
        data: the file; hostile content is an error, nothing else.
        source: what to call the file in an error.

    Raises:
        StoreError: it is malformed, of a newer format, or its weights are not those recorded.
    """
    header, values = container.split(data, source)
    metadata = header.pop(container.METADATA, None)
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str) or len(metadata or ()) != 1:
        raise StoreError(f"{source} is not a head file: it holds no record of a head.", _HINT)
    try:
        document = text.encode()
    except UnicodeEncodeError as err:
        raise StoreError(f"{source}: its record is not text: {err}.", _HINT) from err
    manifest = records.parse(HeadManifest, document, f"the record in {source}", hint=_HINT)
    weights = container.join(header, values)
    if records.sha256(weights) != manifest.sha256:
        raise StoreError(
            f"{source} is damaged: its weights do not have the sha256 that it records.", _HINT
        )
    return HeadFile(manifest, document, weights)


def read(path: Path) -> HeadFile:
    """Read a head file; errors as of `files.read` and `unpack`."""
    if not path.is_file():
        raise StoreError(
            f"{path}: no such file.",
            hint="What contains / or ends in .medusa is a head file; tasks: medusa tasks",
        )
    real = path.resolve()
    return unpack(files.read(real, real.parent, container.MAX_HEAD_BYTES), path)
