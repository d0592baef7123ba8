"""The marker a plugin puts on its hooks, and the version of the contract it was written for."""

import pluggy

API_VERSION = "1.0"
"""`major.minor`. A plugin works where its major equals the host's and its minor is not newer."""

hookimpl = pluggy.HookimplMarker("medusa")
