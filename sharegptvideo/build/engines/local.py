"""Run a stage in this process: an event loop in a thread, as many units under way as pay."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence

from sharegptvideo._concurrency import available_cores, ordered_map
from sharegptvideo.build.stage import OpenStage, Row
from sharegptvideo.endpoint import in_parallel
from sharegptvideo.models.asking import Turn
from sharegptvideo.models.base import FRAME_BYTES
from sharegptvideo.models.batches import Clip, decoding_width

__all__ = ["run_units"]

_MOST_HELD = 256  # steps that are done and wait for an earlier one

_Unit = tuple[Sequence[Row], Clip | None]
_Step = tuple[int, Sequence[tuple[Sequence[Row], Turn]]]


def run_units(stage: OpenStage, units: Iterable[Sequence[Row]]) -> Generator[list[Row]]:
    """Yield the rows that a stage makes of each unit, in the order of the units where that is near.

    Units are taken as they are needed, and their clips read ahead, in threads. Where one takes so
    long that `_MOST_HELD` others are done, these come out before it. Where the money is spent or
    nothing more can be made, what is done comes out first; then the error is raised.
    """

    async def call(begun: _Step) -> Sequence[list[Row]]:
        _, step = begun
        if stage.step == 1:
            return [await _one(stage, *step[0])]
        units = (_one(stage, rows, turn) for rows, turn in step)
        outcomes = await asyncio.gather(*units, return_exceptions=True)
        made = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            made.append(outcome)
        return made

    made: dict[int, Sequence[list[Row]]] = {}  # by the places of steps
    ahead: set[int] = set()  # places of those that came out before their turn
    wanted = 0
    with contextlib.closing(_read(stage, units)) as read:
        steps = _begun(stage, read)
        # Of those that work in steps two are under way for each worker: none waits for clips.
        width = max(1, stage.width // stage.step)
        done = in_parallel(call, steps, width=width, finish=stage.close)
        try:
            for (place, _), rows in done:
                made[place] = rows
                if len(made) > _MOST_HELD:
                    for early in sorted(made):
                        yield from made.pop(early)
                        ahead.add(early)
                while wanted in made or wanted in ahead:
                    yield from made.pop(wanted, ())
                    ahead.discard(wanted)
                    wanted += 1
        except GeneratorExit:
            raise
        except BaseException:  # Ctrl-C too: what was made is given, then it is raised on
            for place in sorted(made):
                yield from made[place]
            raise


async def _one(stage: OpenStage, rows: Sequence[Row], turn: Turn) -> list[Row]:
    try:
        return await stage(rows, turn)
    finally:
        turn.clip = None
        turn.done()


def _begun(stage: OpenStage, units: Iterable[_Unit]) -> Iterator[_Step]:
    """Yield steps with their places; the units of each get their turns together."""
    for place, step in enumerate(_steps(units, stage.step)):
        turns = stage.turns(len(step))
        for turn, (_, clip) in zip(turns, step, strict=True):
            turn.clip = clip
        begun = [(rows, turn) for (rows, _), turn in zip(step, turns, strict=True)]
        step.clear()  # its frames are the turns' alone now, who let go of them
        yield place, begun


def _steps(units: Iterable[_Unit], size: int) -> Iterator[list[_Unit]]:
    """Yield units of `size` rows together, fewer where their clips' frames take much memory."""
    step: list[_Unit] = []
    count = held = 0
    last: Clip | None = None
    for unit in units:
        rows, clip = unit
        more = 0 if clip is None or clip.frames is None or clip is last else clip.frames.nbytes
        if step and held + more > FRAME_BYTES:
            yield step
            step, count, held = [], 0, 0
        step.append(unit)
        count, held, last = count + len(rows), held + more, clip
        if count >= size:
            yield step
            step, count, held, last = [], 0, 0, None
    if step:
        yield step


def _read(stage: OpenStage, units: Iterable[Sequence[Row]]) -> Generator[_Unit]:
    """Yield units with their clips, each read once for all that follow each other."""
    if stage.frames is None:
        yield from ((rows, None) for rows in units)
        return

    def read(group: Sequence[Sequence[Row]]) -> list[_Unit]:
        clip = stage.read(group[0])
        return [(rows, clip) for rows in group]

    groups = (list(group) for _, group in itertools.groupby(units, _path))
    workers, ahead = decoding_width(stage.frames, available_cores())
    with contextlib.closing(
        ordered_map(read, groups, workers=workers, ahead=ahead, name="decode")
    ) as groups_read:
        for group in groups_read:
            yield from group


def _path(rows: Sequence[Row]) -> str | None:
    path: str | None = rows[0].get("video_path")
    return path
