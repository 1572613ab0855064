"""Ask a model from coroutines: served ones call by call, those on this machine in batches."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sharegptvideo.models.base import Answer, Model, Request, SamplingParams
from sharegptvideo.models.batches import Clip, answer_batch
from sharegptvideo.models.served import ServedModel

__all__ = ["Asker", "SilentTurn", "Turn", "open_asker"]


class Turn(abc.ABC):
    """How one unit of work asks; used in one event loop, and ended by `done`.

    Attributes:
        clip: what the unit asks about; None where it opens no clip.
    """

    clip: Clip | None = None

    @abc.abstractmethod
    async def ask(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        """Return the answers to requests, in their order; one call at a time.

        Raises:
            UserError: nothing more can be answered.
        """

    def done(self) -> None:  # noqa: B027 - most have nothing to do
        """End the turn: the unit asks no more."""


class SilentTurn(Turn):
    """The turn of a unit that asks no model."""

    async def ask(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        """Refuse: there is no model."""
        raise NotImplementedError("this stage asks no model, so its function must not ask one")


class Asker(abc.ABC):
    """Gives turns to ask a model.

    Attributes:
        model: what is asked.
        step: rows that are begun together, in whole units of work.
        width: units of work to have under way, so that the model is never idle.
    """

    model: Model
    step: int = 1
    width: int

    @abc.abstractmethod
    def turns(self, count: int) -> Sequence[Turn]:
        """Return the turns of the next `count` units, at most `step`."""

    async def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Free what belongs to the running event loop."""


def open_asker(model: Model, *, step: int = 32) -> Asker:
    """Return an asker of any model; on this machine units of `step` rows together are a batch.

    What a model on this machine is asked together depends on the units and their order only, never
    on how long a unit takes to prepare, so that the same work gives the same answers to the bit.
    """
    if isinstance(model, ServedModel):
        return _Served(model)
    return _Batched(model, step)


class _Served(Asker):
    """Each unit asks as it comes."""

    def __init__(self, model: ServedModel) -> None:
        self.model = self._served = model
        self.width = model.width

    def turns(self, count: int) -> Sequence[Turn]:
        return [_ServedTurn(self._served) for _ in range(count)]

    async def close(self) -> None:
        await self._served.close()


class _ServedTurn(Turn):
    def __init__(self, model: ServedModel) -> None:
        self._model = model

    async def ask(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        return await self._model.answer_all(requests, params)


class _Batched(Asker):
    """Units of a step wait for each other, and what they ask for is one batch."""

    def __init__(self, model: Model, step: int) -> None:
        self.model = model
        self.step = step
        self.width = 2 * step * model.workers  # clips of the next step are read meanwhile
        self._threads: ThreadPoolExecutor | None = None

    def turns(self, count: int) -> Sequence[Turn]:
        return _Step(self, count).turns

    async def close(self) -> None:
        if self._threads is not None:
            threads, self._threads = self._threads, None
            await asyncio.to_thread(threads.shutdown)

    async def answer(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        """Return the answers to one batch, from a thread of the model's."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.model.workers, thread_name_prefix="answer")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, answer_batch, self.model, requests, params)


class _Step:
    """Units that are begun together: they ask together too, as often as they ask."""

    def __init__(self, asker: _Batched, count: int) -> None:
        self.turns = [_StepTurn(self) for _ in range(count)]
        self._asker = asker
        self._left = count  # units whose turn has not ended
        self._waiting: dict[_StepTurn, _Asked] = {}
        self._tasks: set[asyncio.Future[None]] = set()  # else they are collected while they run

    def wait(self, turn: _StepTurn, asked: _Asked) -> None:
        self._waiting[turn] = asked
        self._answer_if_whole()

    def leave(self, turn: _StepTurn) -> None:
        self._left -= 1
        self._waiting.pop(turn, None)  # of a unit that was cancelled
        self._answer_if_whole()

    def _answer_if_whole(self) -> None:
        """Answer what the units ask for, once none of them is at work any more."""
        if not self._waiting or len(self._waiting) < self._left:
            return
        asked = [self._waiting[turn] for turn in self.turns if turn in self._waiting]
        self._waiting = {}
        by_params: dict[SamplingParams, list[_Asked]] = {}
        for each in asked:
            by_params.setdefault(each.params, []).append(each)
        for params, together in by_params.items():
            task = asyncio.ensure_future(self._answer(params, together))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, params: SamplingParams, asked: Sequence[_Asked]) -> None:
        requests = [request for each in asked for request in each.requests]
        try:
            answers = iter(await self._asker.answer(requests, params))
        except BaseException as error:  # noqa: BLE001 - raised where each of them waits
            for each in asked:
                if not each.answers.done():
                    each.answers.set_exception(error)
            return
        for each in asked:
            own = [next(answers) for _ in each.requests]
            if not each.answers.done():
                each.answers.set_result(own)


@dataclass(frozen=True, slots=True)
class _Asked:
    requests: Sequence[Request]
    params: SamplingParams
    answers: asyncio.Future[list[Answer]]


class _StepTurn(Turn):
    def __init__(self, step: _Step) -> None:
        self._step = step

    async def ask(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        answers: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._step.wait(self, _Asked(requests, params, answers))
        return await answers

    def done(self) -> None:
        self._step.leave(self)
