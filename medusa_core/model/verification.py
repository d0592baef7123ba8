"""Everything a model folder promises, checked: hashes, fingerprint, schema, probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medusa_core.backbones.fingerprint import fingerprint
from medusa_core.errors import MedusaError, PluginError
from medusa_core.model import probe
from medusa_core.model.assembly import restore_head, version_changes
from medusa_core.model.medusa_model import restore_backbone
from medusa_core.plugin_host.host import Host
from medusa_core.store import weights
from medusa_core.store.check import Problem, check
from medusa_core.store.folder import ModelFolder


def verify_folder(path: Path, host: Host) -> dict[str, Any]:
    """Re-hash everything and replay every probe.

    Returns:
        `ok`, `problems` (path, kind, message; a stray file does no harm) and `probes`, a head:
        "equal", "close", "different", or "not replayed" (its plugin is missing, or it is damaged);
        `notes` on heads whose plugin is missing, or of another version than they were trained with.

    Raises:
        StoreError: there is no model folder, or `model.json` cannot be read.
    """
    problems = check(path)
    probes: dict[str, str] = {}
    notes: list[str] = []
    try:
        with ModelFolder.open(path) as folder:
            probes = dict.fromkeys(folder.heads, "not replayed")
            problems += _replay(folder, host, probes, notes)
    except MedusaError as err:
        if all(problem.kind == "stray" for problem in problems):  # else it is told already
            problems.append(Problem(str(path), "unreadable", err.message))
    return {**_report(path, problems, probes), "notes": notes}


def _replay(
    folder: ModelFolder, host: Host, probes: dict[str, str], notes: list[str]
) -> list[Problem]:
    """Fill in the verdict on every head that can be replayed, and tell what is not as recorded."""
    record = folder.manifest.backbone
    backbone = restore_backbone(record, folder.read_backbone())
    problems = []
    if fingerprint(backbone.description.identity(), backbone.weights()) != record.fingerprint:
        problems.append(
            Problem(str(folder.path), "fingerprint", "the backbone is not the one recorded")
        )
    features = probe.probe_features(backbone)
    for name, stored in folder.heads.items():
        try:
            data = folder.read_head_bytes(name)
        except MedusaError:  # told by `check`
            continue
        try:
            tensors = weights.from_bytes(data, f"head {name!r}")
            _, head = restore_head(host, name, stored, backbone.info, tensors)
        except PluginError as err:  # no damage
            notes.append(f"{err.message} {err.hint or ''}".strip())
            continue
        except MedusaError as err:
            problems.append(Problem(name, "head", err.message))
            continue
        notes += version_changes(host, name, stored)
        probes[name] = probe.compare(stored.probe, probe.probe_output(head, features))
        if probes[name] == "different":
            problems.append(Problem(name, "probe", "its output is not the recorded one"))
    return problems


def _report(path: Path, problems: list[Problem], probes: dict[str, str]) -> dict[str, Any]:
    unique = list(dict.fromkeys(problems))
    return {
        "schema_version": 1,
        "model": str(path),
        "ok": all(p.kind == "stray" for p in unique),
        "problems": [{"path": str(p.path), "kind": p.kind, "message": p.message} for p in unique],
        "probes": probes,
    }
