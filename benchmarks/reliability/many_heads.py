"""`medusa verify` of a model with many heads: seconds and memory, each count in a fresh process.

`python -m benchmarks.reliability.many_heads --heads 1 10 100`
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def fill(model: Path, file: Path, heads: int) -> None:
    """Make a model with so many heads of some 140 kB."""
    from medusa_core.store import commit, head_file
    from medusa_core.store.commit import NewHead

    found = head_file.read(file)
    new = NewHead(found.manifest, found.weights, found.document)
    known = {f"head_{number}": new for number in range(heads)}
    fingerprint = found.manifest.fingerprint
    commit.commit_heads(model, known, expect_fingerprint=fingerprint, replace=True)


def measure(model: Path) -> dict[str, Any]:
    """Verify one model in this process."""
    from medusa_core.workflows.verify import verify

    imported = _peak()
    started = time.perf_counter()
    report = verify(model)
    assert report["ok"]
    assert set(report["probes"].values()) == {"equal"}
    return {
        "heads": len(report["probes"]),
        "seconds": round(time.perf_counter() - started, 2),
        "peak_mb": _peak(),
        "before_mb": imported,
    }


def _peak() -> int:
    """Most memory this process ever had, in MB; not of the one it was forked from. Linux."""
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return int(line.split()[1]) // 1024


def main() -> None:
    """Measure every count and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return
    from benchmarks.reliability.fuzz import real_model
    from medusa_core.workflows.heads import remove_task

    with tempfile.TemporaryDirectory() as folder:
        model, file = real_model(Path(folder))
        remove_task(model, ["semseg"])
        for heads in options.heads:
            fill(model, file, heads)
            command = [sys.executable, "-m", "benchmarks.reliability.many_heads"]
            subprocess.run([*command, "--measure", str(model)], check=True)


if __name__ == "__main__":
    main()
