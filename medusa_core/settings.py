"""The user's settings file. Options and environment variables go before what it says."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from medusa_core.errors import UsageError
from medusa_core.problems import problems

VARIABLE = "MEDUSA_CONFIG"


LONGEST = 1 << 20
"""Bytes of the file."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PluginPart(_Part):
    """The `plugins` of the file, see `plugin_host.PluginSettings`. allowed=None: all."""

    allowed: list[str] | None = None
    disabled: list[str] = []
    strict: bool = False


def _without_zero_byte(path: str) -> str:
    if "\0" in path:
        raise ValueError("a path cannot hold a zero byte")
    return path


FolderName = Annotated[str, AfterValidator(_without_zero_byte)]


class Settings(_Part):
    """What the file may hold; all of it is optional.

    model: the model folder where none is given. cache: the folder of caches. `~` is the home.
    """

    model: FolderName | None = None
    cache: FolderName | None = None
    plugins: PluginPart = PluginPart()


def settings_file(environ: Mapping[str, str] | None = None) -> Path:
    """`MEDUSA_CONFIG`, or `medusa/settings.json` in the user's XDG folder of configuration.

    Raises:
        UsageError: it names the home of a user who does not exist.
    """
    environ = os.environ if environ is None else environ
    if chosen := environ.get(VARIABLE):
        return Path(at_home(chosen))
    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "medusa" / "settings.json"
    try:
        return Path.home() / ".config" / "medusa" / "settings.json"
    except RuntimeError:  # a user without a home has no settings
        return Path(os.devnull) / "settings.json"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The user's settings; defaults where there is no file, or an empty one.

    Raises:
        UsageError: the file cannot be read, or says something that does not exist.
    """
    path = settings_file(environ)
    try:
        with path.open("rb") as file:
            read = file.read(LONGEST + 1)
        if len(read) > LONGEST:
            raise UsageError(f"The settings {path} have more than {LONGEST} bytes.")
        content = read.removeprefix(codecs.BOM_UTF8).strip()
        return Settings.model_validate_json(content or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except OSError as err:
        raise UsageError(
            f"The settings {path} cannot be read: {err.strerror}.",
            hint=f"{VARIABLE} names the file.",
        ) from err
    except ValidationError as err:
        raise UsageError(
            f"The settings {path} cannot be used: {problems(err, whole='the file')}.",
            hint="Correct or delete the file.",
        ) from err


def write_settings(settings: Settings) -> Path:
    """Replace the settings file in one step; returns its path.

    Raises:
        UsageError: it cannot be written; then it is as it was.
    """
    path = settings_file()
    text = settings.model_dump_json(indent=2, exclude_defaults=True) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".settings-{uuid.uuid4().hex}")
        try:
            temporary.write_text(text, encoding="utf-8")
            with contextlib.suppress(FileNotFoundError):
                shutil.copymode(path, temporary)
            os.replace(temporary, path.resolve())  # a link stays one
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as err:
        raise UsageError(
            f"The settings {path} cannot be written: {err.strerror}.",
            hint=f"Choose another file: {VARIABLE}=FILE",
        ) from err
    return path


def folder_setting(variable: str, setting: str | None, default: str) -> Path:
    """A folder by environment variable, else by the settings file, else the default.

    Raises:
        UsageError: it is in the home of a user who does not exist, or has none.
    """
    return Path(at_home(os.environ.get(variable) or setting or default))


def at_home(path: str | Path) -> str:
    """`~` is the home folder, whoever wrote it: environments and files are read by no shell.

    Raises:
        UsageError: there is no such user, or nobody knows where that home is.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = Path(expanded).parts[0]
        raise UsageError(
            f"{expanded!r} cannot be found: no home folder is known for {user!r}.",
            hint="Write the path in full.",
        )
    return expanded
