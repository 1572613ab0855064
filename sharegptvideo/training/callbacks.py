"""Callbacks of a training: reports, early warnings, evaluations, stopping on a signal."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import KeyedLog, dumps, follow_umask, write_jsonl, write_text
from sharegptvideo._text import duration, interval, number, percent, rough_duration, rounded
from sharegptvideo.errors import Interrupted, UserError
from sharegptvideo.models import answering
from sharegptvideo.training.dpo_diagnostics import Diagnostics, DpoSettings
from sharegptvideo.training.launch import processes
from sharegptvideo.training.recipes import DpoRecipe
from sharegptvideo.training.run_dir import (
    COMPLETE,
    EVALS,
    TrainingDir,
    checkpoint_step,
    read_evaluations,
)

__all__ = [
    "PROJECT",
    "CutOff",
    "StopAfterStep",
    "StopSignal",
    "attach_callbacks",
    "training_line",
]

Row = dict[str, Any]


def attach_callbacks(trainer: Any, run: TrainingDir, progress: Progress | None) -> StopAfterStep:
    """Add what records, reports, warns, evaluates and stops; nothing prints to stdout.

    Returns:
        the last one, which `train` ends with.

    Raises:
        UserError: the recipe's evaluations cannot work.
    """
    stop = StopAfterStep(StopSignal(run.report, launched=processes().count > 1))
    checkpoint = run.last_checkpoint()
    done = checkpoint_step(checkpoint) if checkpoint else None
    sinks = _reporters(run, done) if processes().is_first else []
    warnings = _Warnings(trainer, run)
    callbacks = [_Record(run, progress), *sinks, warnings]
    if progress and not sys.stderr.isatty() and processes().is_first:
        callbacks.append(_LogLines(run.report))
    if run.recipe.eval is not None:

        def evaluated(rows: list[Row]) -> None:
            _report_evaluation(sinks, trainer, rows)
            run.report(_in_a_line(rows))
            warnings.add_evaluation(rows)

        # In a log, each evaluation's figures are a line; its progress would be four more.
        shown = progress if sys.stderr.isatty() else None
        callbacks.append(_Evaluations(trainer, run, stop.signal, shown, evaluated))
    trainer.remove_callback(PrinterCallback)
    for callback in (*callbacks, stop):
        trainer.add_callback(callback)
    return stop


def _in_a_line(rows: list[Row]) -> str:
    first = rows[0]
    shares = []
    for row in rows:
        ends = f" ({interval(row['ci95'])})" if row["ci95"] else ""
        value = "unknown" if row["accuracy"] is None else percent(row["accuracy"])
        shares.append(f"{row['task']} {value}{ends}")
    return f"step {first['step']} (epoch {rounded(first['epoch'])}): {', '.join(shares)}"


class _Record(TrainerCallback):
    """Logs to the run folder, marks whole checkpoints, moves the progress display on."""

    def __init__(self, run: TrainingDir, progress: Progress | None) -> None:
        self.run = run
        self.progress = progress
        self.what = f"training ({run.recipe.stage})"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        # After a resume the file may hold steps after the checkpoint; they will come again.
        if state.is_world_process_zero:
            write_jsonl(self.run.log, state.log_history)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        entry = state.log_history[-1]
        entry.pop("num_tokens", None)  # TRL counts those since the last resume
        loss = entry.get("loss")
        if loss is not None and not math.isfinite(loss):
            raise UserError(
                f"step {state.global_step}: the loss is {loss}; lower optimisation.learning_rate",
                exit_code=1,
            )
        if state.is_world_process_zero and "loss" in entry:
            with self.run.log.open("a", encoding="utf-8") as file:
                file.write(dumps(entry) + "\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        if state.global_step >= state.max_steps:
            control.should_log = True  # the end belongs on the curve
        if self.progress and state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps, self.what)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        processes().wait()  # each writes its own shards and generators
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            follow_umask(folder.rglob("*"))
            write_text(folder / COMPLETE, f"step {state.global_step}\n")


class _LogLines(TrainerCallback):
    """Reports loss, rate and time left about twice a minute, where no bar can be drawn."""

    def __init__(
        self, report: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._report, self._now = report, now
        self._begun = (0, 0.0)
        self._last: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        self._begun = (state.global_step, self._now())

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        loss = state.log_history[-1].get("loss")
        now, ended = self._now(), state.global_step >= state.max_steps
        if loss is None or (self._last is not None and now - self._last < _LINE_S and not ended):
            return
        self._last = now
        step, begun = self._begun
        self._report(
            training_line(
                state.global_step, state.max_steps, loss, state.global_step - step, now - begun
            )
        )


_LINE_S = 30.0


def training_line(step: int, steps: int, loss: float, done: int, seconds: float) -> str:
    """Return a log's line on a training: `done` steps of this process took `seconds`.

    >>> training_line(10, 100, 0.51234, 10, 20.0)
    'step 10 of 100: loss 0.5123, 2.0 s a step, about 3 min left'
    """
    line = f"step {number(step)} of {number(steps)}: loss {number(loss)}"
    if done < 1:
        return line
    each = seconds / done
    left = f", about {rough_duration(each * (steps - step))} left" if step < steps else ""
    return f"{line}, {duration(each)} a step{left}"


class _Warnings(TrainerCallback):
    """Gives the log and the evaluations to `Diagnostics`, and notes what they warn of."""

    def __init__(self, trainer: Any, run: TrainingDir) -> None:
        self._trainer, self._run = trainer, run
        self._diagnostics = Diagnostics(None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        recipe = self._run.recipe
        if not state.is_world_process_zero:
            return
        settings = None
        if isinstance(recipe, DpoRecipe):
            o = recipe.optimisation
            each = o.per_device_batch_size * o.gradient_accumulation
            settings = DpoSettings(
                beta=recipe.dpo.beta,
                pairs=each * self._trainer.accelerator.num_processes,
                warmup=int(o.warmup_ratio * state.max_steps),
                steps=state.max_steps,
            )
        self._diagnostics = Diagnostics(settings)
        # After a resume: what was logged before is known, and no warning comes twice.
        self._run.rewind(state.global_step)
        for entry in state.log_history:
            self._diagnostics.log_warnings(entry)
        for row in read_evaluations(self._run.path):
            if row["step"] <= state.global_step and row["status"] == "ok":
                self._diagnostics.evaluation_warnings(row)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        if state.is_world_process_zero:
            for text in self._diagnostics.log_warnings(state.log_history[-1]):
                self._run.note(text, step=state.global_step)

    def add_evaluation(self, rows: Sequence[Row]) -> None:
        """Note what the rows of an evaluation show."""
        for row in rows:
            for text in self._diagnostics.evaluation_warnings(row):
                self._run.note(text, step=row["step"])


class _Evaluations(TrainerCallback):
    """Evaluates before the first step, every `every` steps and after the last one.

    What is recorded for a step is not repeated after a resume; what was cut off or failed is. A
    judge that is gone costs one evaluation, not the training. A signal that stops the training
    cuts off the one that runs.
    """

    def __init__(
        self,
        trainer: Any,
        run: TrainingDir,
        stop: StopSignal,
        progress: Progress | None,
        evaluated: Callable[[list[Row]], None],
    ) -> None:
        """Prepare it; `evaluated` gets an evaluation's rows, in the first process, if it went well.

        Raises:
            UserError: see `SampleEvaluation.check`; weights that are spread over devices.
        """
        sample = run.recipe.eval
        assert sample is not None  # the caller has checked
        plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
        if trainer.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3):
            raise UserError(
                "eval: the weights are spread over several devices (FSDP, ZeRO-3), where none can "
                "answer alone; leave eval out, or train with DDP or ZeRO-2"
            )
        processes().first(sample.check)
        self._trainer, self._run, self._sample = trainer, run, sample
        self._stop, self._progress, self._evaluated = stop, progress, evaluated

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        # After a resume: a signal may have cut off the one of the checkpoint's step.
        self._if_due(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        self._if_due(state)

    def _if_due(self, state: Any) -> None:
        step = state.global_step
        if step % self._sample.every == 0 or step >= state.max_steps:
            self._at(step, float(state.epoch or 0.0))

    def _at(self, step: int, epoch: float) -> None:
        if processes().is_first and self._stop.number is None:
            with KeyedLog(self._run.path / EVALS, key=("task", "step")) as log:
                keys = [f"{task}/{step}" for task in self._sample.tasks]
                if not all(log.rows.get(key, {}).get("status") == "ok" for key in keys):
                    self._record(log, step, epoch)
        processes().wait()

    def _record(self, log: KeyedLog, step: int, epoch: float) -> None:
        out = self._run.path / "evaluations" / f"step-{step:06d}"
        shutil.rmtree(out, ignore_errors=True)  # one that was cut off: maybe of other weights
        start = time.monotonic()
        try:
            with self._stop.cutting_off():
                rows = self._answers(out, step)
        except CutOff:
            return  # asked again by the run that goes on
        except Exception as error:  # noqa: BLE001 - days of training are worth more than a figure
            reason = str(error) if isinstance(error, UserError) else _described(error)
            for task in self._sample.tasks:
                failed = {"task": task, "judge": self._sample.judge, "reason": reason}
                log.append({"step": step, "epoch": epoch, "status": "failed", **failed})
            self._run.note(f"evaluation at step {step} failed: {reason}", step=step)
            return
        seconds = round(time.monotonic() - start, 2)
        rows = [{"step": step, "epoch": epoch, "status": "ok", **row} for row in rows]
        for row in rows:
            log.append({**row, "seconds": seconds})
        self._evaluated(rows)

    def _answers(self, out: Path, step: int) -> list[Row]:
        trainer = self._trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        name = f"{self._run.path.name} at step {step}"
        with (
            trainer.accelerator.autocast(),
            answering(model, self._run.recipe.start) as answerer,
        ):
            # Asked as it is trained, whatever the prompts of the starting model were.
            answerer.tokenizer.chat_template = trainer.processing_class.chat_template
            return self._sample.evaluate(answerer, out, name, self._progress)


def _described(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


PROJECT = "sharegptvideo"
"""The project of W&B and Trackio, where their settings name no other."""


def _reporters(run: TrainingDir, done: int | None) -> list[TrainerCallback]:
    """Return the callbacks of the recipe's `report_to`, for a training of which `done` steps exist.

    TensorBoard's files are in OUT/tensorboard; what a resumed training does again is hidden there.
    W&B and Trackio go by their own settings; the project is `sharegptvideo` where
    WANDB_PROJECT says nothing else.
    """
    from transformers import integrations

    kinds: Any = integrations  # which says nothing of its callbacks' types
    callbacks: list[TrainerCallback] = []
    for name in run.recipe.report_to:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            make: Any = SummaryWriter  # untyped in torch
            first = None if done is None else done + 1
            writer = make(str(run.path / "tensorboard"), purge_step=first)
            callbacks.append(kinds.TensorBoardCallback(writer))
        elif name == "wandb":
            os.environ.setdefault("WANDB_PROJECT", PROJECT)
            os.environ.setdefault("WANDB_DIR", str(run.path))
            callbacks.append(kinds.WandbCallback())
        else:
            callbacks.append(kinds.TrackioCallback())
    return callbacks


def _report_evaluation(
    callbacks: Sequence[TrainerCallback], trainer: Any, rows: Sequence[dict[str, Any]]
) -> None:
    """Send the figures of an evaluation to `callbacks`, as `eval/TASK/accuracy` and so on."""
    logs = {
        f"eval_{row['task']}/{key}": row[key]
        for row in rows
        for key in ("accuracy", "score", "coverage", "words")
        if row.get(key) is not None
    }
    for callback in callbacks:
        callback.on_log(
            trainer.args, trainer.state, trainer.control, logs=logs, model=trainer.model
        )


_SIGNALS = tuple(  # the last is absent on Windows
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_COPY_S = 5.0
"""Launchers pass a signal on to processes that a terminal or a scheduler has sent it already."""


class CutOff(KeyboardInterrupt):
    """The first signal, where it came in a `StopSignal.cutting_off` block."""


class StopSignal:
    """The signal that asked a training to stop, if one did.

    The first signal is noted, and the training ends after the step it is in. The second
    one raises `Interrupted` wherever the training is. In one of several processes the same signal
    within seconds is the launcher's copy of the first, and counts as that.
    """

    def __init__(
        self,
        report: Callable[[str], None],
        *,
        launched: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep `report`, which is called with a line when the first signal comes."""
        self.number: int | None = None
        self._report, self._launched, self._now = report, launched, now
        self._at = 0.0
        self._cuts_off = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch Ctrl-C, SIGTERM and SIGHUP in the block, and restore their handlers after it.

        A signal that the process ignores stays ignored. Only the main thread can catch signals;
        in another one the block runs as it is.
        """
        before = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in _SIGNALS}
            # None: a handler from outside Python, which could not be restored.
            before = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}
        try:
            for number in before:
                signal.signal(number, self._catch)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def cutting_off(self) -> Iterator[None]:
        """Let the first signal end the block, by `CutOff`, instead of waiting for its end."""
        self._cuts_off = True
        try:
            yield
        finally:
            self._cuts_off = False

    def _catch(self, number: int, _: FrameType | None) -> None:
        if self._launched and number == self.number and self._now() - self._at < _COPY_S:
            return
        if self.number is not None:
            raise Interrupted(
                "stopped at once; the same command goes on from the last checkpoint", number
            )
        self.number, self._at = number, self._now()
        # A handler may run in the middle of another write to stderr, which then refuses this one.
        with contextlib.suppress(RuntimeError):
            self._report("stopping after this step, with a checkpoint; a second time stops at once")
        if self._cuts_off:
            raise CutOff


class StopAfterStep(TrainerCallback):
    """Ends a training with a checkpoint after the step in which a signal came.

    Of several processes, which may be sent it in different steps, all end after the same one.
    Add it last: what other callbacks do in a step is then done.
    """

    def __init__(self, stop_signal: StopSignal) -> None:
        self.signal = stop_signal

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        """End at once where a signal came before: there is nothing to save that is not saved."""
        self.finish(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        """Save and end where a signal came in the step."""
        if self._agreed():
            # The steps since the last log would be on no curve: a resume averages from its start.
            control.should_log = control.should_save = control.should_training_stop = True

    def finish(self, step: int, steps: int) -> None:
        """End a training that was asked to stop.

        Raises:
            Interrupted: it was; says at which step.
        """
        number = self._agreed()
        if number:
            raise Interrupted(
                f"stopped at step {step} of {steps}; the same command goes on from there", number
            )

    def _agreed(self) -> int:
        """Return the signal that all processes stop for, 0 for none."""
        return processes().largest(self.signal.number or 0)
