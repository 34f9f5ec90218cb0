from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from ddn_etf.commands.configuration import (
    ConfigurationError,
    command_line,
    config_toml,
    read_options,
    with_options,
)
from ddn_etf.commands.options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class Options:
    command: ClassVar[str] = "cook"
    dish: Annotated[str, typer.Option()] = "soup"
    data_folder: Annotated[Path | None, typer.Option()] = None
    hours: Annotated[int, typer.Option(min=1)] = 3
    salt: Annotated[float, typer.Option()] = 1e-05
    hot: Annotated[bool, typer.Option()] = False


app = typer.Typer()
seen: list[tuple[Options, bool]] = []


@app.command("cook")
@with_options(Options)
def cook(options: Options, resume: Annotated[bool, typer.Option("--resume")] = False) -> None:
    seen.append((options, resume))


@app.command("other")
def other() -> None:
    pass


def call(*arguments: object) -> tuple[Options, bool]:
    result = CliRunner().invoke(app, ["cook", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return seen.pop()


def fail(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["cook", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    return " ".join(result.output.replace("│", " ").split())


CASES = [
    Options(),
    Options(dish='"a\\b" é\n=', data_folder=Path("/x y/z"), hours=7, salt=0.25, hot=True),
]


def test_defaults():
    assert call() == (Options(), False)
    assert call("--resume", "--hours", 4) == (Options(hours=4), True)


@pytest.mark.parametrize("options", CASES)
def test_what_is_written_is_read_again(options, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(config_toml(options))
    assert read_options(path, {"cook": Options}) == options
    assert call("--config", path) == (options, False)


@pytest.mark.parametrize("options", CASES)
def test_the_command_line_says_the_same(options):
    words = shlex.split(command_line(options))
    assert words[:2] == ["ddn-etf", "cook"]
    assert call(*words[2:]) == (options, False)


def test_a_file_is_complete():
    table = tomllib.loads(config_toml(CASES[1]))["cook"]
    assert set(table) == {"dish", "data-folder", "hours", "salt", "hot"}
    assert "# data-folder is not set" in config_toml(Options())


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[cook]\nhours = 8\ndish = "stew"\n[other]\nx = 1\n')
    options, _ = call("--config", path, "--dish", "soup")
    assert options == Options(hours=8, dish="soup")
    # The order of the flags does not matter.
    assert call("--dish", "soup", "--config", path)[0] == options


def test_a_list_is_a_list_of_names(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[cook]\ndish = ["soup", "stew"]\n')
    assert call("--config", path)[0].dish == "soup,stew"
    assert read_options(path, {"cook": Options}).dish == "soup,stew"


def test_a_whole_number_is_a_number_and_a_number_is_a_name(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[cook]\nsalt = 2\ndish = 32\n")
    expected = Options(salt=2.0, dish="32")
    for found in (call("--config", path)[0], read_options(path, {"cook": Options})):
        assert found == expected
        assert isinstance(found.salt, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[cook]\nhour = 2\n",
            "config.toml: unknown key 'hour' (did you mean 'hours'?); keys of [cook]: data-folder, d",
        ),
        ("[cook]\nresume = true\n", "unknown key 'resume'; keys of [cook]"),
        ("[cook]\ndata_folder = 'x'\n", "unknown key 'data_folder' (did you mean 'data-folder'?)"),
        ("[cook]\nhours = 2.5\n", "config.toml: hours in [cook] must be an integer, found 2.5"),
        ("[cook]\nhours = true\n", "config.toml: hours in [cook] must be an integer, found True"),
        ("[cook]\nhours = '3'\n", "config.toml: hours in [cook] must be an integer, found '3'"),
        ("[cook]\nsalt = 'a'\n", "config.toml: salt in [cook] must be a number, found 'a'"),
        ("[cook]\nhot = 1\n", "config.toml: hot in [cook] must be true or false, found 1"),
        ("[cook]\ndish = true\n", "config.toml: dish in [cook] must be text, found True"),
        ("[cook]\ndata-folder = {}\n", "config.toml: data-folder in [cook] must be text, found {}"),
        ("[cook]\nhours = 0\n", "Invalid value for '--hours'"),
        ("[eat]\nhours = 2\n", "has no table [cook]; it has [eat]"),
        ("hours = 2\n", "the key 'hours' stands outside a table"),
        ("[cook\n", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_explained(text, message, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert message in fail("--config", path)


def test_a_missing_file(tmp_path):
    assert "there is no file" in fail("--config", tmp_path / "absent.toml")
    with pytest.raises(ConfigurationError, match=r"there is no .*absent"):
        read_options(tmp_path / "absent.toml", {"cook": Options})


def test_a_folder_with_several_commands_or_none(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[cook]\n[fry]\n")
    with pytest.raises(ConfigurationError, match=r"one of the tables \[cook\], \[fry\], found"):
        read_options(path, {"cook": Options, "fry": Options})
    path.write_text("[bake]\n")
    with pytest.raises(ConfigurationError, match=r"found \[bake\]"):
        read_options(path, {"cook": Options})
    path.write_text("[cook]\nhours = 1.5\n")
    with pytest.raises(
        ConfigurationError, match=r"c.*toml: hours in \[cook\] must be an integer, "
    ):
        read_options(path, {"cook": Options})
    path.write_text("[cook]\nhour = 1\n")
    with pytest.raises(ConfigurationError, match="unknown key 'hour'"):
        read_options(path, {"cook": Options})


def test_options_are_values():
    assert replace(Options(), hours=4) == Options(hours=4)


def test_the_folder_of_another_command(tmp_path):
    (tmp_path / "config.toml").write_text("[ufm-minimize]\n")
    with pytest.raises(
        ConfigurationError, match="is a folder of ddn-etf ufm-minimize; give one of"
    ):
        read_options(tmp_path / "config.toml", {"train": TrainOptions})
