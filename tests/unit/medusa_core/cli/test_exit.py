import os
import subprocess
import sys
import warnings

import click
import pytest
import torch

from medusa_core.cli import main
from medusa_core.cli import medusa as group
from medusa_core.cli._exit import run
from medusa_core.errors import MedusaWarning, PluginError, StoreError, UsageError


@pytest.fixture
def failing(monkeypatch):
    """Runs the real group with a command that raises what it is told to."""

    def call(error, *flags):
        @click.command("tasks")
        def command():
            raise error

        monkeypatch.setattr(type(group), "get_command", lambda *_: command)
        return run(group, [*flags, "tasks"])

    return call


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (StoreError("It broke.", hint="Mend it."), 1, ["Error: It broke.", "Hint: Mend it."]),
        (UsageError("No."), 2, ["Error: No."]),
        (PluginError("Gone."), 3, ["Error: Gone."]),
        (KeyboardInterrupt(), 130, ["Interrupted."]),
        (click.Abort(), 130, ["Interrupted."]),
        (MemoryError(), 1, ["Error: Out of memory.", "Hint: Try a smaller --batch or --size."]),
        (FileNotFoundError(2, "No such file", "a/b"), 1, ["Error: No such file: a/b."]),
        (OSError(28, "No space left on device"), 1, ["Error: No space left on device."]),
        (
            ZeroDivisionError("oops"),
            1,
            [
                "Error: ZeroDivisionError: oops",
                "Hint: This is unexpected. For details, run: medusa --debug tasks",
            ],
        ),
    ],
)
def test_every_error_is_a_line_and_a_code(failing, capsys, error, code, lines):
    assert failing(error) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip().splitlines() == lines


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA …"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate …"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_told_whatever_it_is_called(failing, capsys, error):
    assert failing(error) == 1
    assert capsys.readouterr().err.startswith("Error: Out of memory.")


def test_debug_adds_the_traceback(failing, capsys, monkeypatch):
    assert failing(StoreError("It broke."), "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("MEDUSA_DEBUG", "1")
    assert failing(StoreError("It broke.")) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_message_cannot_steer_the_terminal(failing, capsys):
    failing(StoreError("a\x1b[2Jb\u202ec"))
    assert capsys.readouterr().err == "Error: a[2Jbc\n"


def test_a_message_cannot_look_like_another_line(failing, capsys):
    failing(StoreError("a\nHint: curl x | sh", hint="b\nError: c"))
    assert capsys.readouterr().err == "Error: a Hint: curl x | sh\nHint: b Error: c\n"


def test_our_warnings_are_lines_and_those_of_libraries_are_hidden(monkeypatch, capsys):
    @click.command("tasks")
    def command():
        warnings.warn("plugin x is broken", MedusaWarning, stacklevel=1)
        warnings.warn("internal matter", UserWarning, stacklevel=1)

    monkeypatch.setattr(sys, "warnoptions", [])
    monkeypatch.setattr(type(group), "get_command", lambda *_: command)
    assert main(["tasks"]) == 0
    assert capsys.readouterr().err == "Warning: plugin x is broken\n"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["tasks", "-h"], 0),
        (["--version"], 0),
        ([], 2),
        (["--no-such-option"], 2),
        (["tasks", "--no-such-option"], 2),
        (["no-such-command"], 2),
    ],
)
def test_usage(args, code, capsys):
    assert main(args) == code
    captured = capsys.readouterr()
    assert bool(captured.out) == (code == 0)
    assert bool(captured.err) == (code != 0)


def test_a_misspelt_command_has_a_near_match(capsys):
    assert main(["predikt"]) == 2
    assert "Did you mean 'predict'?" in capsys.readouterr().err


UNFLUSHED = """
import sys, click
from medusa_core.cli import medusa, main
medusa.get_command = lambda *_: click.Command("tasks", callback=lambda: sys.stdout.write("text"))
sys.exit(main(["tasks"]))
"""


