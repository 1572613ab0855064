"""Ctrl-C and SIGTERM in a training: a checkpoint, a line, and the same end as without them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import PrivateAttr

from sharegptvideo._io import read_jsonl
from sharegptvideo.errors import Interrupted
from sharegptvideo.eval import SampleEvaluation
from sharegptvideo.training import Recipe, SftRecipe, run_recipe
from sharegptvideo.training.callbacks import CutOff, StopSignal, training_line
from sharegptvideo.training.run_dir import COMPLETE, read_evaluations
from tests.support.warm_python import Command, WarmPython

Change = Callable[..., Any]
ENDLESS = 1_000_000


def signals_at(step: int, *numbers: int) -> Callable[[int, int, str], None]:
    """A `progress` that sends signals to this very process in a step."""

    def progress(done: int, _total: int, what: str) -> None:
        if what.startswith("training") and done == step:
            for number in numbers:
                signal.raise_signal(number)

    return progress


def weights(folder: str | Path) -> bytes:
    return (Path(folder) / "model.safetensors").read_bytes()


def whole_checkpoints(recipe: Recipe) -> list[str]:
    found = Path(recipe.output).glob(f"checkpoints/checkpoint-*/{COMPLETE}")
    return sorted(path.parent.name for path in found)


@pytest.fixture(params=["sft", "dpo"])
def recipe(request: pytest.FixtureRequest, change: Change) -> Recipe:
    """Eleven steps over more than one epoch, and no checkpoint before the end."""
    found: Recipe = request.getfixturevalue(f"{request.param}_recipe")
    return change(found, save_every=100, optimisation={"max_steps": 11})  # type: ignore[no-any-return]


def test_stopped_twice_it_ends_as_a_training_that_was_not(recipe: Recipe, change: Change) -> None:
    whole = run_recipe(change(recipe, output=f"{recipe.output}-whole"))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    reported: list[str] = []
    for step, number, code in ((5, signal.SIGINT, 130), (8, signal.SIGTERM, 143)):
        with pytest.raises(Interrupted) as caught:
            run_recipe(recipe, progress=signals_at(step, number), report=reported.append)
        assert str(caught.value) == (
            f"stopped at step {step} of 11; the same command goes on from there"
        )
        assert caught.value.exit_code == code
        assert f"checkpoint-{step}" in whole_checkpoints(recipe)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    result = run_recipe(recipe, report=reported.append)
    stopping = "stopping after this step, with a checkpoint; a second time stops at once"
    assert [text for text in reported if text.startswith(("stopping", "resuming"))] == [
        stopping, "resuming from step 5", stopping, "resuming from step 8",
    ]  # fmt: skip
    assert (result.resumed_from, result.steps) == (8, 11)
    assert [entry["loss"] for entry in result.log] == [entry["loss"] for entry in whole.log]
    assert weights(recipe.output) == weights(whole.output)


def test_a_step_between_two_logs_is_logged_before_the_end(
    sft_recipe: SftRecipe, change: Change
) -> None:
    recipe = change(sft_recipe, log_every=4, optimisation={"max_steps": 9})
    with pytest.raises(Interrupted):
        run_recipe(recipe, progress=signals_at(6, signal.SIGINT))
    assert [entry["step"] for entry in run_recipe(recipe).log] == [1, 4, 6, 8, 9]


def test_in_its_last_step(sft_recipe: SftRecipe) -> None:
    with pytest.raises(Interrupted, match="stopped at step 6 of 6"):
        run_recipe(sft_recipe, progress=signals_at(6, signal.SIGTERM))
    result = run_recipe(sft_recipe)
    assert (result.resumed_from, result.steps) == (6, 6)


def test_a_second_signal_stops_at_once(sft_recipe: SftRecipe, change: Change) -> None:
    recipe = change(sft_recipe, save_every=2)
    with pytest.raises(Interrupted, match="goes on from the last checkpoint") as caught:
        run_recipe(recipe, progress=signals_at(5, signal.SIGINT, signal.SIGTERM))
    assert caught.value.exit_code == 143
    assert whole_checkpoints(recipe) == ["checkpoint-2", "checkpoint-4"]


class Judging(SampleEvaluation):
    """Evaluates every model as right; in the evaluations of three steps, a signal comes first."""

    _cut: set[int] = PrivateAttr(default_factory=lambda: {0, 3, 6})

    def check(self) -> None:
        """Nothing is missing."""

    def evaluate(self, *given: Any) -> list[Any]:
        name = given[2]
        step = int(name.rpartition(" ")[2])
        if step in self._cut:
            self._cut.remove(step)
            signal.raise_signal(signal.SIGINT)
        row = {"task": "t", "task_version": 1, "judge": "j", "accuracy": 1.0, "ci95": None}
        return [{**row, "score": 5.0, "n": 1, "n_scored": 1, "coverage": 1.0, "words": 1.0}]


def test_an_evaluation_is_cut_off_and_asked_again(sft_recipe: SftRecipe, change: Change) -> None:
    """Before the first step, after the third and after the last: at once, and lost is nothing."""
    whole = run_recipe(change(sft_recipe, output=f"{sft_recipe.output}-whole"))
    judging = Judging(tasks=("t",), judge="j", every=3)
    recipe = sft_recipe.model_copy(update={"eval": judging})
    for step, known in ((0, []), (3, [0]), (6, [0, 3])):
        with pytest.raises(Interrupted, match=f"stopped at step {step} of 6"):
            run_recipe(recipe)
        assert [row["step"] for row in read_evaluations(Path(recipe.output))] == known
    run_recipe(recipe)
    found = read_evaluations(Path(recipe.output))
    assert [(row["step"], row["status"]) for row in found] == [(0, "ok"), (3, "ok"), (6, "ok")]
    assert weights(recipe.output) == weights(whole.output)


def test_what_is_caught() -> None:
    said: list[str] = []
    stop = StopSignal(said.append)
    with stop.caught():
        signal.raise_signal(signal.SIGTERM)
        assert stop.number == signal.SIGTERM
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    assert len(said) == 1
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

    stop = StopSignal(said.append)
    with stop.caught(), pytest.raises(CutOff), stop.cutting_off():
        signal.raise_signal(signal.SIGINT)


def test_a_launchers_copy_of_a_signal_is_no_second_one() -> None:
    """`accelerate launch` passes on what a terminal has sent to the whole group already."""
    said: list[str] = []
    clock = [0.0]
    stop = StopSignal(said.append, launched=True, now=lambda: clock[0])
    with stop.caught():
        signal.raise_signal(signal.SIGHUP)
        clock[0] = 4.0
        signal.raise_signal(signal.SIGHUP)
        assert (stop.number, len(said)) == (signal.SIGHUP, 1)
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGTERM)  # another one is a second one
        assert caught.value.exit_code == 143
        clock[0] = 6.0
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGHUP)
        assert caught.value.exit_code == 129


def test_an_ignored_signal_stays_ignored() -> None:
    stop = StopSignal(print)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop.caught():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert stop.number is None


def test_in_a_thread_nothing_is_caught() -> None:
    seen: list[Any] = []

    def work() -> None:
        with StopSignal(print).caught():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


# Real processes, whose training would never end.


@pytest.fixture
def start(tmp_path: Path, warm_python: WarmPython) -> Iterator[Callable[[Recipe], Command]]:
    """`start(recipe)` runs `train run` in a process group of its own, without waiting."""
    started: list[Command] = []

    def run(recipe: Recipe) -> Command:
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        words = ("-m", "sharegptvideo", "train", "run", file)
        process = warm_python.start(*words, new_session=True)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def wait_for_step(recipe: Recipe, step: int, process: Command) -> None:
    """Wait until the log has the step or a later one."""
    log = Path(recipe.output) / "log.jsonl"
    while not log.exists() or not any(
        f'"step": {step}}}' in line or int(line.rpartition(": ")[2][:-1]) > step
        for line in log.read_text().splitlines()
        if line.endswith("}")
    ):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


@pytest.mark.slow
def test_ctrl_c_and_sigterm_of_a_command_with_loader_workers(
    sft_recipe: SftRecipe, start: Callable[..., Command], change: Change
) -> None:
    """Sent to all processes of the group, as a terminal and a scheduler do."""
    recipe = change(
        sft_recipe,
        save_every=ENDLESS,
        data={"workers": 1},
        optimisation={"max_steps": ENDLESS},
    )
    step = 0
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start(recipe)
        wait_for_step(recipe, step + 2, process)
        os.killpg(process.pid, number)
        said = process.communicate()[1]
        assert process.returncode == code, said
        assert "Traceback" not in said
        assert (f"resuming from step {step}" in said) == (step > 0)
        *_, last = read_jsonl(Path(recipe.output) / "log.jsonl")
        assert last[1]["step"] > step
        step = last[1]["step"]
        assert said.splitlines()[-1] == (
            f"stopped at step {step} of {ENDLESS}; the same command goes on from there"
        )
        assert f"checkpoint-{step}" in whole_checkpoints(recipe)


def test_two_signals_to_a_command(
    sft_recipe: SftRecipe, start: Callable[..., Command], change: Change
) -> None:
    """Both come while the process is stopped: the lower number is handled first, on any machine."""
    recipe = change(sft_recipe, save_every=ENDLESS, optimisation={"max_steps": ENDLESS})
    process = start(recipe)
    wait_for_step(recipe, 2, process)
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 143, said
    assert said.splitlines()[-1] == (
        "stopped at once; the same command goes on from the last checkpoint"
    )
    assert "Traceback" not in said
    assert whole_checkpoints(recipe) == []


def test_lines_of_a_training_in_a_log() -> None:
    assert training_line(10, 100, 0.51234, 10, 20.0) == (
        "step 10 of 100: loss 0.5123, 2.0 s a step, about 3 min left"
    )
    # After a resume the rate is of the steps of this process alone.
    assert training_line(60, 100, 2.0, 10, 600.0).endswith("1 min 0 s a step, about 40 min left")
    assert training_line(100, 100, 2.0, 50, 25.0) == "step 100 of 100: loss 2, 0.5 s a step"
