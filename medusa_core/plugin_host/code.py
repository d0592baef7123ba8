"""The code of plugins, as a hash: what was computed by other code is computed anew."""

from __future__ import annotations

import hashlib
import inspect
import sys
from contextlib import suppress
from pathlib import Path


def code_digest(implementation: type) -> str:
    """Hash of the modules beside a class, and those that it is derived from."""
    files: set[Path] = set()
    for kind in implementation.__mro__:
        if kind.__module__ in sys.stdlib_module_names:
            continue
        with suppress(TypeError, OSError):  # typed in by hand: there is no file
            file = Path(inspect.getfile(kind))
            in_package = "." in kind.__module__
            files |= set(file.parent.glob("*.py")) if in_package else {file}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
