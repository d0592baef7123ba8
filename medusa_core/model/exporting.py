"""A backbone and its heads as one file that runs without Medusa: PyTorch's `.pt2`, or ONNX."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.data.geometry import Size
from medusa_core.errors import ExecutionError, MedusaError
from medusa_core.model.execution import allowed_movement, movement
from medusa_core.model.medusa_model import MedusaModel

INPUT = "images"
ABOUT = "medusa"
"""Under which a file says what is in it: `medusa.json` of a `.pt2`, a property of an ONNX model."""
MOST = 128
"""Images, and strides of height and width, of a file for any size."""
CLASSES_LIMIT = 0.01
"""Share of the pixels, or images, that may get another class where rounding decides."""

Values = dict[str, Tensor]
Run = Callable[[Tensor], Values]


class Decoded(nn.Module):
    """Images `(B, 3, H, W) float32` in [0, 1] → head → values as its task decodes them.

    Dense values are at the size of the images, in the unit of the task; classes are numbers.
    """

    def __init__(self, model: MedusaModel, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, images: Tensor) -> Values:
        """One pass of the backbone, and all heads."""
        raw = self.model(images, self.names)
        return {name: self.model.tasks[name].decode(raw[name]) for name in self.names}


def follow(network: Decoded, shape: tuple[int, Size] | None) -> ExportedProgram:
    """What PyTorch sees a network compute.

    Args:
        network: with a model that is run as it was trained (`Execution("plain")`).
        shape: batch and (H, W) of all images; None: batches up to `MOST`, sizes in multiples of
            the stride from two to `MOST` of them.

    Raises:
        ExecutionError: it cannot be followed. MedusaError: a plugin failed.
    """
    batch, size = shape or (2, (256, 320))
    dynamic = None
    if shape is None:
        stride = network.model.backbone.stride
        many, rows, columns = (Dim(name, max=MOST) for name in ("batch", "rows", "columns"))
        dynamic = ({0: many, 2: stride * rows, 3: stride * columns},)
    try:
        return torch.export.export(network, (torch.zeros(batch, 3, *size),), dynamic_shapes=dynamic)
    except MedusaError:
        raise
    except Exception as err:
        raise _cannot(network, "be followed by torch.export", err, shape) from err


def to_pt2(network: Decoded, program: ExportedProgram, about: str) -> tuple[bytes, Run]:
    """The bytes of a `.pt2` file, and a function that runs what was read from them."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{ABOUT}.json": about})
    data = buffer.getvalue()
    loaded = torch.export.load(io.BytesIO(data)).module()
    return data, lambda images: dict(loaded(images))


def to_onnx(network: Decoded, program: ExportedProgram, about: str) -> tuple[bytes, Run]:
    """The bytes of an ONNX file, and a function that has ONNX Runtime run them."""
    import onnxruntime

    names = list(network.names)
    exported: Any = torch.onnx.export(
        program, input_names=[INPUT], output_names=names, verbose=False
    )
    proto = exported.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = ABOUT, about
    data = proto.SerializeToString()
    options: Any = onnxruntime.SessionOptions()  # type: ignore[attr-defined]
    options.log_severity_level = 4  # what fails is told once, by us
    session: Any = onnxruntime.InferenceSession(  # type: ignore[attr-defined]
        data, options, providers=["CPUExecutionProvider"]
    )

    def run(images: Tensor) -> Values:
        found = session.run(names, {INPUT: images.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}

    return data, run


FORMATS = {".pt2": to_pt2, ".onnx": to_onnx}
"""Ending of a file → what makes its bytes, and runs them."""


def exported(
    network: Decoded, ending: str, shape: tuple[int, Size] | None, about: str
) -> tuple[bytes, float]:
    """The bytes of a file that says what a network says, and how far its values move from them.

    Raises:
        ExecutionError: PyTorch cannot write it, or what was written says something else.
    """
    program = follow(network, shape)
    try:
        data, run = FORMATS[ending](network, program, about)
        moved = [
            _moved(network, images, run(images))
            for images in _examples(network.model.backbone, shape)
        ]
    except MedusaError:
        raise
    except Exception as err:
        raise _cannot(network, f"be written as {ending}, and read again", err, shape) from err
    return data, max(moved)


def _examples(backbone: Backbone, shape: tuple[int, Size] | None) -> Iterable[Tensor]:
    """Images that the file and the network are compared on; not those it was followed on."""
    generator = torch.Generator().manual_seed(0)
    stride = backbone.stride
    shapes = [shape] if shape else [(1, (2 * stride, 5 * stride)), (3, (7 * stride, 4 * stride))]
    for batch, size in shapes:
        yield torch.rand(batch, 3, *size, generator=generator)


@torch.inference_mode()
def _moved(network: Decoded, images: Tensor, found: Values) -> float:
    """The largest movement of a head's values; `ExecutionError` where one is too large."""
    largest = 0.0
    for name, expected in network(images).items():
        value = found[name]
        if expected.is_floating_point():
            moved, limit = movement(value, expected), allowed_movement("fp32", images.device)
        elif value.shape != expected.shape:
            moved, limit = float("inf"), CLASSES_LIMIT
        else:
            moved, limit = float((value != expected).float().mean()), CLASSES_LIMIT
        if not moved <= limit:
            raise ExecutionError(
                f"Values of head {name!r} would move by {moved:.2%}; {limit:.1%} are allowed.",
                hint="Leave that head out: --tasks",
            )
        largest = max(largest, moved)
    return largest


def _cannot(
    network: Decoded, what: str, err: Exception, shape: tuple[int, Size] | None
) -> ExecutionError:
    reason = next((line for line in str(err).splitlines() if line.strip()), type(err).__name__)
    heads = ", ".join(network.names)
    one_size = "Some backbones can be exported for one size only: --size HxW. " if not shape else ""
    return ExecutionError(
        f"{network.model.record.name} with {heads} cannot {what} (torch {torch.__version__}): "
        f"{shorten(reason, 300, placeholder='…')}",
        hint=f"{one_size}Try fewer heads: --tasks.",
    )
