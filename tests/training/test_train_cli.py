"""`sharegptvideo train` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from sharegptvideo import cli
from sharegptvideo.training import recipe_text


def train(*words: str) -> Any:
    return CliRunner().invoke(cli.app, ["train", *words])


def test_ls_tells_what_each_is_for() -> None:
    result = train("ls")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any(line.startswith("demo/dpo") and "pairs" in line for line in lines)
    assert json.loads(train("ls", "--json").stdout).keys() >= {"demo/sft", "llava_hound/dpo"}


def test_cp_copies_once(tmp_path: Path) -> None:
    assert train("cp", "demo/sft", str(tmp_path)).exit_code == 0
    assert (tmp_path / "sft.yaml").read_text() == recipe_text("demo/sft")
    again = train("cp", "demo/sft", str(tmp_path / "sft.yaml"))
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert train("cp", "demo/sff", str(tmp_path / "x.yaml")).exit_code == 2


def test_validate_prints_the_whole_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(recipe_text("demo/dpo"))
    result = train("validate", str(file), "dpo.beta=0.5", "--json")
    assert result.exit_code == 0
    dpo = json.loads(result.stdout)["dpo"]
    assert (dpo["beta"], dpo["loss_type"], dpo["reference"]) == (0.5, "sigmoid", "precomputed")
    wrong = train("validate", str(file), "dpo.betta=0.5")
    assert wrong.exit_code == 2
    assert "did you mean beta?" in wrong.stderr
    assert wrong.stdout == ""


def test_run_prints_figures_alone_on_stdout(
    pointed_at: Callable[..., list[str]], tmp_path: Path
) -> None:
    overrides = [
        *pointed_at(tmp_path / "out", steps=2),
        "frames=4",
        "optimisation.per_device_batch_size=2",
    ]
    result = train("run", "demo/sft", *overrides, "data.split=train+validation", "--json")
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    assert (figures["stage"], figures["steps"], figures["rows"]) == ("sft", 2, 8)
    assert "training (sft): 2/2" in result.stderr
    again = train("run", "demo/sft", *overrides, "data.split=train+validation", "--json")
    assert json.loads(again.stdout)["already_done"] is True
    assert "nothing to do" in again.stderr


def test_a_model_that_is_not_there_is_one_line(
    pointed_at: Callable[..., list[str]], tmp_path: Path
) -> None:
    overrides = pointed_at(tmp_path / "out", steps=2)
    result = train("run", "demo/sft", *overrides, f"model={tmp_path / 'none'}")
    assert result.exit_code == 2
    assert "no checkpoint there" in result.stderr
    assert result.stderr.count("\n") == 1
