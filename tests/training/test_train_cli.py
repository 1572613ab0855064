"""`sharegptvideo train` as it is typed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


STEPS = """
# Two short trainings in a row.
stage: sft
model: {model}
output: {output}
data: {{name: sft, data_dir: {release}, media: {release}, split: train+validation}}
frames: 4
optimisation: {{learning_rate: 1.0e-3, max_steps: 2, per_device_batch_size: 2}}
steps:
  first: {{}}
  second: {{optimisation: {{learning_rate: 1.0e-4}}}}
"""


def test_steps_run_in_a_row_and_go_on(release: Path, tiny: Path, tmp_path: Path) -> None:
    """The second starts from the first's weights; a second call does what is missing, no more."""
    file, out = tmp_path / "steps.yaml", tmp_path / "out"
    file.write_text(STEPS.format(model=tiny, output=out, release=release))
    both = train("run", str(file), "--json")
    assert both.exit_code == 0, both.stderr
    figures = json.loads(both.stdout)
    assert list(figures) == ["first", "second"]
    states = [json.loads((out / name / "run.json").read_text()) for name in ("first", "second")]
    assert states[1]["model_sha256"] == states[0]["weights_sha256"]
    assert states[1]["weights_sha256"] != states[0]["weights_sha256"]
    shutil.rmtree(out / "second")
    again = json.loads(train("run", str(file), "--json").stdout)
    assert [again[name]["already_done"] for name in again] == [True, False]
    repeated = json.loads((out / "second" / "run.json").read_text())
    assert repeated["weights_sha256"] == states[1]["weights_sha256"]


def test_a_dry_run_tells_and_trains_nothing(
    pointed_at: Callable[..., list[str]], tmp_path: Path
) -> None:
    words = [
        "demo/dpo",
        *pointed_at(tmp_path / "out", steps=2),
        "frames=4",
        "optimisation.per_device_batch_size=2",
        "data.split=train+validation",
        "--dry-run",
    ]
    plain = train("run", *words, "--gpus", "2xL4")
    assert plain.exit_code == 0, plain.stdout
    first = [line.split()[0] for line in plain.stdout.splitlines() if line[0] != " "]
    assert first == [
        "recipe", "data", "model", "steps", "tokens", "attention", "compute", "memory", "hours",
        "features", "disk", "assumed", "missing",
    ]  # fmt: skip
    found = json.loads(train("run", *words, "--json", "--gpus", "2xL4").stdout)
    assert (found["plan"]["steps"], found["plan"]["rows_a_step"]) == (2, 4)
    assert [way["way"] for way in found["memory"]] == [
        "a whole copy", "ZeRO-2", "FSDP2 or ZeRO-3",
    ]  # fmt: skip
    assert not (tmp_path / "out").exists()
    stopped = train("run", *words, f"data.media={tmp_path}")
    assert stopped.exit_code == 1
    assert "STOPS     4 rows have no clip" in stopped.stdout


def test_utilisation_halves_the_hours(pointed_at: Callable[..., list[str]], tmp_path: Path) -> None:
    words = [
        "demo/sft", *pointed_at(tmp_path / "out", steps=2), "frames=4", "--dry-run", "--json",
        "--gpus", "L4",
    ]  # fmt: skip
    hours = [
        json.loads(train("run", *words, "--utilisation", share).stdout)["hours"][0]
        for share in ("0.2", "0.4")
    ]
    assert hours[0] == pytest.approx(2 * hours[1])


def test_options_of_a_dry_run_alone() -> None:
    result = train("run", "demo/sft", "--gpus", "8xH100")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: --gpus and --utilisation are for --dry-run; a run takes the GPUs it sees\n"
    )
    assert train("run", "demo/sft", "--dry-run", "--gpus", "8xH10").exit_code == 2


def test_a_recipe_of_steps_is_validated_whole() -> None:
    found = json.loads(train("validate", "llava_hound/sft_two_step", "--json").stdout)
    assert list(found) == ["captions", "answers"]
    assert found["answers"]["model"] == found["captions"]["output"]
