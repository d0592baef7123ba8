"""What a check is: a named function that raises where a promise of the contract is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from medusa_core.errors import UnknownNameError
from medusa_core.testing.process import process_kept

S = TypeVar("S")


class CheckFailure(AssertionError):
    """A promise of the plugin contract that is not kept. Says what to change."""


@dataclass(frozen=True)
class Check(Generic[S]):
    """One promise, by the name of the function that checks it; its docstring says what it is."""

    run: Callable[[S], None]

    @property
    def name(self) -> str:
        """What reports and `expected_failures` call it."""
        return self.run.__name__

    @property
    def promise(self) -> str:
        """What is checked, in a sentence or two."""
        return " ".join((self.run.__doc__ or "").split())


@dataclass(frozen=True)
class Case(Generic[S]):
    """A check and what it is to be run on. Call it."""

    check: Check[S]
    subject: S

    def __call__(self) -> None:
        """Run the check; what the plugin does to the process does not outlast it.

        Raises:
            CheckFailure: the promise is broken.
            Exception: whatever the plugin raised.
        """
        with process_kept():
            self.check.run(self.subject)


def require(condition: object, message: str) -> None:
    """Fail the running check unless the condition holds.

    Raises:
        CheckFailure: it does not.
    """
    if not condition:
        raise CheckFailure(message)


def reasons(checks: Sequence[Check[S]], expected: Mapping[str, str] | None) -> dict[str, str]:
    """Check name → reason of those that are known to fail.

    Raises:
        UnknownNameError: there is no check of that name. ValueError: a reason is missing.
    """
    names = {check.name for check in checks}
    for name, reason in (expected or {}).items():
        if name not in names:
            raise UnknownNameError("check", name, names, hint="It is in expected_failures.")
        if not reason.strip():
            raise ValueError(f"expected_failures[{name!r}] needs a reason")
    return dict(expected or {})


def run_all(cases: Sequence[Case[S]], expected: Mapping[str, str]) -> None:
    """Run every check and report all failures at once.

    Raises:
        CheckFailure: names every check that failed, or that passed although it should not have.
    """
    problems = []
    for case in cases:
        name = case.check.name
        try:
            case()
        except Exception as error:  # noqa: BLE001 - of a plugin: anything
            if name not in expected:
                problems.append(f"{name}: {type(error).__name__}: {error}")
        else:
            if name in expected:
                problems.append(f"{name}: passes, but is expected to fail: {expected[name]}")
    require(not problems, "\n".join([f"{len(problems)} checks failed:", *problems]))
