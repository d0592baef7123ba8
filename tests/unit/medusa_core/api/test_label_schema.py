"""Classes that contradict themselves are refused, with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from medusa_core.api import LabelSchema

GOOD = {"names": ("wall", "left", "right"), "swap_pairs": ((1, 2),)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ()}, "at least 1 item"),
        ({"names": tuple(map(str, range(10_001)))}, "at most 10000 items"),
        ({"names": ("wall", "left", "wall")}, "must be unique"),
        ({"names": ("wall", "left", " ")}, "has no name"),
        ({"names": ("wall", "left", "r" * 10**6)}, "more than 1 MB"),
        ({"ignore_index": 2}, "ignore_index 2 is also the index of a class"),
        ({"ignore_index": 2**31}, "less than 2147483648"),
        ({"palette": ((0, 0, 0),)}, "1 colours for 3 classes"),
        ({"palette": ((0, 0, 256),) * 3}, "less than or equal to 255"),
        ({"swap_pairs": ((1, 3),)}, "a class that does not exist"),
        ({"swap_pairs": ((1, 2), (2, 0))}, "name a class twice"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    LabelSchema(**GOOD)
    with pytest.raises(ValidationError, match=message):
        LabelSchema(**GOOD | changes)


def test_the_digest_is_of_names_in_their_order() -> None:
    """Which number marks pixels that do not count, and colours, change no class."""
    digest = LabelSchema(**GOOD).digest
    assert LabelSchema(**GOOD, ignore_index=-1, palette=((1, 2, 3),) * 3).digest == digest
    assert LabelSchema(names=("left", "wall", "right")).digest != digest
    assert LabelSchema(names=("wall", "left")).digest != digest
