"""How the networks of a model are run: as they are, prepared, in bfloat16, compiled, by OpenVINO.

Whatever way is chosen, each head's first image is run as it is, too, and the two are compared.
Heads, and backbones of few weights, that are prepared are run from recordings once the shape of
small images repeats.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.errors import ExecutionError, MedusaWarning, UsageError
from medusa_core.extras import require_extra
from medusa_core.heads.base import Head
from medusa_core.model.images import own_levels
from medusa_core.model.inference import computes_bfloat16, keep_memory, prepare
from medusa_core.model.memory import is_out_of_memory
from medusa_core.model.recorded_calls import Network
from medusa_core.model.recording import Desk, repeating
from medusa_core.plugin_host.attribution import head_output, running

ENGINES = ("torch", "openvino", "plain")
INFERENCE_PRECISIONS = ("fp32", "bf16")
MOST_JOINED = 8
"""Heads that are run as one network."""
LIMITS = {"fp32": 1e-3, "bf16": 0.05}
"""Precision → how far predictions may move: RMS of the difference / RMS of the plain prediction."""
TF32_LIMIT = 5e-3
"""The same for fp32 on graphics cards, whose convolutions round to 11 bits unless told not to."""


@dataclass(frozen=True)
class Execution:
    """How to run networks.

    engine: "torch", prepared for inference; "openvino", on the CPU, an extra; "plain", as trained.
    precision: number format of the networks, "fp32" or "bf16"; plain is "fp32".
    compiled: have `torch.compile` generate code; takes a minute or more, and pays for long runs.
        Of "torch" alone.
    """

    engine: str = "torch"
    precision: str = "fp32"
    compiled: bool = False

    def check(self) -> None:
        """Refuse what does not exist or does not go together.

        Raises:
            UsageError: unknown, contradictory, or OpenVINO is not installed.
        """
        if self.engine not in ENGINES:
            raise UsageError(f"--engine {self.engine}: one of {', '.join(ENGINES)} is needed.")
        if self.precision not in INFERENCE_PRECISIONS:
            raise UsageError(
                f"--precision {self.precision}: one of {', '.join(INFERENCE_PRECISIONS)} is needed."
            )
        if self.compiled and self.engine != "torch":
            raise UsageError(f"--compile does not go with --engine {self.engine}.")
        if self.engine == "plain" and self.precision != "fp32":
            raise UsageError(
                "--engine plain is the float32 reference.", hint="Leave --precision out."
            )
        if self.engine == "openvino":
            require_extra("openvino", "--engine openvino", "openvino")

    def __str__(self) -> str:
        return f"{self.engine}, {self.precision}" + (", compiled" * self.compiled)


class Runner:
    """The backbone and heads of one model, made ready for an execution when first used."""

    def __init__(self, backbone: Backbone, execution: Execution) -> None:
        execution.check()
        self.backbone = backbone
        self.execution = execution
        self._networks: dict[str | None, Network] = {}
        self._spoilers: set[str] = set()  # heads that write to their features
        self._refused: set[str] = set()  # those that are run as they were trained
        self._desk = Desk()
        keep_memory()

    def __reduce__(self) -> tuple[type[Runner], tuple[Backbone, Execution]]:
        """Copies begin anew: what was made ready belongs to these networks."""
        return Runner, (self.backbone, self.execution)

    def forget(self, names: Iterable[str] | None = None) -> None:
        """Drop what was made from heads, or from everything: they changed, or moved.

        A call in another thread goes on with what it began with.
        """
        dropped = set(self._networks if names is None else names)
        self._networks = {n: made for n, made in self._networks.items() if n not in dropped}
        self._desk = Desk()
        self._spoilers &= self._networks.keys()
        self._refused &= self._networks.keys()

    def __call__(self, images: Tensor, heads: Mapping[str, Head]) -> dict[str, Tensor]:
        """Head name → raw prediction as the head gives it, in float32.

        Args:
            images: `(B, 3, H, W) float32`, H and W multiples of the backbone's stride.
            heads: by name.

        Raises:
            ExecutionError: a prediction moves too far, or a network cannot be run in this way.
        """
        if self._must_be_plain(images, heads):
            features = self.backbone(images)
            return {name: head_output(head, own_levels(features)) for name, head in heads.items()}
        with torch.no_grad():
            networks = self._networks
            new = {name: head for name, head in heads.items() if name not in networks}
            if new:
                self._make_ready(_comparable(images[:1]), new, networks)
            refused = self._refused & heads.keys()
            plain = self.backbone(images) if refused else []
            fast = networks[None]([images]) if len(refused) < len(heads) else []
            groups = [{name: networks[name] for name in group} for group in self._groups(heads)]
            with self._on_desk(heads.values(), fast, groups) as desk:
                done = {} if desk is None else self._together(groups, heads, desk)
                for name in [name for name in heads if name not in done]:
                    features = plain if name in refused else fast
                    done[name] = self._head(name, heads[name], networks[name], features, desk)
                return {name: done[name] for name in heads}

    @torch.inference_mode()
    def parts(
        self, images: Tensor, heads: Mapping[str, Head]
    ) -> tuple[Callable[[], object], dict[str, Callable[[], object]], Callable[[], object]]:
        """What is to be timed: the backbone, each head on its features, and `__call__`.

        A head that is run as it was trained is timed with a backbone of its own.
        """
        if self.execution.engine == "plain":
            self._networks = {None: _plain(self.backbone)}
            self._networks |= {name: _plain(head) for name, head in heads.items()}
        new = {name: head for name, head in heads.items() if name not in self._networks}
        self._make_ready(images[:1], new, self._networks)
        network = self._networks[None]
        features = network([images])
        by_name: dict[str, Callable[[], object]] = {
            name: partial(self._as_trained, name, head, images)
            if name in self._refused
            else partial(self._alone, name, head, features)
            for name, head in heads.items()
        }
        return lambda: network([images]), by_name, partial(self, images, heads)

    def _as_trained(self, name: str, head: Head, images: Tensor) -> Tensor:
        return self._head(name, head, self._networks[name], self.backbone(images), None)

    def _alone(self, name: str, head: Head, features: list[Tensor]) -> Tensor:
        with self._on_desk([head], features) as desk:
            return self._head(name, head, self._networks[name], features, desk)

    def _on_desk(
        self,
        heads: Iterable[Head],
        features: list[Tensor],
        groups: Sequence[Mapping[str, Network]] = (),
    ) -> AbstractContextManager[Desk | None]:
        prepared = self.execution.engine == "torch" and not self.execution.compiled
        useful = prepared and any(head.recordable for head in heads)
        wanted = [tuple(group.values()) for group in groups]
        return self._desk.holding(features, wanted) if useful else nullcontext()

    def _must_be_plain(self, images: Tensor, heads: Mapping[str, Head]) -> bool:
        """As asked for, for gradients with respect to images, or since nothing is to be done."""
        differentiated = torch.is_grad_enabled() and images.requires_grad
        return self.execution.engine == "plain" or differentiated or not (len(images) and heads)

    def _groups(self, heads: Mapping[str, Head]) -> list[list[str]]:
        """Names of those that may be run side by side."""
        families: dict[object, list[str]] = {}
        for name, head in heads.items():
            if not head.recordable or name in self._spoilers:
                continue
            with suppress(Exception):  # anything may be a plugin's family
                if head.family is not None:
                    families.setdefault((type(head), head.family), []).append(name)
        groups = [
            names[start : start + MOST_JOINED]
            for names in families.values()
            for start in range(0, len(names), MOST_JOINED)
        ]
        return [group for group in groups if len(group) > 1]

    def _together(
        self, groups: Sequence[Mapping[str, Network]], heads: Mapping[str, Head], desk: Desk
    ) -> dict[str, Tensor]:
        """Predictions of heads that are run side by side."""
        done: dict[str, Tensor] = {}
        for group in groups:
            join = partial(joined, [heads[name] for name in group], self.execution)
            results = desk.run_together(list(group.values()), join)
            if results is not None:
                done |= zip(group, (found.float() for found in results), strict=True)
        return done

    def _head(
        self, name: str, head: Head, network: Network, features: list[Tensor], desk: Desk | None
    ) -> Tensor:
        with running(head, "forward"):
            if desk is not None and head.recordable and name not in self._spoilers:
                results = desk.run(network)
                if results is not None:
                    return results[0].float()
            safe = head.recordable and name not in self._spoilers
            return network(features if safe else own_levels(features))[0].float()

    def _make_ready(
        self, image: Tensor, heads: Mapping[str, Head], networks: dict[str | None, Network]
    ) -> None:
        """Make networks, and compare what they say with what the plain ones say of one image."""
        plain_features = self.backbone(image)
        if None not in networks:
            networks[None] = self._make("the backbone", self.backbone, [image])
        features = networks[None]([image])
        for name, head in heads.items():
            expected = head_output(head, own_levels(plain_features))
            own = own_levels(features)
            network = self._make(f"head {name!r}", head, own)
            found = network(own)[0].float()
            if any(not torch.equal(a, b) for a, b in zip(own, features, strict=True)):
                self._spoilers.add(name)
            moved = movement(found, expected)
            limit = allowed_movement(self.execution.precision, image.device)
            if not moved <= limit:
                network = self._refuse(name, head, moved, limit)
            networks[name] = network

    def _make(self, what: str, module: Backbone | Head, example: list[Tensor]) -> Network:
        try:
            if self.execution.precision == "bf16" and not computes_bfloat16(example[0].device):
                raise ValueError("this processor does not compute in bfloat16")
            network = _MAKERS[self.execution.engine](module, example, self.execution)
            network([tensor.clone() for tensor in example])
        except Exception as err:
            if is_out_of_memory(err):  # a matter of this image
                raise
            if self.execution == Execution():
                return _plain(module)
            raise ExecutionError(
                f"{what} cannot be run in this way ({self.execution}): {err}",
                hint="Leave out --engine, --precision and --compile.",
            ) from err
        return network

    def _refuse(self, name: str, head: Head, moved: float, limit: float) -> Network:
        message = f"Predictions of head {name!r} move by {moved:.2%}; {limit:.1%} are allowed"
        if self.execution != Execution():
            raise ExecutionError(
                f"{message} ({self.execution}).",
                hint="Leave out --engine, --precision and --compile, or that head.",
            )
        warnings.warn(f"{message}: it is run as it was trained.", MedusaWarning, stacklevel=2)
        self._refused.add(name)  # alone: what other heads say depends on no other
        self._spoilers.add(name)
        return _plain(head)


def prepared(backbone: Backbone, example: Tensor) -> Callable[[Tensor], list[Tensor]]:
    """A backbone made ready for many images; as it is where that cannot be done.

    Args:
        backbone: frozen; not changed.
        example: `(B, 3, H, W) float32` images, to compare what both say of them.
    """
    try:
        fast = prepare(backbone)
        pairs = zip(fast(example), backbone(example), strict=True)
        moved = [movement(found, expected) for found, expected in pairs]
    except Exception:  # noqa: BLE001 - anybody's network; the plain one tells what is wrong
        return backbone
    limit = allowed_movement("fp32", example.device)
    return fast if all(level <= limit for level in moved) else backbone


def _comparable(image: Tensor) -> Tensor:
    """The image; a grey one in place of one that has values that are no numbers."""
    return image if bool(torch.isfinite(image).all()) else torch.full_like(image, 0.5)


def allowed_movement(precision: str, device: torch.device) -> float:
    """How far predictions, or features, may move."""
    return TF32_LIMIT if precision == "fp32" and device.type == "cuda" else LIMITS[precision]


def movement(found: Tensor, expected: Tensor) -> float:
    """RMS of a difference / RMS of what was expected; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    difference = (found - expected).double().square().mean().sqrt()
    return float(difference / expected.double().square().mean().sqrt().clamp_min(1e-12))


