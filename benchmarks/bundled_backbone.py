"""A jointly trained backbone on the tasks it never saw; with `--install`, bundle it.

The backbone comes from the two commands that the model card names. Then, on the frozen backbone, a
head is trained for every task of `rooms` that it never saw, beside `linear` and `constant` heads
and beside the same head on a random backbone; all are scored on *val*.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import medusa_core
from medusa_core.cli._progress import LineProgress
from medusa_core.engine.bootstrap import paired_difference
from medusa_core.engine.datasets import DataRef
from medusa_core.engine.evaluator import HeadScores
from medusa_core.model.opening import open_model
from medusa_core.plugin_host.host import default_host
from medusa_core.store.commit import create
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.evaluate import score
from medusa_core.workflows.init import init

BUNDLE = Path(medusa_core.__file__).parent / "bundled"
CARD = Path(__file__).parent.parent / "docs" / "reference" / "model-card.md"
DATA = "rooms"
DEMO_TASKS = 2
KINDS = ("medusa", "linear", "constant")


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), default=Path("bundle-work"))
@click.option("--steps", type=int, default=600, show_default=True, help="Of each unseen head.")
@click.option("--demo", "demo_tasks", multiple=True, help="Unseen tasks that the demo adds.")
@click.option("--install", is_flag=True, help="Make it the bundled backbone, and write its card.")
def main(model: Path, work: Path, steps: int, demo_tasks: tuple[str, ...], install: bool) -> None:
    """Measure the backbone of MODEL and print its card."""
    with ModelFolder.open(model) as folder:
        record, weights = folder.manifest.backbone, folder.read_backbone_bytes()
    host = default_host()
    offered = host.datasets.get(DATA).targets
    trained = list(record.provenance["trained_on"])
    unseen = [name for name in host.tasks.names if name in offered and name not in trained]
    frozen, random = work / record.fingerprint[:12], work / f"random-{record.name}"
    if not frozen.exists():
        create(frozen, record, weights)
    if not random.exists():
        init(random, backbone=record.name, from_scratch=True, seed=1)
    for task in unseen:
        for kind in KINDS:
            _add(frozen, task, kind, steps)
        _add(random, task, "medusa", steps)
    provenance = record.provenance
    tasks = ",".join(trained)
    card = {
        "name": "rooms-1",
        "backbone": record.name,
        "feature_levels": dict(zip(map(str, record.strides), record.channels, strict=True)),
        "trained_on": trained,
        "held_out": unseen,
        "demo_tasks": list(demo_tasks) or unseen[:DEMO_TASKS],
        "commands": [
            f"medusa init universal --backbone {record.name} --from-scratch",
            f"medusa train-backbone universal --tasks {tasks} --steps {provenance['steps']} "
            f"--lr {provenance['lr']}",
            f"python -m benchmarks.bundled_backbone universal --steps {steps} --install",
        ],
        "training": {
            key: provenance[key]
            for key in ("dataset", "images", "size", "steps", "batch", "lr", "seed", "cpu_seconds")
        },
        "versions": provenance["versions"],
        "fingerprint": record.fingerprint,
        "trained_scores": _trained_scores(model, trained),
        "unseen_scores": {task: _unseen_scores(frozen, random, task) for task in unseen},
        "unseen_steps": steps,
    }
    click.echo(render(card))
    if install:
        BUNDLE.mkdir(exist_ok=True)
        (BUNDLE / "backbone.safetensors").write_bytes(weights)
        (BUNDLE / "backbone.json").write_text(record.model_dump_json(indent=1) + "\n")
        (BUNDLE / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        CARD.write_text(render(card))


def _add(model: Path, task: str, kind: str, steps: int) -> None:
    name = f"{task}_{kind}"
    with ModelFolder.open(model) as folder:
        if name in folder.heads:
            return
    add_task(
        task,
        model=model,
        name=name,
        data=[DATA],
        progress=LineProgress(30),
        head=kind,
        steps=steps,
        batch=16,
    )


def _score(model: Path, names: list[str]) -> dict[str, HeadScores]:
    opened = open_model(model, names)
    return score(opened, names, [DataRef(DATA)], "val", None, None, LineProgress(30))[0]


def _trained_scores(model: Path, trained: list[str]) -> dict[str, Any]:
    specs = open_model(model, trained).tasks
    found = _score(model, trained)
    return {
        name: {"metric": specs[name].spec.primary_metric.name, **found[name].scores.figures()}
        for name in trained
    }


def _unseen_scores(frozen: Path, random: Path, task: str) -> dict[str, Any]:
    names = [f"{task}_{kind}" for kind in KINDS]
    found = {name: result.scores for name, result in _score(frozen, names).items()}
    control = _score(random, [names[0]])[names[0]].scores
    metric = default_host().tasks.get(task).primary_metric
    difference, (low, high) = paired_difference(
        found[names[0]], found[names[1]], metric.name, draws=1000
    )
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        **{kind: found[f"{task}_{kind}"].figures()[metric.name] for kind in KINDS},
        "random_backbone": control.figures()[metric.name],
        "medusa_minus_linear": [difference, low, high],
    }


def render(card: dict[str, Any]) -> str:
    """The model card as Markdown."""
    training = card["training"]
    lines = [
        "# Model card: the bundled universal backbone",
        "",
        f"`{card['backbone']}` (raw features) trained from scratch by this project on "
        f"`{training['dataset']}`, synthetic indoor scenes, jointly on "
        f"**{', '.join(card['trained_on'])}**. It never saw **{', '.join(card['held_out'])}**.",
        "",
        "It is small, and it has seen synthetic rooms only: good for trying things out, for tests "
        "and for the demo. For photographs, start from pretrained weights.",
        "",
        "```",
        *card["commands"],
        "```",
        "",
        f"{training['images']} images of {training['size'][0]}×{training['size'][1]}, "
        f"{training['steps']} steps of {training['batch']}, seed {training['seed']}, "
        f"{training['cpu_seconds'] / 60:.0f} CPU minutes. Fingerprint "
        f"`{card['fingerprint'][:12]}…`. "
        + ", ".join(f"{k} {v}" for k, v in card["versions"].items())
        + ".",
        "",
        "## Tasks it was trained on (rooms val, 300 images, jointly trained heads)",
        "",
        "| task | metric | score |",
        "|---|---|---|",
    ]
    for name, row in card["trained_scores"].items():
        lines.append(f"| {name} | {row['metric']} | {row[row['metric']]:.3f} |")
    lines += [
        "",
        f"## Tasks it never saw (rooms val, {card['unseen_steps']} steps a head, backbone frozen)",
        "",
        "| task | metric | medusa | linear | constant | medusa − linear [95 %] | medusa, random "
        "backbone |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in card["unseen_scores"].items():
        d, low, high = row["medusa_minus_linear"]
        arrow = "↑" if row["higher_is_better"] else "↓"
        unit = f" {row['unit']}" if row["unit"] else ""
        values = " | ".join(f"{row[kind]:.3f}" for kind in KINDS)
        lines.append(
            f"| {name} | {row['metric']}{unit} {arrow} | {values} | {d:+.3f} [{low:+.3f}, "
            f"{high:+.3f}] | {row['random_backbone']:.3f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
