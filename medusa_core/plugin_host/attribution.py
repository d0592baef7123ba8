"""Tasks, heads, metrics and data sets of plugins, wrapped so that whatever fails names its plugin.

What they return is checked where a wrong answer would otherwise fail far from its cause.
"""

from __future__ import annotations

import hashlib
import inspect
import operator
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medusa_core.api import Dataset, Metric, Sample, TargetInfo, Task
from medusa_core.data.targets import misfit
from medusa_core.errors import DataError
from medusa_core.plugin_host.code import code_digest
from medusa_core.plugin_host.importing import attributed
from medusa_core.plugin_host.report import Provider

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medusa_core.heads.base import Head


class AttributedTask(Task):
    """A task as the engine uses it. `inner` is the plugin's own."""

    def __init__(self, inner: Task, provider: Provider) -> None:
        super().__init__(inner.spec, inner.labels, inner.config)
        self.inner, self.provider = inner, provider

    @property
    def out_channels(self) -> int:
        """Channels of the raw prediction."""
        with self._doing("out_channels"):
            return self.inner.out_channels

    def encode_target(self, raw: np.ndarray | None, image: np.ndarray) -> np.ndarray:
        """See `Task.encode_target`. What is computed from the image must be as the spec says."""
        with self._doing("encode_target"):
            target = _array(self.inner.encode_target(raw, image))
            if raw is None and (wrong := misfit(target, image.shape[:2], self.spec, self.labels)):
                raise ValueError(f"the target {wrong}")
            return target

    def loss(self, prediction: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """See `Task.loss`."""
        with self._doing("loss"):
            terms = self.inner.loss(prediction, target, valid)
            if not isinstance(terms, dict) or not terms:
                raise TypeError(f"it returned {_kind(terms)}, not a dict of named terms")
            for name, term in terms.items():
                if _shape(term) != () or not term.is_floating_point():
                    raise TypeError(f"its term {name!r} is {_kind(term)}, not a scalar of floats")
            learns = any(term.requires_grad for term in terms.values())
            if prediction.requires_grad and not learns and any(terms.values()):
                raise TypeError("its terms have no gradient by the prediction")
            return terms

    def new_metrics(self) -> list[Metric]:
        """See `Task.new_metrics`."""
        with self._doing("new_metrics"):
            metrics = list(self.inner.new_metrics())
            for metric in metrics:
                if not isinstance(metric, Metric):
                    raise TypeError(f"it returned {_kind(metric)} among the metrics")
            return [AttributedMetric(metric, self.provider, self.spec.name) for metric in metrics]

    def decode(self, prediction: Tensor) -> Tensor:
        """See `Task.decode`."""
        with self._doing("decode"):
            value = self.inner.decode(prediction)
            size = prediction.shape[2:]
            shape = _shape(value) or (None,)
            fits = shape[0] == prediction.shape[0] and shape[len(shape) - len(size) :] == size
            if _is_array(value) or not fits:
                raise TypeError(f"it returned {_kind(value)} for {_kind(prediction)}")
            return value

    def render(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """See `Task.render`."""
        with self._doing("render"):
            picture = _array(self.inner.render(image, value))
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != "uint8":
                raise TypeError(f"it returned {_kind(picture)}, not (H, W, 3) uint8")
            if picture.shape != image.shape:
                raise TypeError(f"it returned {_kind(picture)} for {_kind(image)}")
            return picture

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        with attributed(self.provider, f"{what} of task {self.spec.name!r}"):
            yield


class AttributedMetric(Metric):
    """A metric as the engine uses it. `inner` is the plugin's own."""

    def __init__(self, inner: Metric, provider: Provider, task: str) -> None:
        self.inner, self.provider = inner, provider
        self.costly = bool(inner.costly)  # type: ignore[misc]
        self._name = f"metric {type(inner).__name__} of task {task!r}"
        self._width: int | None = None

    def statistics(self, decoded: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """See `Metric.statistics`."""
        with attributed(self.provider, self._name):
            rows = self.inner.statistics(decoded, target, valid)
            shape = _shape(rows)
            fits = shape is not None and len(shape) == 2 and shape[0] == len(decoded)
            if _is_array(rows) or not fits:
                raise TypeError(f"statistics returned {_kind(rows)} for {len(decoded)} images")
            self._width = self._width or rows.shape[1]
            if rows.shape[1] != self._width:
                raise TypeError(f"statistics returned {_kind(rows)}, {self._width} columns before")
            return rows

    def compute(self, total: Tensor) -> dict[str, float]:
        """See `Metric.compute`."""
        with attributed(self.provider, self._name):
            return {str(name): float(x) for name, x in self.inner.compute(total).items()}


class AttributedDataset:
    """A data set as the engine uses it. `inner` is the plugin's own.

    Its digest is of its code and its `maker`'s, too, and of its `place`, where that is a file or a
    folder: digests of data sets are of names, sizes and times, as a rule, and copies out of
    archives and images often share them all.
    """

    def __init__(
        self,
        inner: Dataset,
        provider: Provider,
        name: str,
        place: str | None = None,
        maker: object = None,
    ) -> None:
        self.inner, self._who, self._maker = inner, (provider, f"data set {name!r}"), maker
        self._place = ""
        if place is not None and os.path.exists(place):
            self._place = os.path.realpath(place)
        with attributed(*self._who):
            self.name: str = inner.name
            self.split: str = inner.split
            self.ids: Sequence[str] = inner.ids
            self.targets: Mapping[str, TargetInfo] = inner.targets
            self._count = len(inner)
            if len(self.ids) != self._count:
                raise TypeError(f"it has {self._count} samples and {len(self.ids)} ids")
            odd = next((one for one in self.ids if not isinstance(one, str)), None)
            if odd is not None:
                raise TypeError(f"the id {odd!r} is not text")
            odd = next((one for one in self.ids if not _is_unicode(one)), None)
            if odd is not None:
                raise TypeError(f"the id {odd!r} is not text that can be written as UTF-8")
            if not isinstance(self.targets, Mapping):
                raise TypeError(f"targets is {_kind(self.targets)}, not a mapping")
            for target, info in self.targets.items():
                if not isinstance(info, TargetInfo):
                    raise TypeError(f"targets[{target!r}] is {_kind(info)}, not a TargetInfo")

    @cached_property  # it reads the code, and is asked for with every head and file
    def digest(self) -> str:
        """See `Dataset.digest`."""
        return self._whole("digest")

    @cached_property
    def image_digest(self) -> str:
        """See `Dataset`; the digest where it has none."""
        own = inspect.getattr_static(self.inner, "image_digest", None)  # not that of what it wraps
        return self.digest if own is None else self._whole("image_digest")

    def _whole(self, attribute: str) -> str:
        with attributed(*self._who):
            own = getattr(self.inner, attribute)
            if not isinstance(own, str):
                raise TypeError(f"its {attribute} is {_kind(own)}, not text")
        text = f"{own}\n{self._place}\n{code_digest(type(self.inner), self._maker)}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def __len__(self) -> int:
        return self._count

    def size(self, index: int) -> tuple[int, int]:
        """See `Dataset.size`."""
        with attributed(*self._who):
            height, width = self.inner.size(index)
            return operator.index(height), operator.index(width)

    def load(self, index: int, targets: Collection[str] | None = None) -> Sample:
        """See `Dataset.load`."""
        with attributed(*self._who), _may_be_skipped():
            sample = self.inner.load(index, targets)
            if not isinstance(sample, Sample):
                raise TypeError(f"load returned {_kind(sample)}, not a Sample")
            image = sample.image
            if _shape(image) is None or image.ndim != 3 or image.shape[2] != 3:
                raise TypeError(f"the image of {sample.id!r} is {_kind(image)}, not (H, W, 3)")
            if image.dtype != "uint8":
                raise TypeError(f"the image of {sample.id!r} is {image.dtype}, not uint8")
            for target, value in sample.targets.items():
                if value is not None and not _is_array(value):
                    raise TypeError(
                        f"the target {target!r} of {sample.id!r} is {_kind(value)}, not an array"
                    )
            return sample


@contextmanager
def _may_be_skipped() -> Iterator[None]:
    """Where nothing is advised about a sample that cannot be read, it is to do without it."""
    try:
        yield
    except DataError as err:
        err.hint = err.hint or "Mend it, or leave such samples out: --on-bad-sample skip"
        raise


def head_output(head: Head, features: Sequence[Tensor]) -> Tensor:
    """Raw prediction of a head from levels as the backbone computed them. See `Head.forward`."""
    with running(head, "forward"):
        return _prediction(head(head.given(features)), head, features)


def training_outputs(head: Head, features: Sequence[Tensor]) -> list[tuple[float, Tensor]]:
    """Weighted raw predictions from such levels. See `Head.training_outputs`."""
    with running(head, "training_outputs"):
        pairs = head.training_outputs(head.given(features))
        return [(float(weight), _prediction(raw, head, features)) for weight, raw in pairs]


@contextmanager
def running(head: Head, what: str) -> Iterator[None]:
    """What fails inside is the fault of the head's plugin."""
    if not isinstance(head.provider, Provider):  # made by hand
        yield
        return
    with attributed(head.provider, f"{what} of {type(head).__name__}"):
        yield


def _prediction(value: Any, head: Head, features: Sequence[Tensor]) -> Tensor:
    shape, batch, channels = _shape(value) or (), features[0].shape[0], head.wanted_channels
    fits = len(shape) == 4 and shape[0] == batch and channels in (None, shape[1])
    if not fits or 0 in shape[2:]:
        raise TypeError(f"it returned {_kind(value)}, not ({batch}, {channels or 'C'}, h, w)")
    return value


def _is_unicode(text: str) -> bool:
    """Not so what the system says of names that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shape(value: Any) -> tuple[int, ...] | None:
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(shape)


def _array(value: Any) -> np.ndarray:
    if not _is_array(value):
        raise TypeError(f"it returned {_kind(value)}, not an array")
    found: np.ndarray = value
    return found


def _is_array(value: Any) -> bool:
    """Of numpy, that is; a tensor is none."""
    return (
        _shape(value) is not None and hasattr(value, "__array__") and not hasattr(value, "grad_fn")
    )


def _kind(value: Any) -> str:
    """A value in a few words."""
    shape = _shape(value)
    if shape is None:
        return type(value).__name__
    return f"a {type(value).__name__} of shape {shape} and type {getattr(value, 'dtype', '?')}"