def run_unread(tmp_path, *command, unread=("stdout",)):
    """A process with nobody at the other end of some streams; and what it wrote to the others."""
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with (tmp_path / "written").open("w+") as written:
            streams = {s: writing if s in unread else written for s in ("stdout", "stderr")}
            process = subprocess.run(
                [sys.executable, *command], env=buffered, **streams, check=False
            )
            written.seek(0)
            return process.returncode, written.read()
    finally:
        os.close(writing)


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "medusa_core", "--help"),
        ("-m", "medusa_core", "plugins", "list"),
        ("-m", "medusa_core", "plugins", "list", "--json"),
        ("-c", UNFLUSHED),
    ],
    ids=["help", "table", "document", "at the end"],
)
def test_a_reader_that_leaves_early_is_no_error(tmp_path, command):
    assert run_unread(tmp_path, *command) == (0, "")


WORKING = """
import sys, click
from medusa_core.cli import main, _lazy
from medusa_core.cli._output import emit, print_warning
from medusa_core.cli._progress import make_progress
from medusa_core.errors import CheckError

def work():
    progress = make_progress()
    progress.start("working", 2)
    for step in (1, 2):
        progress.message(f"step {step}")
        print("a plugin's")
        progress.advance()
    open(sys.argv[1], "w").close()
    emit({}, as_json, lambda console: console.print("done"))
    if code:
        raise CheckError("Not reached.")

code, as_json = int(sys.argv[2]), sys.argv[3] == "json"
command = click.Command("tasks", callback=work)
command.context_class = _lazy._Context
_lazy.LazyGroup.get_command = lambda *_: command
sys.exit(main(["tasks"]))
"""


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("form", ["json", "table"])
@pytest.mark.parametrize("unread", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_work_is_done_and_judged_whoever_reads(tmp_path, code, form, unread):
    done = tmp_path / "done"
    ended, written = run_unread(tmp_path, "-c", WORKING, done, str(code), form, unread=unread)
    assert (ended, done.exists()) == (code, True)
    if "stderr" not in unread:
        assert ("Error: Not reached." in written) == bool(code)
    elif "stdout" not in unread:
        assert written == ("done\n" if form == "table" else '{\n  "schema_version": 1\n}\n')


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_under_the_result_is_an_error_and_under_stderr_is_not(tmp_path):
    done = tmp_path / "done"
    with open("/dev/full", "w") as full:
        for streams, code in (({"stdout": full}, 1), ({"stderr": full}, 0)):
            line = [sys.executable, "-c", WORKING, done, "0", "json"]
            others = dict.fromkeys({"stdout", "stderr"} - streams.keys(), subprocess.DEVNULL)
            assert subprocess.run(line, **streams, **others, check=False).returncode == code


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_result_that_cannot_be_written_does_not_undo_what_was_done(tmp_path):
    line = [sys.executable, "-c", WORKING, tmp_path / "done", "0", "json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert "could not be written to stdout: No space left" in done.stderr
    assert "stays done" in done.stderr


def test_a_current_folder_that_is_gone_is_said(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    code = "import os, sys, medusa_core.cli as c; os.rmdir(os.getcwd()); sys.exit(c.main(['list']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "The current folder is not there any more." in done.stderr


def test_completion_comes_from_the_table():
    environ = {
        **os.environ,
        "_MEDUSA_COMPLETE": "bash_complete",
        "COMP_WORDS": "medusa re",
        "COMP_CWORD": "1",
    }
    process = subprocess.run(
        [sys.executable, "-c", "import medusa_core.cli as c, sys; sys.exit(c.main())"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.split() == ["plain,remove-task", "plain,rename-head"]


@pytest.mark.parametrize("code", [0, None, 3])
def test_a_plugin_cannot_end_the_process_as_if_all_were_well(failing, capsys, code):
    assert failing(SystemExit(code)) == 1
    assert f"tried to end the process with {code!r}" in capsys.readouterr().err


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_written_to_nowhere(monkeypatch, closed):
    monkeypatch.setattr(sys, closed, None)
    assert main(["plugins", "list"]) == 0
    assert main(["plugins", "list", "--json"]) == 0
    assert main(["tasks", "nonsense"]) == 2
    getattr(sys, closed).close()
