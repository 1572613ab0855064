"""Run a stage in this process: an event loop in a thread, as many units under way as pay."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence

from sharegptvideo.build.stage import OpenStage, Row
from sharegptvideo.endpoint import in_parallel
from sharegptvideo.models.asking import Turn

__all__ = ["run_units"]

_Begun = tuple[Sequence[Row], Turn, int]


def run_units(stage: OpenStage, units: Iterable[Sequence[Row]]) -> Generator[list[Row]]:
    """Yield the rows that a stage makes of each unit, in the order of the units.

    Units are taken as they are needed. Where the money is spent or nothing more can be made, what
    is done comes out first, in order, with gaps; then the error is raised.
    """

    async def call(begun: _Begun) -> list[Row]:
        rows, turn, _ = begun
        try:
            return await stage(rows, turn)
        finally:
            turn.done()

    made: dict[int, list[Row]] = {}
    wanted = 0
    begun = _begun(stage, units)
    done = in_parallel(call, begun, width=stage.width, finish=stage.close)
    try:
        for (_, _, place), rows in done:
            made[place] = rows
            while wanted in made:
                yield made.pop(wanted)
                wanted += 1
    except GeneratorExit:
        raise
    except BaseException:  # Ctrl-C too: what was made is given, then it is raised on
        for place in sorted(made):
            yield made[place]
        raise


def _begun(stage: OpenStage, units: Iterable[Sequence[Row]]) -> Iterator[_Begun]:
    """Yield units with their places and turns; those of a step get theirs together."""
    places = itertools.count()
    source = iter(units)
    while step := list(itertools.islice(source, stage.step)):
        yield from zip(step, stage.turns(len(step)), places, strict=False)
