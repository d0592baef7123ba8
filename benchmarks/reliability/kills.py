"""SIGKILL at random moments of every kind of change: the folder is as before or as after.

`python -m benchmarks.reliability.kills --kills 1000`
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.reliability import toy
from medusa_core.store import commit, head_file
from medusa_core.store.check import check


def campaign(root: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill until so many changes were cut off; AssertionError where the folder suffered.

    Returns:
        Counts: kills by kind of change, how many left the old and the new state, how many left
        garbage, and how many changes ended before the signal.
    """
    chance = random.Random(seed)
    path = root / "model"
    heads = {name: toy.weights(chance) for name in toy.NAMES[:3]}
    toy.create(path, heads)
    seconds = dict.fromkeys(toy.KINDS, 0.02)
    killed: Counter[str] = Counter()
    left: Counter[str] = Counter()
    while killed.total() < kills:
        change, after = toy.possible_change(chance, heads)
        before_files = {file.name: file.read_bytes() for file in root.glob("*.medusa")}
        passed, cut_off = run_and_kill(change, path, chance.uniform(0, 1.2 * seconds[change.kind]))
        if not cut_off:
            seconds[change.kind] = max(passed, 0.95 * seconds[change.kind])
            left["ended first"] += 1
        else:
            killed[change.kind] += 1
        found = toy.contents(path)
        assert found in ((heads, after) if cut_off else (after,)), f"{change.kind}: torn"
        if cut_off and heads != after:
            left["old state" if found == heads else "new state"] += 1
        _check_head_files(root, before_files, change, heads)
        if cut_off and any(problem.kind == "stray" for problem in check(path)):
            left["garbage"] += 1
        commit.repair(path)
        assert check(path) == [], "garbage was not collected"
        assert toy.contents(path) == found
        heads = found
    return {"kills": killed.total(), "by kind": dict(sorted(killed.items())), **left}


def run_and_kill(change: toy.Change, path: Path, delay: float) -> tuple[float, bool]:
    """Do a change in a process of its own, and kill that after `delay` seconds.

    Returns:
        How long it took, and whether it was killed before its end.
    """
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(go, b"x")
            change.run(path)
        finally:
            os._exit(0)
    os.read(ready, 1)
    started = time.perf_counter()
    while time.perf_counter() < started + delay:
        if os.waitpid(child, os.WNOHANG)[0]:
            break
    else:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(ready)
        os.close(go)
        return delay, os.WIFSIGNALED(status)
    os.close(ready)
    os.close(go)
    return time.perf_counter() - started, False


def _check_head_files(
    root: Path, before: dict[str, bytes], change: toy.Change, heads: toy.Contents
) -> None:
    """Every head file is whole; one that was being written is the old one or the new one."""
    for file in root.glob("*.medusa"):
        data = file.read_bytes()
        if change.kind == "export" and file.stem == change.name:
            assert (
                data == before.get(file.name)
                or head_file.unpack(data, file).weights == (heads[change.name])
            )
        else:
            assert data == before[file.name]
    assert set(before) <= {file.name for file in root.glob("*.medusa")}


def main() -> None:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        figures = campaign(Path(folder), options.kills, options.seed)
    print(json.dumps({**figures, "seconds": round(time.perf_counter() - started, 1)}, indent=2))


if __name__ == "__main__":
    main()
