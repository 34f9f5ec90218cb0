"""Configuration files: the options of a command as TOML, and commands that take both.

A file has a table per command and a key per flag::

    [train]
    head = "nearest-etf"
    learning-rate = 0.05

Flags win over the file, the file over the defaults.
"""

from __future__ import annotations

import functools
import inspect
import json
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, get_args, get_type_hints

import typer

from ddn.errors import DeclarativeNodeError
from ddn_etf._names import unknown_name

__all__ = [
    "CONFIG_NAME",
    "ConfigurationError",
    "Options",
    "command_line",
    "config_toml",
    "read_options",
    "with_options",
]

CONFIG_NAME = "config.toml"
"""The file of a run folder that says what was run."""

_NOT_IN_FILES = frozenset({"config", "help", "overwrite", "resume"})
_COMMANDS = frozenset({"train", "compare", "ufm", "ufm-minimize", "ufm-saddles"})
_NO_VALUE = (bool, int, float)


class ConfigurationError(DeclarativeNodeError, ValueError):
    """A configuration file that cannot be read, or that holds what no command knows."""


class Options(Protocol):
    """A frozen dataclass with one field per flag, annotated for Typer."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    command: ClassVar[str]


Chosen = TypeVar("Chosen", bound=Options)


def config_toml(options: Options) -> str:
    """All options of a command, defaults too, as a file that makes it run again."""
    lines = [f"# ddn-etf {options.command} --config {CONFIG_NAME}", f"[{options.command}]"]
    for name, value in _values(options).items():
        lines.append(
            f"# {name} is not set" if value is None else f"{name} = {_toml(value)}",
        )
    return "\n".join(lines) + "\n"


def command_line(options: Options) -> str:
    """The command with all its flags."""
    words = ["ddn-etf", options.command]
    for name, value in _values(options).items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            words += [f"--{name}", shlex.quote(str(value))]
    return " ".join(words)


def read_options(path: Path, known: Mapping[str, type[Chosen]]) -> Chosen:
    """The options of a file of :func:`config_toml`.

    Args:
        path: the file.
        known: types of options by command.

    Raises:
        ConfigurationError: no file, not TOML, none or several of the commands in it, a key that its
            command does not know, or a value of another type than the key has.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no {path}; give the folder of a run of ddn-etf")
    tables = _read(path)
    found = [command for command in known if command in tables]
    others = [name for name in tables if name in _COMMANDS and name not in known]
    if not found and others:
        raise ConfigurationError(
            f"{path.parent} is a folder of ddn-etf {others[0]}; give one of ddn-etf "
            f"{' or ddn-etf '.join(known)}"
        )
    if len(found) != 1:
        raise ConfigurationError(
            f"{path} must hold one of the tables {', '.join(f'[{name}]' for name in known)}, found "
            f"{', '.join(f'[{name}]' for name in tables) or 'none'}"
        )
    kind = known[found[0]]
    types = _types(kind)
    _check_keys(path, found[0], tables[found[0]], set(types))
    values = {
        key.replace("-", "_"): _typed(path, found[0], key, value, types[key])
        for key, value in tables[found[0]].items()
    }
    return kind(**values)


def with_options(kind: type[Chosen]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn ``f(options, ...)`` into a Typer command with a flag per field of ``kind``.

    The command also gets ``--config FILE``. The other parameters of ``f`` stay flags of their own.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints, types = get_type_hints(kind, include_extras=True), _types(kind)

        def use_file(context: typer.Context, path: Path | None) -> Path | None:
            return _use_file(context, path, types)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        flags = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in fields(kind)
        ]
        config = inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                Path | None,
                typer.Option(
                    help="TOML file with these options; flags win over it.",
                    is_eager=True,
                    callback=use_file,
                ),
            ],
        )
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            del values["config"]
            chosen = {field.name: values.pop(field.name) for field in fields(kind)}
            function(kind(**chosen), **values)

        signature = inspect.Signature([*flags, config, *parameters])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {
            each.name: each.annotation for each in signature.parameters.values()
        }
        return command

    return decorate


def _use_file(context: typer.Context, path: Path | None, types: Mapping[str, type]) -> Path | None:
    """Make the values of a file the defaults of the flags that are not given."""
    if path is None:
        return None
    table = context.command.name or ""
    try:
        if not path.is_file():
            raise ConfigurationError(f"there is no file {path}")
        tables = _read(path)
        if table not in tables:
            raise ConfigurationError(
                f"{path} has no table [{table}]; it has "
                f"{', '.join(f'[{name}]' for name in tables) or 'none'}"
            )
        known = {each.name for each in context.command.params} - _NOT_IN_FILES
        names = {name.replace("_", "-"): name for name in known if name}
        _check_keys(path, table, tables[table], set(names))
        values = {
            key: _typed(path, table, key, value, types.get(key, str))
            for key, value in tables[table].items()
        }
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error
    # As text, so that ranges are checked as those of flags are.
    context.default_map = {names[key]: str(value) for key, value in values.items()}
    return path


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read as TOML: {error}") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigurationError(
                f"{path}: the key {name!r} stands outside a table; put it under the name of its "
                "command, for example [train]"
            )
    return tables


def _check_keys(path: Path, table: str, values: Mapping[str, Any], known: set[str]) -> None:
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ConfigurationError(
            f"{path}: {unknown_name('key', unknown[0], sorted(known), f'keys of [{table}]')}"
        )


def _values(options: Options) -> dict[str, Any]:
    return {field.name.replace("_", "-"): getattr(options, field.name) for field in fields(options)}


_WORDS = {bool: "true or false", int: "an integer", float: "a number"}


def _types(kind: type[Options]) -> dict[str, type]:
    """What the value of each key is, None apart."""
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):
        hint = hints[field.name]
        [single] = [each for each in get_args(hint) or (hint,) if each is not type(None)]
        found[field.name.replace("_", "-")] = single
    return found


def _typed(path: Path, table: str, key: str, value: Any, wanted: type) -> Any:
    """The value of a key in a file; names may be a list, and a name may be a number."""
    if wanted in (str, Path):
        parts = value if isinstance(value, list) else [value]
        if all(isinstance(part, str | int | float) and part is not True for part in parts):
            return wanted(",".join(map(str, parts)))
        word = "text"
    else:
        accepted = (int, float) if wanted is float else (wanted,)
        if type(value) in accepted:
            return wanted(value)
        word = _WORDS[wanted]
    raise ConfigurationError(f"{path}: {key} in [{table}] must be {word}, found {value!r}")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # A string of JSON is a string of TOML.
    return repr(value) if isinstance(value, _NO_VALUE) else json.dumps(str(value))