def _plain(module: Backbone | Head) -> Network:
    return _as_network(module, module)


def _as_network(run: Callable[..., Any], module: Backbone | Head) -> Network:
    """`run` does what the module does."""
    if isinstance(module, Backbone):
        return lambda tensors: list(run(tensors[0]))
    return lambda tensors: [run(module.given(tensors))]


def _torch(module: Backbone | Head, example: list[Tensor], execution: Execution) -> Network:
    fast = prepare(module, pack=not execution.compiled)
    if execution.precision == "bf16":
        to_bfloat16(fast)
    if execution.compiled:
        return _as_network(torch.compile(fast), module)
    network = _as_network(fast, module)
    return repeating(network, fast) if isinstance(module, Backbone) else network


def joined(heads: Sequence[Head], execution: Execution) -> Network | None:
    """Heads of one family side by side, prepared: features → all predictions; None without it."""
    try:
        plain = type(heads[0]).side_by_side(heads)
        if plain is None:
            return None
        fast = prepare(plain)
        if execution.precision == "bf16":
            to_bfloat16(fast)
    except Exception:  # noqa: BLE001 - anybody's heads; each is run alone
        return None
    return lambda features: list(fast(heads[0].given(features)))


def to_bfloat16(network: nn.Module) -> None:
    """Networks in bfloat16; a backbone still normalises its images in float32."""
    if isinstance(network, Backbone):
        network.net = _InBfloat16(network.net)
    else:
        network.to(torch.bfloat16)


class _InBfloat16(nn.Module):
    """A network in bfloat16 for images that are not."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.to(torch.bfloat16)

    def forward(self, images: Tensor) -> Any:
        """What the network gives."""
        return self.net(images.to(torch.bfloat16))


def _openvino(module: Backbone | Head, example: list[Tensor], execution: Execution) -> Network:
    from medusa_core.model.openvino import compile_network

    if isinstance(module, Backbone):
        return compile_network(module, True, example, execution.precision)
    run = compile_network(module, False, module.given(example), execution.precision)
    return lambda tensors: run(module.given(tensors))


_MAKERS = {"torch": _torch, "openvino": _openvino}
