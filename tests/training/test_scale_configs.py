"""The configurations of `accelerate launch`: found by name, and what accelerate reads in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from typer.testing import CliRunner

from sharegptvideo.cli import app
from sharegptvideo.training.launch import config_names, config_path

FOLDER = Path(__file__).parents[2] / "training" / "accelerate"
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.yaml"))
KINDS = {
    "cpu_2": ("MULTI_GPU", 2),
    "ddp": ("MULTI_GPU", 8),
    "fsdp2": ("FSDP", 8),
    "fsdp2_nodes": ("FSDP", 16),
    "one_gpu": ("NO", 1),
    "zero2": ("DEEPSPEED", 8),
    "zero3": ("DEEPSPEED", 8),
}


def test_all_are_listed() -> None:
    assert config_names() == SHIPPED == sorted(KINDS)


@pytest.mark.parametrize("name", SHIPPED)
def test_accelerate_takes_it(name: str) -> None:
    """By its own reader, which refuses unknown keys, and by what `launch` makes of it."""
    path = str(config_path(name))
    config = load_config_from_file(path)
    assert (config.distributed_type.value, config.num_processes) == KINDS[name]
    arguments = launch_command_parser().parse_args(["--config_file", path, "-m", "sharegptvideo"])
    launched, _, _ = _validate_launch_command(arguments)
    assert launched.num_processes == KINDS[name][1]
    assert launched.mixed_precision == "no"
    assert launched.use_fsdp == (KINDS[name][0] == "FSDP")
    assert launched.use_deepspeed == (KINDS[name][0] == "DEEPSPEED")
    if launched.use_fsdp:
        assert launched.fsdp_version == 2
        assert launched.fsdp_state_dict_type == "SHARDED_STATE_DICT"
    if launched.use_deepspeed:
        assert launched.zero_stage == int(name[-1])


@pytest.mark.parametrize("name", SHIPPED)
def test_it_opens_with_its_command(name: str) -> None:
    text = config_path(name).read_text(encoding="utf-8")
    comment = text.partition("compute_environment")[0]
    assert f"$(sharegptvideo train config {name})" in comment
    assert "-m sharegptvideo train run" in comment


def test_the_command_prints_the_file() -> None:
    printed = CliRunner().invoke(app, ["train", "config", "fsdp2"]).stdout
    assert Path(printed.strip()).read_text() == (FOLDER / "fsdp2.yaml").read_text()
    every = CliRunner().invoke(app, ["train", "config"]).stdout
    assert [line.split()[0] for line in every.splitlines()] == SHIPPED
    wrong = CliRunner().invoke(app, ["train", "config", "fsdp"])
    assert wrong.exit_code == 2
    assert "did you mean" in wrong.stderr
