"""`medusa export-head` and `medusa add-task FILE`: a head leaves one model folder for another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medusa_core.errors import MedusaError, StoreError
from medusa_core.names import shortened, some
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store import commit, files, head_file, outside, records
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder, fingerprint_error
from medusa_core.store.head_file import HeadFile
from medusa_core.store.layout import checked_name

if TYPE_CHECKING:
    from torch import Tensor

    from medusa_core.plugin_host.host import Host
    from medusa_core.store.manifest import BackboneRecord, HeadManifest

SUFFIX = ".medusa"

_ASK = "Ask where it comes from to have it exported again; there: medusa verify"


def export_head(
    name: str,
    output: str | Path | None = None,
    *,
    model: str | Path = "medusa-model",
    replace: bool = False,
) -> dict[str, Any]:
    """Write a head to one file, to be added to another model folder with the same backbone.

    Args:
        name: of the head.
        output: the file; None: `NAME.medusa` here.
        model: the model folder. It is not changed.
        replace: whether a head file that is there is replaced; no other file is.

    Returns:
        The file, its bytes and sha256, and what is in it.

    Raises:
        UnknownNameError: there is no such head.
        StoreError: the head is damaged, `output` is taken by something that may not be replaced or
            lies in the model folder, or it cannot be written.
    """
    path = Path(output if output is not None else name + SUFFIX)
    with ModelFolder.open(model) as folder:
        data = head_file.pack(folder.head_document(name), folder.read_head_bytes(name))
        manifest = folder.heads[name]
    outside.write(path, data, partial(_check_free, model=Path(model), replace=replace))
    return {
        "model": str(model),
        "name": name,
        "file": str(path),
        "bytes": len(data),
        "sha256": records.sha256(data),
        "head": manifest.model_dump(mode="json", exclude={"probe"}),
    }


def _check_free(path: Path, model: Path, replace: bool) -> None:
    """Nothing but a head file may be replaced, and none may lie among the model's own files.

    What ends in .medusa is taken for one, so that a damaged one can be replaced.
    """
    outside.require_free(path, model, replace)
    if not files.exists(path):
        return
    if path.suffix != SUFFIX:
        try:
            head_file.read(path)
        except StoreError as err:
            raise StoreError(
                f"{path} is not replaced, since it is no head file.",
                hint="Choose another file with -o, or remove that one first.",
            ) from err


def add_head(
    file: str | Path,
    *,
    model: str | Path = "medusa-model",
    name: str | None = None,
    replace: bool = False,
    dry_run: bool = False,
    host: Host | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Add the head in a file to a model folder; nothing else in the folder changes.

    What is in the file is told to `progress` before anything is written. The file may come from
    anybody: the head is built, its weights are checked against its architecture, and it must
    compute on the probe image what it records.

    Args:
        file: written by `export_head`.
        model: model folder; made from the bundled backbone where it does not exist.
        name: of the head; None: that of its task.
        replace: replace a head of that name.
        dry_run: check everything, write nothing.
        host: None: the installed plugins.
        progress: told what is in the file.

    Returns:
        What is in the file, whether its `fingerprint` `fits`, the verdict on its `probe`, and, of a
        dry run, the `problems` that would hinder adding it.

    Raises:
        StoreError: the file is damaged, of a newer format, or not a head file.
        FingerprintError: the head was trained on another backbone.
        PluginError: its plugin is not installed.
        WeightsError: its weights are not finite or do not fit, or it does not compute what it
            records.
        NameTakenError: there is a head of that name. Nothing has changed, whatever was raised.
    """
    from medusa_core.plugin_host.host import default_host

    host, progress, model = host or default_host(), progress or SilentProgress(), Path(model)
    found = head_file.read(Path(file))
    name = checked_name(found.manifest.task if name is None else name)
    record, tensors, taken = _receiver(model)
    fits = found.manifest.fingerprint == record.fingerprint
    described = {**_describe(found), "name": name, "fits": fits}
    for line in _lines(file, described):
        progress.message(line)
    result: dict[str, Any] = {"model": str(model), "file": str(file)}
    result |= {"dry_run": dry_run, "head": described, "problems": []}
    try:
        if not fits:
            raise fingerprint_error(name, found.manifest.fingerprint, record.fingerprint)
        if name in taken and not replace:
            raise commit.name_taken(name)
        described["probe"] = _try(host, name, found, record, tensors)
    except MedusaError as err:
        if not dry_run:
            raise
        result["problems"].append(" ".join(filter(None, (err.message, err.hint))))
    if dry_run:
        return result
    from medusa_core.workflows.init import ensure

    ensure(model, progress)
    replaced = commit.import_head(
        model,
        name,
        NewHead(found.manifest, found.weights, found.document),
        expect_fingerprint=record.fingerprint,
        replace=replace,
    )
    from medusa_core.model.assembly import added

    host.tell(added(model, name, found.manifest, replaced))
    return result


