"""What 1 to 6 tasks cost: parameters, multiply-accumulates and CPU time of every method.

The backbone is HRNet-W18-small-v2, as in most multi-task papers. Nothing is trained: costs do not
depend on weights.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers.blocks import PerTask
from benchmarks.peers.coupled import CoupledDecoder, MTINet, PADNet
from benchmarks.peers.host import peers_host
from benchmarks.report import machine, save
from medusa_core.api import FeatureInfo, LabelSchema
from medusa_core.backbones.timm_backbone import Backbone, build, describe
from medusa_core.heads.base import Head
from medusa_core.model import costs
from medusa_core.model.assembly import complete_head_ref, make_head, make_task
from medusa_core.plugin_host.host import Host
from medusa_core.store.manifest import COST_SIZE

BACKBONE = "hrnet_w18_small_v2"
OUTPUTS = {"semseg": 40, "depth": 1, "normals": 3, "edges": 1, "saliency": 1, "human_parts": 7}
"""Task → channels of its raw prediction, in the order in which tasks are added."""
TIMED_SIZE = (256, 320)
UNCOUPLED = {
    "shared backbone + plain heads": "plain",
    "Medusa": None,
    "MTI-Net's per-task decoders": "mtinet_task",
    "linear heads": "linear",
}
"""Method → its head architecture; None: the one each task asks for, with the task's settings."""
SINGLE = "single-task networks"
COUPLED: dict[str, type[CoupledDecoder]] = {"PAD-Net": PADNet, "MTI-Net": MTINet}
REFERENCE = {
    "shared backbone + plain heads": {
        1: (3.95, 11.37, 1.20),
        2: (4.02, 12.77, 1.37),
        3: (4.09, 14.19, 1.52),
        4: (4.17, 15.59, 1.67),
        5: (4.24, 17.00, 1.90),
        6: (4.32, 18.43, 1.96),
    },
    "PAD-Net": {
        2: (7.02, 70.3, 3.65),
        3: (12.09, 167.6, 7.4),
        4: (19.52, 310.2, 10.7),
        5: (29.31, 498.1, 15.7),
        6: (41.46, 731.3, 25.7),
    },
    "MTI-Net": {
        2: (8.58, 17.14, 1.81),
        3: (12.65, 22.24, 2.37),
        4: (17.96, 28.39, 2.88),
        5: (24.50, 35.59, 3.38),
        6: (32.28, 43.90, 3.94),
    },
}
"""Method → tasks → (M parameters, GMACs, time / backbone), collected before this code was written.

Times are another machine's; GMACs include the initial predictions, which only training needs.
"""


