"""What `medusa plugins doctor` finds out about one plugin, in a process of its own.

A plugin that crashes, hangs or ends the process can thus be told of, too; and the interpreter's own
record of imports (`-X importtime`) says which module is to blame for a slow one.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medusa_core.plugin_host.discovery import EntryPoint, provider_of, survey
from medusa_core.plugin_host.loading import load_plugin
from medusa_core.plugin_host.report import PluginReport, PluginState, Provider

PATIENCE = 60.0
"""Seconds after which a plugin is given up."""

HEAVY = frozenset(
    {
        *(
            "PIL",
            "cv2",
            "jax",
            "keras",
            "matplotlib",
            "numpy",
            "onnxruntime",
            "pandas",
            "safetensors",
        ),
        *(
            "scipy",
            "skimage",
            "sklearn",
            "tensorflow",
            "timm",
            "torch",
            "torchvision",
            "transformers",
        ),
    }
)
"""Packages that a plugin must not import before they are needed."""

SLOW_MS = 100.0
"""An import that takes longer is told of, whatever it is."""

_BEGIN = "medusa: the plugin's imports begin here"
_LINE = re.compile(r"^import time:\s*(\d+) \|\s*(\d+) \|( *)(\S+)\s*$")


@dataclass(frozen=True)
class HeavyImport:
    """A package that a plugin imports although only its tasks may need it.

    ms: with all that it imports in turn. by: the module that imports it.
    """

    package: str
    ms: float
    by: str


@dataclass(frozen=True)
class Examination:
    """What became of a plugin, its traceback if it has one, and what slows it down."""

    report: PluginReport
    traceback: str | None = None
    heavy: tuple[HeavyImport, ...] = ()


def examine(point: EntryPoint, implementations: bool = False) -> Examination:
    """Import a plugin in a process of its own.

    Args:
        point: the plugin.
        implementations: also import what its specs name.
    """
    provider = provider_of(point)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        code = f"from {__name__} import _answer; _answer()"
        job = {
            "name": point.name,
            "distribution": provider.distribution,
            "answer": str(answer),
            "implementations": implementations,
            "patience": PATIENCE,
        }
        try:
            process = subprocess.run(  # noqa: S603 - this interpreter
                [sys.executable, "-P", "-X", "importtime", "-c", code, json.dumps(job)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.curdir for p in sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                timeout=PATIENCE + 30,
                check=False,
            )
            stderr, ended = process.stderr, f"it ended the process ({_status(process.returncode)})"
        except subprocess.TimeoutExpired as err:
            told = err.stderr or b""
            stderr = told if isinstance(told, str) else told.decode(errors="replace")
            ended = "it hangs"
        found = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else None
    heavy = tuple(_heavy(stderr, point.value.partition(":")[0]))
    if found is None:
        if "Timeout (" in stderr:
            ended = f"its import takes more than {PATIENCE:g} s"
        rest = [line for line in stderr.splitlines() if not line.startswith("import time:")]
        report = PluginReport(provider, PluginState.BROKEN, ended)
        return Examination(report, "\n".join(line for line in rest if line != _BEGIN), heavy)
    report = PluginReport(
        provider,
        PluginState(found["state"]),
        found["why"],
        import_ms=found["import_ms"],
        provides={kind: tuple(names) for kind, names in found["provides"].items()},
        upgrade=tuple(found["upgrade"]),
    )
    return Examination(report, found["traceback"], heavy)


def _answer() -> None:
    """Runs in the other process: load one plugin and write down what came of it."""
    job = json.loads(sys.argv[1])
    faulthandler.dump_traceback_later(job["patience"], exit=True)
    point = next(
        point
        for point in survey().points
        if (point.name, provider_of(point).distribution) == (job["name"], job["distribution"])
    )
    sys.stderr.write(f"{_BEGIN}\n")
    report, loaded = load_plugin(point, provider_of(point))
    result: dict[str, Any] = {
        "state": report.state,
        "why": report.why,
        "import_ms": report.import_ms,
        "provides": {kind: list(names) for kind, names in report.provides.items()},
        "upgrade": list(report.upgrade),
        "traceback": report.traceback,
    }
    sys.stderr.write(f"{_BEGIN.replace('begin', 'end')}\n")
    if job["implementations"] and not report.failed:
        result |= _import_all(
            [s for specs in loaded.specs.values() for s in specs], report.provider
        )
    Path(job["answer"]).write_text(json.dumps(result), encoding="utf-8")
    faulthandler.cancel_dump_traceback_later()


def _import_all(specs: list[Any], provider: Provider) -> dict[str, Any]:
    """Import what specs name; what the answer says otherwise where something is missing."""
    import traceback

    from medusa_core.errors import PluginError
    from medusa_core.plugin_host.importing import resolve

    for spec in specs:
        for reference in (spec.implementation, getattr(spec, "config_model", None)):
            try:
                if reference is not None:
                    resolve(reference, provider)
            except PluginError as err:
                text = "".join(traceback.format_exception(err.__cause__))
                why = f"{spec.name!r}: {err.message.partition('failed in ')[2].rstrip('.')}"
                return {"state": PluginState.BROKEN, "why": why, "traceback": text}
    return {}


def _heavy(stderr: str, plugin: str) -> Iterator[HeavyImport]:
    """The packages to blame, slowest first, from what `-X importtime` wrote.

    A module is written after all that it imports, each deeper by two spaces; that of the plugin is
    not, since it is imported by a function.
    """
    found: dict[str, HeavyImport] = {}
    waiting: list[tuple[int, str, float]] = []  # depth, module, ms: not yet known who imported it
    text = stderr.partition(_BEGIN)[2].partition(_BEGIN.replace("begin", "end"))[0]
    for match in filter(None, map(_LINE.match, text.splitlines())):
        depth, module, ms = len(match[3]), match[4], int(match[2]) / 1000
        for other in [item for item in waiting if item[0] > depth]:
            waiting.remove(other)
            _blame(other, module, found)
        waiting.append((depth, module, ms))
    for other in waiting:
        _blame(other, plugin, found)
    yield from sorted(found.values(), key=lambda heavy: -heavy.ms)


def _blame(item: tuple[int, str, float], by: str, found: dict[str, HeavyImport]) -> None:
    _, module, ms = item
    package, importer = module.partition(".")[0], by.partition(".")[0]
    if package in (importer, "medusa_core") or importer in (HEAVY | sys.stdlib_module_names):
        return
    if package in HEAVY or ms > SLOW_MS:
        before = found.get(package)
        if before is None or before.ms < ms:
            found[package] = HeavyImport(package, round(ms, 1), by)


def _status(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
