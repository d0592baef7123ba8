"""Everything that changes a model folder. Why that is safe: `transaction`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from medusa_core import __version__
from medusa_core.errors import NameTakenError, StoreError
from medusa_core.store import container, files, records
from medusa_core.store.folder import fingerprint_error
from medusa_core.store.layout import Layout, checked_name, unknown_head
from medusa_core.store.manifest import BackboneRecord, HeadManifest, ModelManifest
from medusa_core.store.transaction import (
    best_effort,
    commit,
    locked,
    tidy,
    write_revisions,
    writing,
)

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class NewHead:
    """A head to be committed: its manifest and the content of its `head.safetensors`.

    document: its `head.json`, where that is to be kept bit by bit (of a head file).
    """

    manifest: HeadManifest
    weights: bytes
    document: bytes | None = None


_NO_HEADS: Mapping[str, NewHead] = MappingProxyType({})


def create(
    path: PathLike,
    backbone: BackboneRecord,
    backbone_bytes: bytes,
    heads: Mapping[str, NewHead] = _NO_HEADS,
    medusa_version: str = __version__,
) -> None:
    """Make a new model folder: written and synced beside `path`, then renamed in one step.

    An empty folder that is there is filled instead, `model.json` last: somebody may stand in it, or
    have mounted it.

    Raises:
        StoreError: there is something at `path`, or it cannot be written.
        FingerprintError: a head belongs to another backbone.
    """
    layout = Layout(Path(os.path.realpath(path)))
    contents = _contents(layout, heads)
    _check_backbone(backbone, backbone_bytes, heads)
    require_free(path)
    files.make_folder(layout.root.parent, parents=True)
    try:
        _create(layout, backbone, backbone_bytes, contents, medusa_version)
    except StoreError:
        require_free(path)  # another process was faster: say that
        raise


def replace_backbone(
    path: PathLike,
    backbone: BackboneRecord,
    backbone_bytes: bytes,
    heads: Mapping[str, NewHead] = _NO_HEADS,
) -> None:
    """Commit a new backbone and the heads trained jointly with it.

    Resume state is deleted: no training on the old backbone can be committed any more.
    The backbone's file has a fixed name, so the new one waits beside the old one until
    `model.json` names it by its hash; only then does it take the name.

    Raises:
        StoreError: the folder has heads, which would no longer fit; or it cannot be written.
        FingerprintError: a head belongs to another backbone.
    """
    contents = _contents(Layout(Path(path)), heads)
    _check_backbone(backbone, backbone_bytes, heads)
    with writing(path) as (layout, manifest):
        if manifest.heads:
            raise StoreError(
                f"{path} has heads ({', '.join(manifest.heads)}), so its backbone is frozen.",
                hint="Train a backbone in a new folder: medusa init NEW",
            )
        files.write(layout.next_backbone, backbone_bytes)
        revisions = write_revisions(layout, contents)
        commit(layout, _changed(manifest, revisions, backbone), finished=[layout.all_work])


def commit_head(
    path: PathLike,
    name: str,
    head: NewHead,
    *,
    expect_fingerprint: str,
    replace: bool = False,
) -> bool:
    """Add one head; as `commit_heads`. Whether it replaced one."""
    heads = {name: head}
    return name in commit_heads(path, heads, expect_fingerprint=expect_fingerprint, replace=replace)


def import_head(
    path: PathLike,
    name: str,
    head: NewHead,
    *,
    expect_fingerprint: str,
    replace: bool = False,
) -> bool:
    """Add one head that was not trained here; as `commit_head`.

    An unfinished training of that name goes on; the report of a replaced head goes.
    """
    layout = Layout(Path(path))
    old = [layout.report(name), layout.log(name)]
    return name in _commit_heads(path, {name: head}, expect_fingerprint, replace, old)


def commit_heads(
    path: PathLike,
    heads: Mapping[str, NewHead],
    *,
    expect_fingerprint: str,
    replace: bool = False,
) -> set[str]:
    """Add heads, all or none, and delete the resume state of their training.

    Args:
        path: the model folder.
        heads: name → head.
        expect_fingerprint: the backbone they were trained on; it must be the folder's still.
        replace: whether heads of the same name are replaced.

    Returns:
        Names of heads that were replaced.

    Raises:
        NameTakenError: a head of that name exists and `replace` is not set.
        FingerprintError: the folder has another backbone.
        StoreError: hash and weights disagree, or the folder cannot be read or written.
    """
    work = [Layout(Path(path)).work(name) for name in heads]
    return _commit_heads(path, heads, expect_fingerprint, replace, work)


def _commit_heads(
    path: PathLike,
    heads: Mapping[str, NewHead],
    expect_fingerprint: str,
    replace: bool,
    finished: Iterable[Path],
) -> set[str]:
    contents = _contents(Layout(Path(path)), heads)
    with writing(path) as (layout, manifest):
        for name, head in heads.items():
            if not replace:
                _refuse_taken(name, manifest)
            _check_fingerprint(name, expect_fingerprint, manifest.backbone)
            _check_fingerprint(name, head.manifest.fingerprint, manifest.backbone)
        revisions = write_revisions(layout, contents)
        commit(layout, _changed(manifest, {**manifest.heads, **revisions}), finished)
        return heads.keys() & manifest.heads.keys()


def remove_heads(path: PathLike, names: Iterable[str]) -> None:
    """Remove heads, all or none. Who has the folder open can still read them.

    Raises:
        UnknownNameError: there is no such head.
        StoreError: the folder cannot be read or written.
    """
    gone = set(names)
    with writing(path) as (layout, manifest):
        for name in sorted(gone):
            _refuse_unknown(name, manifest)
        kept = {name: rev for name, rev in manifest.heads.items() if name not in gone}
        reports = [place(name) for name in gone for place in (layout.report, layout.log)]
        commit(layout, _changed(manifest, kept), finished=reports)


def rename_head(path: PathLike, old: str, new: str) -> None:
    """Give a head another name. Its files are copied bit by bit, then the old ones removed.

    Raises:
        UnknownNameError: there is no head `old`.
        NameTakenError: there is a head `new`.
        StoreError: the head is damaged, or the folder cannot be read or written.
    """
    checked_name(new)
    with writing(path) as (layout, manifest):
        _refuse_unknown(old, manifest)
        if new in manifest.heads:
            raise NameTakenError(
                f"A head {new!r} exists already.",
                hint="Choose another name, or remove that head first: medusa remove-task",
            )
        rev = manifest.heads[old]
        head_json = files.read(layout.head_json(old, rev), layout.root, records.MAX_JSON)
        weights = files.read(layout.head_weights(old, rev), layout.root, container.MAX_HEAD_BYTES)
        if records.revision(head_json, weights) != rev:
            raise StoreError(
                f"{layout.revision(old, rev)} is damaged, so {old!r} cannot be renamed.",
                hint=f"Restore it from a copy, or remove it: medusa remove-task {old}",
            )
        write_revisions(layout, {new: (head_json, weights)})
        heads = {(new if name == old else name): r for name, r in manifest.heads.items()}
        commit(layout, _changed(manifest, heads))
        with best_effort(f"the report of {old!r} keeps its old name"):
            for place in (layout.report, layout.log):
                if files.is_folder(place(old).parent) and files.exists(place(old)):
                    files.move(place(old), place(new))


def repair(path: PathLike) -> list[Path]:
    """Delete what changes that did not end have left: files that no commit points to.

    Returns:
        What was deleted.

    Raises:
        StoreError: there is no model folder, `model.json` is damaged, or a file cannot be deleted.
    """
    layout = Layout(Path(path))
    records.read_model(layout)  # so that no lock file is made where there is no model folder
    with locked(layout):
        return tidy(layout)


def require_free(path: PathLike) -> None:
    """Nothing, or an empty folder, is at `path`: a model folder may be made there.

    Raises:
        StoreError: something else is there, and belongs to somebody.
    """
    layout = Layout(Path(os.path.realpath(path)))
    if files.exists(layout.root) and not (files.is_folder(layout.root) and _is_empty(layout)):
        what = "a model" if files.exists(layout.model) else "something"
        raise StoreError(
            f"{path} is an output folder in use: {what} is there already.",
            hint="Name a folder that does not exist, or is empty.",
        )
    for above in layout.root.parents:
        outer = Layout(above)
        if files.exists(outer.model) and files.exists(outer.heads):
            raise StoreError(
                f"{path} lies in the model folder {above}, whose files Medusa deletes.",
                hint="Name a folder outside of it.",
            )


def _create(
    layout: Layout,
    backbone: BackboneRecord,
    backbone_bytes: bytes,
    contents: Mapping[str, tuple[bytes, bytes]],
    medusa_version: str,
) -> None:
    in_place = files.is_folder(layout.root)
    staging = layout if in_place else Layout(layout.staging)
    if not in_place:
        _require_ours(staging)
    files.make_folder(staging.root)
    with locked(staging):
        if in_place:
            require_free(layout.root)  # still
        try:
            _clear(staging)  # in a staging folder, what a crash left
            files.write(staging.next_backbone if in_place else staging.backbone, backbone_bytes)
            heads = write_revisions(staging, contents)
            manifest = ModelManifest(medusa_version=medusa_version, backbone=backbone, heads=heads)
            document = records.dump(manifest, staging.model)
            files.sync_folder(staging.root)
            files.write(staging.model, document)  # in place, this is the commit
            if not in_place:
                files.sync_folder(staging.root)
                files.move(staging.root, layout.root)  # else this is
        finally:
            with best_effort(f"{staging.root} may be left, or {layout.root} lost by power failure"):
                if in_place and files.exists(layout.model):
                    tidy(layout)  # the backbone gets its name
                elif in_place:
                    _clear(layout)
                elif files.exists(staging.root):
                    files.remove(staging.root)
                files.sync_folder(layout.root if in_place else layout.root.parent)


def _require_ours(staging: Layout) -> None:
    """A staging folder that is there is what a crash left of one, or another process's.

    Raises:
        StoreError: it holds what no model folder is made with.
    """
    foreign = [entry for entry in files.children(staging.root) if not staging.is_new(entry)]
    if foreign:
        raise StoreError(
            f"{staging.root} is in the way: it holds {foreign[0].name}, which is not of a model "
            "folder that is being made.",
            hint="Move or rename that folder.",
        )


def _is_empty(layout: Layout) -> bool:
    """But for what filling it may have left, were it interrupted: never a head."""
    left = {layout.lock, layout.next_backbone}
    left |= {files.temporary(path) for path in (layout.next_backbone, layout.model)}
    entries = set(files.children(layout.root))
    if files.is_folder(layout.heads) and not files.children(layout.heads):
        left.add(layout.heads)
    return not entries or (layout.lock in entries and entries <= left)


def _clear(layout: Layout) -> None:
    """Delete what is ours, but for the lock that is held."""
    for entry in files.children(layout.root):
        if entry != layout.lock and layout.is_own(entry):
            files.remove(entry)


def _contents(layout: Layout, heads: Mapping[str, NewHead]) -> dict[str, tuple[bytes, bytes]]:
    """The files of each head, once its name and hash are found right."""
    contents = {}
    for name, head in heads.items():
        if records.sha256(head.weights) != head.manifest.sha256:
            raise StoreError(f"The sha256 in the manifest of head {name!r} is not its weights'.")
        document = head.document or records.dump(head.manifest, layout.head(name) / "head.json")
        contents[name] = document, head.weights
    return contents


def _changed(
    manifest: ModelManifest, heads: dict[str, str], backbone: BackboneRecord | None = None
) -> ModelManifest:
    return ModelManifest(
        medusa_version=__version__, backbone=backbone or manifest.backbone, heads=heads
    )


def _check_backbone(backbone: BackboneRecord, data: bytes, heads: Mapping[str, NewHead]) -> None:
    if records.sha256(data) != backbone.weights_sha256:
        raise StoreError("The sha256 in the record of the backbone is not its weights'.")
    for name, head in heads.items():
        _check_fingerprint(name, head.manifest.fingerprint, backbone)


def _check_fingerprint(name: str, fingerprint: str, backbone: BackboneRecord) -> None:
    if fingerprint != backbone.fingerprint:
        raise fingerprint_error(name, fingerprint, backbone.fingerprint)


def name_taken(name: str) -> NameTakenError:
    """The error for a name that a head has already."""
    return NameTakenError(
        f"A head {name!r} exists already.",
        hint="Replace it with --replace, or give the new one another name with --name.",
    )


def _refuse_taken(name: str, manifest: ModelManifest) -> None:
    if name in manifest.heads:
        raise name_taken(name)


def _refuse_unknown(name: str, manifest: ModelManifest) -> None:
    if name not in manifest.heads:
        raise unknown_head(name, manifest.heads)