class Independent(nn.Module):
    """Heads side by side: what a decoder is without coupling."""

    def __init__(self, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.heads = PerTask(heads)
        self.names = tuple(heads)

    @property
    def own(self) -> list[Head]:
        """The heads, in order."""
        return [self.heads.of(name) for name in self.names]

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Task → raw prediction, each from the shared features alone."""
        return {name: self.heads.of(name)(features) for name in self.names}


@click.command()
@click.option("--quick", is_flag=True, help="Times of one run, of few tasks; nothing is recorded.")
@click.option(
    "--rounds", type=int, default=9, show_default=True, help="Timed runs of each network."
)
def main(quick: bool, rounds: int) -> None:
    """Count, time, and write results/costs.{json,md}."""
    torch.set_num_threads(1)
    rounds = 1 if quick else rounds
    host = peers_host()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build(describe(BACKBONE)).freeze()
    rows = []
    for count in range(1, len(OUTPUTS) + 1):
        found = count_and_time(host, backbone, count, rounds, quick)
        rows += found
        for row in found:
            print(json.dumps(row), flush=True)
    result = {
        "command": "python -m benchmarks.costs" + (" --quick" if quick else f" --rounds {rounds}"),
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        **machine(),
        "backbone": {
            "name": BACKBONE,
            "params": costs.parameters(backbone),
            "gmacs": costs.backbone_gmacs(backbone),
        },
        "counted_size": list(COST_SIZE),
        "timed_size": list(TIMED_SIZE),
        "tasks": OUTPUTS,
        "rows": rows,
        "reference": REFERENCE,
    }
    print(table(result))
    if not quick:
        save("costs", result, table(result))


def count_and_time(
    host: Host, backbone: Backbone, count: int, rounds: int, quick: bool
) -> list[dict[str, Any]]:
    """A row a method: its costs with the first `count` tasks."""
    names = list(OUTPUTS)[:count]
    decoders = {
        method: decoder_of(host, method, backbone.info, names) for method in (*UNCOUPLED, *COUPLED)
    }
    networks: dict[str, Callable[[Tensor], object]] = {
        method: nn.Sequential(backbone, decoder)
        for method, decoder in decoders.items()
        if decoder is not None and not (quick and method == "PAD-Net" and count > 2)
    }
    plain = decoders["shared backbone + plain heads"]
    networks[SINGLE] = lambda images: [head(backbone(images)) for head in plain.own]
    seconds, ratios = timed(backbone, networks, rounds)
    rows = []
    for method in (SINGLE, *decoders):
        decoder = plain if method == SINGLE else decoders[method]
        if decoder is None:
            continue
        cost = single_task_cost(backbone, plain) if method == SINGLE else cost_of(backbone, decoder)
        own = ratios.get(method, [])
        times = {"time": median(own), "lowest": min(own), "highest": max(own)} if own else {}
        rows.append({"method": method, "tasks": count, **cost, **times})
    rows[0]["backbone_seconds"] = seconds
    return rows


def decoder_of(
    host: Host, method: str, features: FeatureInfo, names: Sequence[str]
) -> Any:  # Independent or CoupledDecoder
    """A method's decoder for some tasks, in evaluation mode; None: one task is too few for it."""
    if method in COUPLED:
        if len(names) < 2:
            return None
        module: nn.Module = COUPLED[method](features, {name: OUTPUTS[name] for name in names})
    else:
        module = Independent({n: head_of(host, UNCOUPLED[method], features, n) for n in names})
    return module.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def head_of(host: Host, architecture: str | None, features: FeatureInfo, name: str) -> Head:
    """A head as `medusa add-task NAME [--head ARCHITECTURE]` builds it."""
    spec = host.tasks.get(name)
    labels = LabelSchema(names=tuple(f"class {i}" for i in range(OUTPUTS[name])))
    task = make_task(host, spec, labels if spec.has_labels else None)
    if task.out_channels != OUTPUTS[name]:
        raise ValueError(f"{name} predicts {task.out_channels} channels, not {OUTPUTS[name]}")
    return make_head(host, complete_head_ref(host, spec, architecture, {}), features, OUTPUTS[name])


def cost_of(backbone: Backbone, decoder: Independent | CoupledDecoder) -> dict[str, Any]:
    """Parameters and GMACs of a whole network; of an uncoupled one, whether its parts add up.

    gmacs_in_training: with the initial predictions of coupled decoders.
    """
    cost = {
        "params": costs.parameters(nn.ModuleList([backbone, decoder])),
        "gmacs": counted(backbone, decoder, "forward"),
    }
    if isinstance(decoder, CoupledDecoder):
        return {**cost, "gmacs_in_training": counted(backbone, decoder, "training_outputs")}
    parts = costs.parameters(backbone) + sum(map(costs.parameters, decoder.own))
    macs = macs_of(costs.backbone_gmacs(backbone)) + sum(
        macs_of(costs.head_gmacs(head, backbone.info)) for head in decoder.own
    )
    return {**cost, "adds_up": cost["params"] == parts and macs_of(cost["gmacs"]) == macs}


def single_task_cost(backbone: Backbone, plain: Independent) -> dict[str, Any]:
    """A backbone and a plain head for each task."""
    params, gmacs = costs.parameters(backbone), costs.backbone_gmacs(backbone)
    return {
        "params": sum(params + costs.parameters(head) for head in plain.own),
        "gmacs": sum(gmacs + costs.head_gmacs(head, backbone.info) for head in plain.own),
    }


def counted(backbone: Backbone, decoder: nn.Module, method: str) -> float:
    """10⁹ multiply-accumulates of one image of `COST_SIZE`; convolutions and matrix products."""
    twins = [copy.deepcopy(m).to("meta").eval() for m in (backbone, decoder)]
    image = torch.empty(1, 3, *COST_SIZE, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        getattr(twins[1], method)(twins[0](image))
    return counter.get_total_flops() / 2e9


def macs_of(gmacs: float) -> int:
    """The whole number behind a count."""
    return round(gmacs * 1e9)


@torch.inference_mode()
def timed(
    backbone: Backbone, networks: Mapping[str, Callable[[Tensor], object]], rounds: int
) -> tuple[float, dict[str, list[float]]]:
    """Median CPU seconds of the backbone; a network: CPU time / backbone's, of every round.

    Networks take turns, each right after a run of the bare backbone that it is compared with.
    """
    images = torch.rand(1, 3, *TIMED_SIZE)
    for network in networks.values():
        network(images)
    alone: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            alone.append(_cpu_seconds(backbone, images))
            ratios[name].append(_cpu_seconds(network, images) / alone[-1])
    return median(alone), ratios


def _cpu_seconds(network: Callable[[Tensor], object], images: Tensor) -> float:
    started = time.process_time()
    network(images)
    return time.process_time() - started


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    backbone, rows = result["backbone"], result["rows"]
    by_method: dict[str, dict[int, Any]] = {row["method"]: {} for row in rows}
    for row in rows:
        by_method[row["method"]][row["tasks"]] = row
    tasks = list(result["tasks"].items())
    counts = range(1, len(tasks) + 1)
    uncoupled = [row for row in rows if "adds_up" in row]
    correct = sum(row["adds_up"] for row in uncoupled)
    seconds = median(row["backbone_seconds"] for row in rows if "backbone_seconds" in row)
    timed_size, counted_size = (
        "×".join(map(str, result[f"{k}_size"])) for k in ("timed", "counted")
    )
    lines = [
        "# What 1 to 6 tasks cost",
        "",
        f"`{result['command']}`. Backbone `{backbone['name']}`: {backbone['params'] / 1e6:.3f} M "
        f"parameters, {backbone['gmacs']:.2f} GMACs. Tasks are added in the order "
        f"{', '.join(f'{name} ({channels})' for name, channels in tasks)}; in brackets the "
        "channels of their predictions.",
        "",
        f"M parameters / GMACs at {counted_size} / CPU time at {timed_size} as a multiple of the "
        f"bare backbone's ({seconds:.3f} s):",
        "",
        f"| method | {' | '.join(f'{n} task' + 's' * (n > 1) for n in counts)} |",
        "|---|" + "---|" * len(counts),
    ]
    for method, found in by_method.items():
        cells = [_cell(found.get(n)) for n in counts]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines += [
        "",
        "GMACs are convolutions and matrix products up to the raw predictions. Times are medians "
        f"over {result['rounds']} rounds on {result['threads']} thread, each run paired with one "
        "of the bare backbone; no final resampling to the size of the image. Networks are timed as "
        "they are trained; `python -m benchmarks.latency` prepares them for inference first. "
        "PAD-Net and MTI-Net need two tasks. Initial predictions, which only training needs, count "
        "as parameters and are not computed.",
        "",
        f"Parameters and multiply-accumulates are exactly those of the backbone plus those of "
        f"every head, counted apart: {correct} of {len(uncoupled)} uncoupled networks.",
        "",
        "## The peers beside reference figures",
        "",
        "Collected before this code was written, times on another machine. GMACs of PAD-Net and "
        "MTI-Net include the initial predictions here. Ours / reference:",
        "",
        "| method | tasks | M parameters | GMACs | time |",
        "|---|---|---|---|---|",
    ]
    for method, known in result["reference"].items():
        for count, (params, gmacs, ratio) in known.items():
            row = by_method[method].get(int(count))  # of a record that was read: text
            if row is None:
                continue
            own = row.get("gmacs_in_training", row["gmacs"])
            time_ = f"{row['time']:.2f}" if "time" in row else "–"
            lines.append(
                f"| {method} | {count} | {row['params'] / 1e6:.2f} / {params:.2f} | "
                f"{own:.2f} / {gmacs} | {time_} / {ratio} |"
            )
    versions_ = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    return "\n".join([*lines, "", f"{result['machine']}. {versions_}.", ""])


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    ratio = f"{row['time']:.2f}" if "time" in row else "–"
    return f"{row['params'] / 1e6:.2f} / {row['gmacs']:.2f} / {ratio}"


if __name__ == "__main__":
    main()
