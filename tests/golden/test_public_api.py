"""What plugins may rely on does not change by accident, and they use nothing else."""

import ast
import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = ("api", "data", "errors", "heads", "losses", "metrics", "testing", "viz")
"""Parts of `medusa_core` that are open to plugins."""

SOURCES = sorted(
    path
    for folder in ("medusa_tasks", "plugins/*/src")
    for root in ROOT.glob(folder)
    for path in root.rglob("*.py")
)


def test_the_public_api_is_the_listed_one():
    generator = runpy.run_path(str(ROOT / "docs" / "generate_api.py"))
    listed = json.loads(generator["TARGET"].read_text(encoding="utf-8"))
    found = json.loads(json.dumps(generator["public_api"]()))
    assert found == listed, "Is it meant? See docs/generate_api.py."


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Modules that a module imports, with the line; names of a package count as modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level or module in ("medusa_core", "medusa_core.plugin_host"):
                prefix = "." * node.level + module
                yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def allowed(module: str) -> bool:
    """Whether a plugin may import a module."""
    package, _, rest = module.partition(".")
    return package != "medusa_core" or rest.partition(".")[0] in ALLOWED


def test_what_is_closed_to_plugins_is_seen():
    source = (
        "import medusa_core\n"
        "from medusa_core import open\n"
        "from medusa_core import api\n"
        "from medusa_core.plugin_host import default_host\n"
        "from medusa_core.api import Task\n"
    )
    found = [module for _, module in imports(ast.parse(source)) if not allowed(module)]
    assert found == ["medusa_core", "medusa_core.open", "medusa_core.plugin_host.default_host"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_plugins_import_the_public_api_alone(path):
    found = list(imports(ast.parse(path.read_text(encoding="utf-8"))))
    assert [(line, module) for line, module in found if not allowed(module)] == []
    if "medusa_tasks" not in path.parts:
        assert [m for _, m in found if m.partition(".")[0] == "medusa_tasks"] == []
