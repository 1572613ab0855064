"""Ctrl-C and SIGTERM in a training: it ends after the step it is in, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from sharegptvideo.errors import Interrupted
from sharegptvideo.training.scale import processes

__all__ = ["CutOff", "StopAfterStep", "StopSignal"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CutOff(KeyboardInterrupt):
    """The first signal, where it came in a `StopSignal.cutting_off` block."""


class StopSignal:
    """The signal that asked a training to stop, if one did.

    The first signal is noted, and the training ends after the step it is in. The second
    one raises `Interrupted` wherever the training is.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Watch for signals; `tell` is called with a line when the first one comes."""
        self.number: int | None = None
        self._tell = tell
        self._cuts_off = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch Ctrl-C and SIGTERM in the block, and restore their handlers after it.

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
        if self.number is not None:
            raise Interrupted(
                "stopped at once; the same command goes on from the last checkpoint", number
            )
        self.number = number
        # A handler may run in the middle of another write to stderr, which then refuses this one.
        with contextlib.suppress(RuntimeError):
            self._tell("stopping after this step, with a checkpoint; a second time stops at once")
        if self._cuts_off:
            raise CutOff


class StopAfterStep(TrainerCallback):
    """Ends a training with a checkpoint after the step in which a signal came.

    Of several processes, which may be sent it in different steps, all end after the same one.
    Add it last: what other callbacks do in a step is then done.
    """

    def __init__(self, signal_: StopSignal) -> None:
        self._signal = signal_

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
        # Before the first step there is nothing to save that is not saved.
        self.finish(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 - transformers' signature
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
        return processes().largest(self._signal.number or 0)
