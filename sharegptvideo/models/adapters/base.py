"""What every model adapter offers to the runner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from sharegptvideo.models.types import Answer, Question, Request

__all__ = ["Model"]


class Model(Protocol):
    """Answers questions about clips.

    Opening an adapter is cheap and finds the user's mistakes; weights are loaded by the first
    `answer`, so that a run with nothing left to answer loads none.

    One attribute is looked up and may be left out: `workers`, in how many threads at once `answer`
    may be called (default 1).
    """

    spec: str
    """What the user typed, as `hf:PATH`."""

    needs_frames: bool
    """Whether `answer` wants frames.

    If not, the answers lie in a file: no clip is opened, and every sitting reads them anew.
    """

    frames: int | None
    """How many frames the model was made for; None: as many as the task says."""

    def describe(self) -> dict[str, Any]:
        """What run.json records and a resumed run has to match: kind, name, hash of weights."""
        ...

    def check(
        self, questions: Sequence[Question], every: Iterable[Question]
    ) -> dict[str, dict[str, Any]]:
        """Compare with what is to be asked, before anything is written.

        Args:
            questions: what this run asks.
            every: all questions of its tasks, a `limit` left aside.

        Returns:
            By task, what to add to results.json; empty where there is nothing to say.

        Raises:
            UserError: the model cannot answer these questions at all.
        """
        ...

    def render(self, prompt: str) -> str:
        """The text that the model receives for a prompt, marks of turns included."""
        ...

    def answer(
        self, batch: Sequence[Request], *, max_new_tokens: int
    ) -> Iterator[tuple[int, Answer]]:
        """Yield (position in the batch, answer) as they are done, one for each request.

        What fails for one request is its answer's `error`. What is yielded is kept, whatever
        happens afterwards.

        Raises:
            UserError: nothing more can be answered (an endpoint is gone, memory is too small).
        """
        ...
