"""Everything a model folder promises, checked: hashes, fingerprint, schema, probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medusa_core.backbones.fingerprint import fingerprint
from medusa_core.errors import MedusaError, PluginError, StoreError
from medusa_core.model import probe
from medusa_core.model.assembly import restore_head, version_changes
from medusa_core.model.opening import restore_backbone
from medusa_core.plugin_host.host import Host
from medusa_core.store import check, records, weights
from medusa_core.store.check import Problem
from medusa_core.store.layout import Layout
from medusa_core.store.manifest import HeadManifest, ModelManifest

NOT_REPLAYED = "not replayed"


def verify_folder(path: Path, host: Host) -> dict[str, Any]:
    """Re-hash everything and replay every probe, one head after the other.

    Returns:
        `ok`, `problems` (path, kind, message; a stray file does no harm) and `probes`, a head:
        "equal", "close", "different", or "not replayed" (its plugin is missing or fails, or it is
        damaged);
        `notes` on heads whose plugin is missing, or of another version than they were trained with.

    Raises:
        StoreError: there is no model folder, or `model.json` cannot be read.
    """
    layout = Layout(path)
    for before in records.states(layout, check.ATTEMPTS):
        verification = _Verification(layout, host)
        verification.run(before.data)
        if records.read_state(layout) == before:
            break
    report = _report(path, verification.problems, verification.probes)
    return {**report, "notes": verification.notes}


class _Verification:
    """One look at a model folder; at any time it holds the backbone and one head."""

    def __init__(self, layout: Layout, host: Host) -> None:
        self.layout, self.host = layout, host
        self.problems: list[Problem] = []
        self.probes: dict[str, str] = {}
        self.notes: list[str] = []

    def run(self, model: bytes) -> None:
        """Fill in problems and verdicts for a `model.json`."""
        try:
            manifest = records.parse(ModelManifest, model, self.layout.model)
        except StoreError as err:
            self.problems.append(Problem(str(self.layout.model), "schema", err.message))
            return
        backbone_sound = self._restore_backbone(manifest)
        for name in manifest.heads:
            problems, content = check.read_head(self.layout, manifest, name)
            self.problems += problems
            self.probes[name] = NOT_REPLAYED
            if content is not None and backbone_sound:
                self._replay(name, *content)
        self.problems += check.stray_problems(self.layout, manifest)

    def _restore_backbone(self, manifest: ModelManifest) -> bool:
        problems = list(check.backbone_problems(self.layout, manifest))
        if not problems:
            record, place = manifest.backbone, self.layout.backbone
            try:
                data = check.read_backbone(self.layout, manifest)
                backbone = restore_backbone(record, weights.from_bytes(data, place))
                weight, identity = backbone.weights(), backbone.description.identity()
                if fingerprint(identity, weight) != record.fingerprint:
                    message = "the backbone is not the one recorded"
                    problems.append(Problem(str(place), "fingerprint", message))
                self.info = backbone.info
                self.features = probe.probe_features(backbone)
            except MedusaError as err:
                problems.append(Problem(str(place), "backbone", err.message))
        self.problems += problems
        return not problems

    def _replay(self, name: str, stored: HeadManifest, data: bytes) -> None:
        """Fill in the verdict on one head, and tell what is not as recorded."""
        try:
            tensors = weights.from_bytes(data, f"head {name!r}")
            _, head = restore_head(self.host, name, stored, self.info, tensors)
        except PluginError as err:  # no damage
            self.notes.append(f"{err.message} {err.hint or ''}".strip())
            return
        except MedusaError as err:
            self.problems.append(Problem(name, "head", err.message))
            return
        self.notes += version_changes(self.host, name, stored)
        try:
            output = probe.probe_output(head, self.features)
        except PluginError as err:
            self.problems.append(Problem(name, "probe", err.message))
            return
        self.probes[name] = probe.compare(stored.probe, output)
        if self.probes[name] == "different":
            self.problems.append(Problem(name, "probe", "its output is not the recorded one"))


def _report(path: Path, problems: list[Problem], probes: dict[str, str]) -> dict[str, Any]:
    unique = list(dict.fromkeys(problems))
    return {
        "model": str(path),
        "ok": all(p.kind == "stray" for p in unique),
        "problems": [{"path": p.path, "kind": p.kind, "message": p.message} for p in unique],
        "probes": probes,
    }
