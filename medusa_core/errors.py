"""Every error a user can cause: what happened, where, and what to do next.

Errors are raised once and printed once (by `medusa_core.cli`); the exit codes are a contract.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OK, FAILED, USAGE, ENVIRONMENT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


SHOWN_NAMES = 20
"""Where more names are known, only near ones are shown."""


class MedusaError(Exception):
    """An operation that could not be done. `hint` says what to do about it."""

    exit_code = FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MedusaError):
    """An argument or option that makes no sense."""

    exit_code = USAGE


class UnknownNameError(UsageError):
    """A task, head, data set, split or backbone of that name does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str | None = None) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=SHOWN_NAMES)
        message = f"Unknown {kind} {name!r}."
        if near:
            message += f" Did you mean {near[0]!r}?"
        if not known:
            message += f" There is no {kind} yet."
        elif len(known) <= SHOWN_NAMES:
            message += f" Known: {', '.join(known)}."
        elif len(near) > 1:
            message += f" Near: {', '.join(near)}."
        super().__init__(message, hint)
        self.kind, self.name, self.known = kind, name, known


class NameTakenError(UsageError):
    """A head of that name exists already."""


class DataError(MedusaError):
    """A sample, target or data set that cannot be read or does not fit the task."""


class LabelsError(DataError):
    """The class names of a data set are not those the head was trained on."""


class FingerprintError(MedusaError):
    """A head and a backbone that do not belong together."""


class StoreError(MedusaError):
    """A model folder that is missing, damaged, or cannot be written."""


class TrainingError(MedusaError):
    """A training that cannot go on (diverged, nothing to learn from)."""


class ExecutionError(MedusaError):
    """A way of running networks that fails, or moves their predictions too far."""


class CheckError(MedusaError):
    """A check asked for by the user (`--min`, `verify`) that is not met."""


class WeightsError(MedusaError):
    """Weights that are missing or do not fit the model they are for."""

    exit_code = ENVIRONMENT


class PluginError(MedusaError):
    """A plugin that is missing, broken or incompatible."""

    exit_code = ENVIRONMENT


class MedusaWarning(UserWarning):
    """Something worth one line that does not stop the operation (a broken plugin, say)."""
