"""The marker a plugin puts on its hooks, and the version of the contract it was written for."""

import pluggy

API_VERSION = "1.0"
"""`major.minor`. A plugin works where its major equals the host's and its minor is not newer."""

hookimpl = pluggy.HookimplMarker("medusa")


def speaks(version: str) -> bool:
    """Whether this host takes what was written for a version of the plugin API."""
    theirs, ours = _numbers(version), _numbers(API_VERSION)
    return theirs[0] == ours[0] and theirs <= ours


class ApiVersionError(Exception):
    """A description written for another version of the plugin API than this host speaks.

    newer: whether a later host might take it.
    """

    def __init__(self, name: str, version: str) -> None:
        super().__init__(f"{name!r} speaks plugin API {version}")
        self.newer = _numbers(version) > _numbers(API_VERSION)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))
