"""What heads add to the time of one image: every method prepared by the same code, in one run.

The backbone that others are compared with is the fastest one: BatchNorm folded, convolutions
packed. Recorded, it is not faster: its operations are long. Heads and decoders are run from
recordings, heads that know how side by side. Nothing is trained: times do not depend on weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor, nn

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
from medusa_core.heads.base import Head
from medusa_core.model.execution import MOST_JOINED, Execution, joined
from medusa_core.model.inference import keep_memory, prepare
from medusa_core.model.recorded_calls import Network
from medusa_core.model.recording import PATIENCE, Desk, repeating
from medusa_core.plugin_host.host import Host
from medusa_core.workflows.bench import interleaved

MANY = 16
"""Heads of the second claim: as many, of the tasks in turn."""
PLAIN_NETWORKS = "backbone, as trained"
MEDUSA = "Medusa"
PEERS = ("shared backbone + plain heads", MEDUSA, "MTI-Net")
"""All were made for HRNet."""


@click.command()
@click.option("--backbone", "name", default=BACKBONE, show_default=True, help="Others: no peers.")
@click.option("--quick", is_flag=True, help="Few rounds; nothing is recorded.")
@click.option("--rounds", default=30, show_default=True, help="Timed runs of each network.")
def main(name: str, quick: bool, rounds: int) -> None:
    """Measure, and write results/latency.{json,md}, or latency-BACKBONE."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # untrained networks give numbers that trained ones do not
    keep_memory()
    rounds = 3 if quick else rounds
    host = peers_host()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build(describe(name)).freeze()
        rows = measure(host, backbone, rounds, PEERS if name == BACKBONE else (MEDUSA,))
    other = "" if name == BACKBONE else f" --backbone {name}"
    result = {
        "command": f"python -m benchmarks.latency --rounds {rounds}{other}",
        "backbone": name,
        "size": list(TIMED_SIZE),
        "rounds": rounds,
        **machine(),
        "rows": rows,
    }
    print(table(result))
    if not quick:
        save(f"latency-{name}" if other else "latency", result, table(result))


def measure(
    host: Host, backbone: Backbone, rounds: int, methods: Sequence[str]
) -> list[dict[str, Any]]:
    """A row a network: CPU seconds, and the ratio to the backbone of the same round."""
    ready = prepare(backbone)
    as_models_run_it = repeating(lambda tensors: list(ready(tensors[0])), ready)
    names = list(OUTPUTS)
    modules = {m: modules_of(decoder_of(host, m, backbone.info, names)) for m in methods}
    many = [names[i % len(names)] for i in range(MANY)]
    sixteen = [head_of(host, None, backbone.info, name).eval() for name in many]
    images = torch.rand(1, 3, *TIMED_SIZE)

    def fast(images: Tensor) -> list[Tensor]:
        return as_models_run_it([images])

    for _ in range(PATIENCE):
        fast(images)
    runs: dict[str, Callable[[], object]] = {
        "backbone": lambda: fast(images),
        PLAIN_NETWORKS: lambda: backbone(images),
        "backbone, not recorded": lambda: ready(images),
    }
    for method, own in modules.items():
        runs[f"{method}, {len(names)} tasks"] = recorded_on(fast, images, own)
        plain = [as_network(module) for module in own]
        runs[f"{method}, {len(names)} tasks, not recorded"] = partial(run, fast, images, plain)
    runs[f"Medusa, {MANY} heads"] = recorded_on(fast, images, sixteen)
    if PEERS[0] in modules:
        alone = [recorded_on(fast, images, [head]) for head in modules[PEERS[0]]]
        runs[f"{SINGLE}, {len(names)} tasks"] = lambda: [one() for one in alone]
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


def modules_of(decoder: Any) -> list[nn.Module]:
    """One for every head, or one for all tasks where they are coupled."""
    return list(getattr(decoder, "own", [decoder]))


def as_network(module: nn.Module) -> Network:
    """A head or decoder, prepared."""
    fast = prepare(module)

    def network(features: Sequence[Tensor]) -> list[Tensor]:
        found = fast(list(features))
        return list(found.values()) if isinstance(found, dict) else [found]

    return network


def run(fast: Any, images: Tensor, networks: Sequence[Network]) -> None:
    """A backbone and what reads its features, operation by operation."""
    features = fast(images)
    for network in networks:
        network(features)


def recorded_on(fast: Any, images: Tensor, modules: Sequence[nn.Module]) -> Callable[[], None]:
    """The same from recordings, as models do it: heads that can be are run side by side."""
    desk = Desk()
    groups = [modules[i : i + MOST_JOINED] for i in range(0, len(modules), MOST_JOINED)]
    plans = [([as_network(module) for module in group], joining(group)) for group in groups]
    wanted = [networks for networks, join in plans if join]

    def recorded() -> None:
        features = fast(images)
        with desk.holding(features, wanted) as held:
            for networks, join in plans:
                if held is None or join is None or held.run_together(networks, join) is None:
                    for network in networks:
                        if held is None or held.run(network) is None:
                            network(features)

    return recorded


def joining(modules: Sequence[nn.Module]) -> Callable[[], Network | None] | None:
    """What makes one network of several heads, if they are of a kind that has it."""
    heads = [module for module in modules if isinstance(module, Head)]
    fits = len(heads) == len(modules) > 1 and heads[0].family is not None
    return partial(joined, heads, Execution()) if fits else None


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
        "All but the second row are prepared (BatchNorm folded, convolutions packed). Backbones of "
        "few weights, heads and decoders are run from recordings where nothing else is said of "
        "these, Medusa's heads side by side"
        + ("." if result["backbone"] == BACKBONE else " where features are small enough."),
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
