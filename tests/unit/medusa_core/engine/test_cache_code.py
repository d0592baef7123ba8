"""Cached targets are of the code that encodes them: the task's own, and what lies beside it."""

import dataclasses
import importlib

from medusa_core.engine.cache_files import _describe
from medusa_core.plugin_host.attribution import AttributedTask
from medusa_core.plugin_host.code import code_digest


def test_targets_are_those_of_the_plugins_code(tmp_path, monkeypatch, bind):
    """Also of the modules beside the task's, and through the wrapper that names its plugin."""
    package = tmp_path / "ownpackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("FACTOR = 1\n")
    lines = "from medusa_tasks.depth.task import Depth\n\n\nclass Own(Depth):\n    pass\n"
    (package / "task.py").write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    task = bind("depth").task
    own = importlib.import_module("ownpackage.task").Own(task.spec)
    binding = dataclasses.replace(bind("depth"), task=AttributedTask(own, None))
    seen = [_describe(binding)["code"]]
    for name, text in (("helper.py", "FACTOR = 2\n"), ("task.py", lines + "    x = 1\n")):
        (package / name).write_text(text)
        seen.append(_describe(binding)["code"])
    assert len({*seen, _describe(bind("depth"))["code"]}) == 4


def test_a_task_without_a_file_can_be_cached(bind):
    """As of one that was typed in, by hand or into a notebook."""
    namespace = {"__name__": "__main__"}
    exec("from medusa_tasks.depth.task import Depth\nclass Own(Depth): pass", namespace)
    binding = bind("depth")
    own = namespace["Own"](binding.task.spec)
    _describe(dataclasses.replace(binding, task=AttributedTask(own, None)))


def test_data_are_those_of_the_code_that_opens_them(tmp_path, monkeypatch):
    """A function elsewhere may decide what a class reads, and packages lie in packages."""
    package = tmp_path / "owndata"
    for part in (package, package / "opening", package / "opening" / "deep"):
        part.mkdir()
        (part / "__init__.py").write_text("")
    (package / "opening" / "deep" / "gain.py").write_text("GAIN = 1\n")
    (package / "opening" / "maker.py").write_text("def make():\n    return object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    make = importlib.import_module("owndata.opening.maker").make
    seen = [code_digest(dict), code_digest(dict, make)]
    (package / "opening" / "deep" / "gain.py").write_text("GAIN = 2\n")
    seen.append(code_digest(dict, make))
    assert len(set(seen)) == 3
