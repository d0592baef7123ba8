"""Many processes change one model folder at once while others read it: nothing is lost or torn.

Every commit is logged while its lock is held, so the log is the order in which changes took effect.
Done again one after the other, they must give every state of the log; no reader may have seen any
other state, and the last one is what is on the disk.

`python -m benchmarks.reliability.processes --writers 8 --changes 50 --readers 2`
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.reliability import toy
from medusa_core.errors import NameTakenError, UnknownNameError
from medusa_core.store import commit, records
from medusa_core.store.check import check
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout
from medusa_core.store.transaction import commit as real

TIMEOUT = 300.0


def campaign(root: Path, writers: int, changes: int, readers: int, seed: int = 0) -> dict[str, Any]:
    """Let them loose; AssertionError where an update was lost or a read torn."""
    path = root / "model"
    chance = random.Random(seed)
    toy.create(path, {name: toy.weights(chance) for name in toy.NAMES[:2]})
    states = [records.read_model(Layout(path)).heads]
    stop, log = root / "stop", root / "log"
    log.touch()
    write = [
        _fork(partial(_write, path, log, root / f"failed {n}", changes, seed * 1000 + n))
        for n in range(writers)
    ]
    read = [_fork(partial(_read, path, stop, root / f"seen {n}")) for n in range(readers)]
    try:
        _wait(write)
    finally:
        stop.touch()
        _wait(read)
    kinds: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        expected = _apply(entry, states[-1])
        assert entry["heads"] == expected, "an update was lost"
        states.append(expected)
        kinds[entry["kind"]] += 1
    assert records.read_model(Layout(path)).heads == states[-1]
    assert check(path) == []
    possible = {json.dumps(sorted(state.items())) for state in states}
    seen = [line for n in range(readers) for line in (root / f"seen {n}").read_text().splitlines()]
    assert set(seen) <= possible, "a reader saw a state that never was"
    refused = sum(int((root / f"failed {n}").read_text()) for n in range(writers))
    assert kinds.total() + refused == writers * changes
    return {
        "commits": kinds.total(),
        "by kind": dict(sorted(kinds.items())),
        "refused or only read": refused,
        "reads": len(seen),
        "states seen": len(set(seen)),
    }


def _apply(entry: dict[str, Any], heads: dict[str, str]) -> dict[str, str]:
    """Name → revision after a logged change."""
    name, other, kind = entry["name"], entry["other"], entry["kind"]
    if kind == "rename":
        return {(other if n == name else n): rev for n, rev in heads.items()}
    if kind == "remove":
        return {n: rev for n, rev in heads.items() if n != name}
    assert kind == "replace" or name not in heads
    return {**heads, name: entry["heads"][name]}


def _write(path: Path, log: Path, failed: Path, changes: int, seed: int) -> None:
    chance = random.Random(seed)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    change = toy.random_change(chance)

    def logged(layout: Layout, manifest: Any, finished: Any = ()) -> None:
        real(layout, manifest, finished)
        entry = {"kind": change.kind, "name": change.name, "other": change.other}
        line = json.dumps({**entry, "heads": manifest.heads}) + "\n"
        os.write(descriptor, line.encode())

    count = 0
    with mock.patch.object(commit, "commit", logged):
        for _ in range(changes):
            change = toy.random_change(chance)
            try:
                change.run(path)
                count += change.kind == "export"
            except (NameTakenError, UnknownNameError):
                count += 1
    failed.write_text(str(count))


def _read(path: Path, stop: Path, seen: Path) -> None:
    chance = random.Random(os.getpid())
    with seen.open("w") as file:
        while not stop.exists():
            with ModelFolder.open(path) as folder:
                assert not folder.damaged, folder.damaged
                time.sleep(chance.uniform(0, 0.02))  # others commit meanwhile
                folder.read_backbone_bytes()
                for name in folder.heads:
                    folder.read_head_bytes(name)
                file.write(json.dumps(sorted(folder.manifest.heads.items())) + "\n")


def _fork(work: Callable[[], None]) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the parent hears of it by the exit code
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait(children: list[int]) -> None:
    until = time.monotonic() + TIMEOUT
    waiting = list(children)
    failed = 0
    while waiting:
        for child in list(waiting):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                waiting.remove(child)
                failed += status != 0
        if time.monotonic() > until:
            for child in waiting:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            raise AssertionError(f"{len(waiting)} processes did not end: a deadlock")
        time.sleep(0.005)
    assert not failed, f"{failed} processes failed"


def main() -> None:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        given = (options.writers, options.changes, options.readers, options.seed)
        figures = campaign(Path(folder), *given)
    print(json.dumps({**figures, "seconds": round(time.perf_counter() - started, 1)}, indent=2))


if __name__ == "__main__":
    main()
