"""What heads add to the time of a batch on a graphics card, in several ways of running networks.

`eager` starts every kernel anew, as models do, `recorded` replays CUDA graphs, `compiled` replays
graphs of what `torch.compile` generates. Nothing is trained: times do not depend on weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor, nn

from benchmarks.costs import BACKBONE, OUTPUTS, head_of
from benchmarks.peers.host import peers_host
from benchmarks.recorded import Network, Recorded
from benchmarks.report import device_name, machine, save
from medusa_core.backbones.timm_backbone import Backbone, build, describe
from medusa_core.model.costs import backbone_gmacs, head_gmacs
from medusa_core.model.execution import to_bfloat16
from medusa_core.model.inference import prepare
from medusa_core.workflows.bench import interleaved

SIZE = (480, 640)
BATCHES = (1, 32)
HEADS = (1, 2, 4, 8, 16)
PEAK_TFLOPS = {"fp32": 494.7, "bf16": 989.4}
"""Dense peak of an H100 or H200 (SXM) by its datasheet; float32 convolutions run as TF32."""


@click.command()
@click.option("--rounds", default=30, show_default=True)
@click.option("--compiled/--no-compiled", default=True, show_default=True)
@click.option("--batch", "batches", type=int, multiple=True, default=BATCHES, show_default=True)
@click.option("--quick", is_flag=True, help="Few rounds; nothing is written.")
def main(rounds: int, compiled: bool, batches: tuple[int, ...], quick: bool) -> None:
    """Measure, and write results/gpu.{json,md}."""
    rounds = 3 if quick else rounds
    compiler: Any = torch._dynamo.config
    limit = "recompile_limit" if hasattr(compiler, "recompile_limit") else "cache_size_limit"
    setattr(compiler, limit, 8 * max(HEADS))  # one code, many heads
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.gpu --rounds {rounds}"
        + ("" if compiled else " --no-compiled"),
        "backbone": BACKBONE,
        "size": list(SIZE),
        "rounds": rounds,
        "device": device_name("cuda"),
        "peak_tflops": PEAK_TFLOPS,
        **machine(),
        "rows": [],
    }
    quickest_first = [(("eager", "recorded"), False), (("compiled",), True)]
    for modes, generated in quickest_first:
        for precision, batch in product(PEAK_TFLOPS, batches):
            if compiled or not generated:
                record["rows"] += measure(precision, batch, modes, rounds)
                print(table(record), flush=True)
                if not quick:
                    save("gpu", record, table(record))  # compiling may take longer than one has


@torch.inference_mode()
def measure(precision: str, batch: int, modes: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """A row a mode: milliseconds of a batch with the backbone alone and with heads."""
    host, names = peers_host(), list(OUTPUTS)
    torch.manual_seed(0)
    backbone = build(describe(BACKBONE)).freeze()
    chosen = [names[i % len(names)] for i in range(max(HEADS))]
    heads = [head_of(host, None, backbone.info, name).eval() for name in chosen]
    gmacs = [backbone_gmacs(backbone), *(head_gmacs(head, backbone.info) for head in heads)]
    images = torch.rand(batch, 3, *SIZE, device="cuda")
    ready = [prepare(module.cuda()) for module in (backbone, *heads)]
    if precision == "bf16":
        for module in ready:
            to_bfloat16(module)
    runs: dict[tuple[str, int], Callable[[], object]] = {}
    for mode in modes:
        networks = [_network(module, mode) for module in ready]
        for count in (0, *HEADS):
            runs[mode, count] = partial(_run, networks[: count + 1], images)
    seconds = interleaved(runs, rounds, time.perf_counter, torch.cuda.synchronize)
    result = []
    for mode in modes:
        base = seconds[mode, 0]
        own = {count: median(seconds[mode, count]) for count in (0, *HEADS)}
        rates = {
            count: batch * 2e-3 * sum(gmacs[: count + 1]) / found for count, found in own.items()
        }
        result.append(
            {
                "precision": precision,
                "batch": batch,
                "mode": mode,
                "ms": {str(count): found * 1e3 for count, found in own.items()},
                "of_backbone": {
                    str(count): median(
                        a / b for a, b in zip(seconds[mode, count], base, strict=True)
                    )
                    for count in HEADS
                },
                "images_per_second": {str(c): batch / found for c, found in own.items()},
                "share_of_peak": {
                    str(c): rate / PEAK_TFLOPS[precision] for c, rate in rates.items()
                },
            }
        )
    return result


def _network(module: nn.Module, mode: str) -> Network:
    called: Callable[[Any], Any] = module
    if mode == "compiled":
        called = torch.compile(module)

    def network(tensors: Sequence[Tensor]) -> list[Tensor]:
        if isinstance(module, Backbone):
            return list(called(tensors[0]))
        return [called(list(tensors))]

    return network if mode == "eager" else Recorded(network)


def _run(networks: Sequence[Network], images: Tensor) -> list[Tensor]:
    backbone, *heads = networks
    features = backbone([images])
    return [head(features)[0] for head in heads]


def table(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    height, width = record["size"]
    counts = [str(count) for count in HEADS]
    columns = ["precision", "batch", "networks", "backbone ms", *(f"{c} heads" for c in counts)]
    columns += ["images/s, backbone", "with 16 heads", "share of peak, backbone"]
    lines = [
        "# What heads add on a graphics card",
        "",
        f"`{record['command']}` on {record['device']}. `{record['backbone']}`, {height}×{width}; "
        f"wall time of a batch, medians of {record['rounds']} rounds in which all take turns. "
        "Columns of heads: time over that of the backbone run in the same way. Peak: dense, "
        + ", ".join(f"{k} {v:g} TFLOP/s" for k, v in record["peak_tflops"].items())
        + " (float32 convolutions run as TF32).",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for row in record["rows"]:
        cells = [row["precision"], str(row["batch"]), row["mode"], f"{row['ms']['0']:.2f}"]
        cells += [f"{row['of_backbone'][count]:.2f}" for count in counts]
        cells += [f"{row['images_per_second'][count]:.0f}" for count in ("0", counts[-1])]
        cells += [f"{row['share_of_peak']['0']:.1%}"]
        lines.append("| " + " | ".join(cells) + " |")
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    return "\n".join([*lines, "", f"{versions}.", ""])


if __name__ == "__main__":
    main()