def _receiver(model: Path) -> tuple[BackboneRecord, dict[str, Tensor], set[str]]:
    """The backbone that the head would be added to, and the names of the heads it has."""
    if model.exists():
        with ModelFolder.open(model) as folder:
            return folder.manifest.backbone, folder.read_backbone(), set(folder.manifest.heads)
    from medusa_core.store.weights import from_bytes
    from medusa_core.workflows.bundled import bundled_backbone

    record, data = bundled_backbone()
    return record, from_bytes(data, "the bundled backbone"), set()


def _try(
    host: Host, name: str, found: HeadFile, record: BackboneRecord, tensors: dict[str, Tensor]
) -> str:
    """Build the head on its backbone and run it once; the verdict on its probe.

    Raises:
        PluginError: its plugin is missing. WeightsError: it is not what it records.
    """
    import torch

    from medusa_core.errors import WeightsError
    from medusa_core.model import costs, probe
    from medusa_core.model.assembly import find_task, restore_head, trained_with
    from medusa_core.model.opening import restore_backbone
    from medusa_core.store.weights import from_bytes

    find_task(host, name, found.manifest)
    backbone = restore_backbone(record, tensors)
    weights = from_bytes(found.weights, f"the file of head {name!r}")
    task, head = restore_head(host, name, found.manifest, backbone.info, weights)
    if task.spec.output.unit != found.manifest.unit:
        raise WeightsError(
            f"Head {name!r} records results in {found.manifest.unit!r}, its task gives "
            f"{task.spec.output.unit!r}.",
            _ASK,
        )
    if found.manifest.labels is not None and not task.spec.has_labels:
        raise WeightsError(f"Head {name!r} records classes, its task has none.", _ASK)
    for key, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"Head {name!r} has values that are not finite: {key}.", _ASK)
    if costs.parameters(head) != found.manifest.params:
        raise WeightsError(f"Head {name!r} has not as many parameters as it records.", _ASK)
    output = probe.probe_output(head, probe.probe_features(backbone))
    verdict = probe.compare(found.manifest.probe, output)
    if verdict == "different":
        hint = trained_with(host, found.manifest) or _ASK
        raise WeightsError(f"Head {name!r} does not compute here what it records.", hint)
    return verdict


def _describe(found: HeadFile) -> dict[str, Any]:
    """What is in a head file."""
    head: HeadManifest = found.manifest
    return {
        "task": head.task,
        "unit": head.unit,
        "labels": list(head.labels.names) if head.labels else None,
        "architecture": head.head.model_dump(mode="json"),
        "size": list(head.size),
        "plugin": head.owner.model_dump(mode="json"),
        "head_plugin": head.head_owner.model_dump(mode="json"),
        "fingerprint": head.fingerprint,
        "params": head.params,
        "gmacs": head.gmacs,
        "bytes": len(found.weights),
        "metrics": head.metrics,
        "provenance": head.provenance,
        "probe": None,
    }


def _lines(file: str | Path, head: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    owners = (head["plugin"], head["head_plugin"])
    plugins = dict.fromkeys(f"{owner['distribution']} {owner['version']}" for owner in owners)
    yield f"{file}: a head for {head['task']}, to be called {head['name']}"
    yield f"  results in: {_results(head)}"
    yield (
        f"  architecture: {head['architecture']['name']}, {head['params']} parameters, "
        f"{head['bytes']} bytes, {head['gmacs']:.3f} GMACs"
    )
    yield f"  needs: {', '.join(plugins)}"
    yield f"  backbone: {head['fingerprint'][:12]}…, {'fits' if head['fits'] else 'does not fit'}"
    height, width = head["size"]
    known = {key: head["provenance"].get(key) for key in ("data", "dataset", "images", "steps")}
    told = ", ".join(f"{key} {_text(value)}" for key, value in known.items() if value is not None)
    yield f"  trained at {height}×{width}: {told or 'nothing is recorded'}"
    measured = {key: value for key, value in head["metrics"].items() if value is not None}
    scores = ", ".join(f"{key} {value:.4g}" for key, value in measured.items())
    yield f"  said to reach: {scores or 'nothing is recorded'}"


def _text(value: object) -> str:
    return shortened(", ".join(map(str, value)) if isinstance(value, list) else value)


def _results(head: dict[str, Any]) -> str:
    if head["labels"] is None:
        return head["unit"] or "no unit"
    names = head["labels"]
    return f"{len(names)} classes: {some(names)}"
