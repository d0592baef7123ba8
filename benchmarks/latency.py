"""What heads add to the time of one image: every method prepared by the same code, in one run.

The backbone that others are compared with is the fastest one: BatchNorm folded, convolutions
packed. Nothing is trained: times do not depend on weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import click
import torch

from benchmarks.costs import (
    BACKBONE,
    OUTPUTS,
    SINGLE,
    TIMED_SIZE,
    decoder_of,
    head_of,
)
from benchmarks.peers.host import peers_host
from benchmarks.report import machine, save
from medusa_core.backbones.timm_backbone import Backbone, build, describe
from medusa_core.model.inference import keep_memory, prepare
from medusa_core.plugin_host.host import Host
from medusa_core.workflows.bench import interleaved

MANY = 16
"""Heads of the second claim: as many, of the tasks in turn."""
PLAIN_NETWORKS = "backbone, as trained"
PEERS = ("shared backbone + plain heads", "Medusa", "MTI-Net")


@click.command()
@click.option("--quick", is_flag=True, help="Few rounds; nothing is recorded.")
@click.option("--rounds", default=30, show_default=True, help="Timed runs of each network.")
def main(quick: bool, rounds: int) -> None:
    """Measure, and write results/latency.{json,md}."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # untrained networks give numbers that trained ones do not
    keep_memory()
    rounds = 3 if quick else rounds
    host = peers_host()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build(describe(BACKBONE)).freeze()
        rows = measure(host, backbone, rounds)
    result = {
        "command": f"python -m benchmarks.latency --rounds {rounds}",
        "backbone": BACKBONE,
        "size": list(TIMED_SIZE),
        "rounds": rounds,
        **machine(),
        "rows": rows,
    }
    print(table(result))
    if not quick:
        save("latency", result, table(result))


def measure(host: Host, backbone: Backbone, rounds: int) -> list[dict[str, Any]]:
    """A row a network: CPU seconds, and the ratio to the backbone of the same round."""
    fast = prepare(backbone)
    names = list(OUTPUTS)
    decoders = {m: prepare(decoder_of(host, m, backbone.info, names)) for m in PEERS}
    many = [names[i % len(names)] for i in range(MANY)]
    sixteen = [prepare(head_of(host, None, backbone.info, name).eval()) for name in many]
    images = torch.rand(1, 3, *TIMED_SIZE)

    def with_sixteen() -> None:
        features = fast(images)
        for head in sixteen:
            head(features)

    def alone() -> None:
        for name in names:
            decoders["shared backbone + plain heads"].heads.of(name)(fast(images))

    runs: dict[str, Callable[[], object]] = {
        "backbone": lambda: fast(images),
        PLAIN_NETWORKS: lambda: backbone(images),
        **{
            f"{method}, {len(names)} tasks": lambda decoder=decoder: decoder(fast(images))
            for method, decoder in decoders.items()
        },
        f"Medusa, {MANY} heads": with_sixteen,
        f"{SINGLE}, {len(names)} tasks": alone,
    }
    seconds = interleaved(runs, rounds, time.process_time)
    base = seconds["backbone"]
    return [
        {
            "network": name,
            "ms": median(found) * 1e3,
            "of_backbone": median(a / b for a, b in zip(found, base, strict=True)),
            "lowest": min(found) / min(base),
            "spread": spread([a / b for a, b in zip(found, base, strict=True)]),
        }
        for name, found in seconds.items()
    ]


def spread(ratios: list[float]) -> list[float]:
    """The first and third quartiles."""
    ordered = sorted(ratios)
    return [ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]]


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    height, width = result["size"]
    lines = [
        "# What heads add to the time of one image",
        "",
        f"`{result['command']}`. `{result['backbone']}`, {height}×{width}, batch 1, one thread, "
        f"float32; CPU time, medians of {result['rounds']} rounds in which all take turns, "
        "each the second of two images, divided by the prepared backbone's of its round. "
        "All but the second row are prepared (BatchNorm folded, convolutions packed).",
        "",
        "| network | ms | × backbone | quartiles | fastest / fastest |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        low, high = row["spread"]
        lines.append(
            f"| {row['network']} | {row['ms']:.1f} | {row['of_backbone']:.2f} | "
            f"{low:.2f}–{high:.2f} | {row['lowest']:.2f} |"
        )
    versions_ = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    return "\n".join([*lines, "", f"{result['machine']}. {versions_}.", ""])


if __name__ == "__main__":
    main()
