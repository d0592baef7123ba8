"""The code of plugins, as a hash: what was computed by other code is computed anew."""

from __future__ import annotations

import hashlib
import inspect
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def code_digest(kind: type, *makers: Any) -> str:
    """Hash of the packages of a class, of those it is derived from, and of what makes it.

    Of a package, all modules in it and further down; of a module that is in none, itself.
    """
    files: set[Path] = set()
    for part in (*kind.__mro__, *makers):
        module = getattr(part, "__module__", None) or ""
        if module.partition(".")[0] in sys.stdlib_module_names:
            continue
        with suppress(TypeError, OSError):  # typed in by hand: there is no file
            file = Path(inspect.getfile(part))
            in_package = "." in module or file.name == "__init__.py"
            files |= set(file.parent.rglob("*.py")) if in_package else {file}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
