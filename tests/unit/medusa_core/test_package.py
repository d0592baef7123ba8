"""The names `import medusa_core as medusa` offers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import medusa_core


def test_importing_the_package_imports_nothing_heavy():
    script = (
        "import sys, medusa_core;"
        "assert not {'torch', 'numpy', 'timm', 'pydantic', 'click'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_type_checkers_and_python_see_the_same_names():
    tree = ast.parse(Path(medusa_core.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == medusa_core._LAZY
    assert set(medusa_core.__all__) == {*seen, "MedusaError", "__version__"}
    assert set(seen) <= set(dir(medusa_core))


@pytest.mark.parametrize("name", medusa_core._LAZY)
def test_every_name_can_be_imported(name):
    _, attribute = medusa_core._LAZY[name]
    assert callable(getattr(medusa_core, name))
    assert getattr(medusa_core, name).__name__ == attribute


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = medusa_core.no_such_name
