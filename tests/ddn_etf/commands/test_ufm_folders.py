from __future__ import annotations

import pytest

from ddn_etf.commands.configuration import CONFIG_NAME, ConfigurationError, config_toml
from ddn_etf.commands.folders import FolderError
from ddn_etf.commands.ufm_folders import check_same_options, read_column
from ddn_etf.commands.ufm_model_options import UfmMinimizeOptions
from ddn_etf.commands.ufm_options import UfmOptions


@pytest.mark.parametrize(
    "options",
    [
        UfmOptions(classes=6, feature_rates="1,2.5", hold=3, gap=0.125),
        UfmMinimizeOptions(weight_decay_b=0.1, bias="regularized", width=None, tolerance=1e-7),
    ],
)
def test_the_same_options_come_back_from_their_file(options, tmp_path):
    (tmp_path / CONFIG_NAME).write_text(config_toml(options), encoding="utf-8")
    check_same_options(options, tmp_path, may_differ=())


def test_other_options_are_named(tmp_path):
    (tmp_path / CONFIG_NAME).write_text(config_toml(UfmOptions(seeds=2)), encoding="utf-8")
    check_same_options(UfmOptions(seeds=5), tmp_path, may_differ=("seeds",))
    with pytest.raises(FolderError, match="seeds = 2, and seeds = 5 is asked for"):
        check_same_options(UfmOptions(seeds=5), tmp_path, may_differ=())
    with pytest.raises(ConfigurationError, match="there is no"):
        check_same_options(UfmOptions(), tmp_path / "none", may_differ=())
    with pytest.raises(ConfigurationError, match="is a folder of ddn-etf ufm; give one of"):
        check_same_options(UfmMinimizeOptions(), tmp_path, may_differ=())


def test_a_column(tmp_path):
    path = tmp_path / "a.csv"
    assert read_column(path, "value") == []
    path.write_text("step,value\n0,1.5\n1,inf\n")
    assert read_column(path, "value") == [1.5, float("inf")]
    with pytest.raises(FolderError, match="has no column 'size' of numbers"):
        read_column(path, "size")
    path.write_text("value\nx\n")
    with pytest.raises(FolderError, match="has no column 'value' of numbers"):
        read_column(path, "value")
