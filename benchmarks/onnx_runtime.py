"""Models exported to ONNX and run by ONNX Runtime, beside Medusa's own inference.

One thread, a batch of one, networks with random weights, in turns. Exported as
`docs/how-to/deploy.md` says; not part of the package.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor, nn

from benchmarks.costs import OUTPUTS, TIMED_SIZE, head_of
from benchmarks.latency import spread
from benchmarks.peers.host import peers_host
from benchmarks.report import machine, save
from medusa_core.backbones.timm_backbone import Backbone, build, describe
from medusa_core.heads.base import Head
from medusa_core.model.execution import Execution, Runner
from medusa_core.model.inference import prepare
from medusa_core.workflows.bench import interleaved

BACKBONES = ("hrnet_w18_small_v2", "hrnet_w18_small", "mobilenetv2_100", "resnet18")


class Whole(nn.Module):
    """A backbone and heads as one network: images → predictions, or features without heads."""

    def __init__(self, backbone: Backbone, heads: dict[str, Head]) -> None:
        super().__init__()
        self.backbone, self.heads = backbone, nn.ModuleDict(heads)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, H, W)` → maps."""
        features = self.backbone(images)
        return tuple(head(features) for head in self.heads.values()) or tuple(features)


@click.command()
@click.option("--rounds", default=30, show_default=True)
@click.option("--quick", is_flag=True, help="A tiny backbone, two rounds; nothing is recorded.")
def main(rounds: int, quick: bool) -> None:
    """Measure, and write results/onnx_runtime.{json,md}."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names, rounds = (("test_resnet",), 2) if quick else (BACKBONES, rounds)
    result = {
        "command": f"python -m benchmarks.onnx_runtime --rounds {rounds}",
        "size": list(TIMED_SIZE),
        "rounds": rounds,
        "tasks": list(OUTPUTS),
        **machine("onnxruntime"),
        "rows": [measure(name, rounds) for name in names],
    }
    print(table(result))
    if not quick:
        save("onnx_runtime", result, table(result))


@torch.inference_mode()
def measure(name: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of CPU an image, and how far predictions are apart."""
    host, backbone = peers_host(), build(describe(name)).freeze()
    heads = {task: head_of(host, None, backbone.info, task).eval() for task in OUTPUTS}
    images = torch.rand(1, 3, *TIMED_SIZE)
    runner, alone = Runner(backbone, Execution()), prepare(backbone)
    theirs_alone, theirs = exported(backbone, {}, images), exported(backbone, heads, images)
    ours = partial(runner, images, heads)
    runs: dict[str, Callable[[], Any]] = {
        "backbone, medusa": partial(alone, images),
        "backbone, onnxruntime": theirs_alone,
        "six heads, medusa": ours,
        "six heads, onnxruntime": theirs,
    }
    for _ in range(3):  # heads are recorded when their features come for the second time
        expected = ours().values()
    apart = max(
        float((torch.from_numpy(found) - wanted).norm() / wanted.norm())
        for found, wanted in zip(theirs(), expected, strict=True)
    )
    seconds = interleaved(runs, rounds, time.process_time)
    return {
        "backbone": name,
        "apart": apart,
        "ms": {run: [1e3 * second for second in found] for run, found in seconds.items()},
    }


def exported(backbone: Backbone, heads: dict[str, Head], images: Tensor) -> Callable[[], list[Any]]:
    """A run of the exported network by ONNX Runtime, on one thread."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.no_grad():
        file = Path(folder) / "network.onnx"
        program: Any = torch.onnx.export(
            Whole(backbone, heads).eval(), (images.clone(),), input_names=["images"], verbose=False
        )
        program.save(file)
        session = runtime.InferenceSession(str(file), options)
    return partial(session.run, None, {"images": images.numpy()})


def table(result: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# ONNX Runtime",
        "",
        f"`{result['command']}`. {result['size'][0]}×{result['size'][1]}, one thread, milliseconds "
        f"of CPU an image, medians of {result['rounds']} rounds in turns; Medusa's over ONNX "
        "Runtime's as medians and quartiles of rounds. Apart: largest RMS difference of a head's "
        "raw predictions, relative.",
        "",
        "| backbone | alone: Medusa | ONNX Runtime | with six heads: Medusa | ONNX Runtime "
        "| Medusa / ONNX Runtime, with heads | apart |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        ms = row["ms"]
        ours, theirs = ms["six heads, medusa"], ms["six heads, onnxruntime"]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        low, high = spread(ratios)
        shown = " | ".join(f"{median(found):.1f}" for found in ms.values())
        lines.append(
            f"| {row['backbone']} | {shown} | {median(ratios):.2f} ({low:.2f}–{high:.2f}) "
            f"| {row['apart']:.0e} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
