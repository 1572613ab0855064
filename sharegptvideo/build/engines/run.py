"""Run a stage over rows into a folder: what is done stays, a sample says what the rest takes."""

from __future__ import annotations

import contextlib
import itertools
import time
from array import array
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import LatestRows, dumps, os_errors, replacing_bytes
from sharegptvideo._runs import check_place
from sharegptvideo._text import plural
from sharegptvideo.build.engines.local import run_units
from sharegptvideo.build.engines.ray import check_ray, left_rows, run_on_ray
from sharegptvideo.build.stage import (
    Context,
    EngineOptions,
    OpenStage,
    Row,
    Stage,
    begin,
    recorded,
)
from sharegptvideo.endpoint import EndpointOptions, Estimate, ReplyStore
from sharegptvideo.errors import UserError, unknown_name

__all__ = ["ENGINES", "SAMPLE", "Engine", "StageReport", "run_stage"]

SAMPLE = 20
"""Units that are done first, and what the others will take is estimated from."""

Engine = Callable[[Stage, OpenStage, Context, Iterable[Sequence[Row]], Path], Generator[list[Row]]]
"""`engine(stage, open stage, context, units, folder)`: yields the rows of each unit."""


def _local(
    stage: Stage,  # noqa: ARG001 - what an engine is given
    opened: OpenStage,
    context: Context,  # noqa: ARG001
    units: Iterable[Sequence[Row]],
    out: Path,  # noqa: ARG001
) -> Generator[list[Row]]:
    return run_units(opened, units)


ENGINES: dict[str, Engine] = {"local": _local, "ray": run_on_ray}
"""By the name that `--engine` takes."""


_TOKENS = ("prompt", "cached", "completion")


@dataclass(slots=True)
class StageReport:
    """What a stage holds when it ends, all sittings together; tokens and dollars as rows say.

    `failures` counts the rows without a result by cause; `tokens` are those of prompts, of these
    from a prefix cache, and of answers; `dollars` is None where no price is known; `figures` are
    the stage's own, see `OpenStage.figures`.
    """

    stage: str
    n_rows: int = 0
    n_made: int = 0
    n_failed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TOKENS, 0))
    dollars: float | None = None
    attempts: int = 0
    figures: Row = field(default_factory=dict)

    def as_dict(self) -> Row:
        """Return the report as plain JSON values, the stage's own figures first."""
        return self.figures | {k: v for k, v in asdict(self).items() if k != "figures"}


def run_stage(
    stage: Stage,
    rows: Iterable[Row],
    out: Path,
    *,
    engine: str | EngineOptions = "local",
    endpoint: EndpointOptions | None = None,
    progress: Progress | None = None,
) -> StageReport:
    """Make what a stage makes of each row; resumable, and nothing is paid for twice.

    Writes `out/NAME.jsonl`, and its settings, then its report, in `out/NAME.json`. The log has a
    line for each row as it is made, a later one of an id in place of an earlier one; at the end
    one for each row, in their order, however often it was begun. A row is done where the last line
    of its id was made of the same input and holds no error.

    `SAMPLE` units go first. What the rest will take is estimated from them, and approved as
    `EndpointOptions.approve` says. Where all that the model was asked about failed, it is given up:
    nothing more is paid.

    Args:
        stage: the settings of what is to be done.
        rows: with ids; read several times, so no iterator. Memory grows by about 130 bytes a row.
        out: the folder to write.
        engine: what runs it, by name alone where that says it all.
        endpoint: speed, money and cache of its calls.
        progress: called with rows done, rows, the stage's name.

    Raises:
        UserError: no rows, an id that comes twice, results of other settings in `out`; whatever
            ends the work, with what was made before kept.
    """
    engine = _known(engine)
    check_place(out)
    endpoint = endpoint or EndpointOptions()
    with endpoint.store or ReplyStore(out / REPLIES) as store:
        context = Context(replace(endpoint, store=store), engine)
        return _run(stage, rows, out, context, progress)


def _run(
    stage: Stage, rows: Iterable[Row], out: Path, context: Context, progress: Progress | None
) -> StageReport:
    opened, count = stage.open(context), _counted(rows)
    notes = out / f"{stage.name}.json"
    before = recorded(notes)
    if before is not None:
        opened.go_on(before)
    else:
        opened.check(rows)
    with begin(notes, opened.describe, may_change={"send_reason"}) as run:
        done = _Done(stage)
        log = run.log(stage.name, check=lambda _, row: done.take(dict(row)), keep=None)
        for row in left_rows(out, stage.name):
            run.write_settings()  # until then, the log holds rows in memory
            log.append(row)
            done.take(row)
        done.end_reading()
        waiting = sum(1 for _ in done.others(rows))
        if waiting:
            if before is not None:
                opened.check(rows)
            context.endpoint.approve(opened.estimate(done.others(rows)))
            opened.prepare(done.others(rows))
        sitting = _Sitting(stage.name, context.engine.name, count)

        def keep(made: Iterable[list[Row]]) -> Iterator[Row]:
            for lines in made:
                for row in lines:
                    log.append(row)
                    done.take(row)
                    sitting.count(row)
                    if progress:
                        progress(count - waiting + sitting.rows, count, stage.name)
                    yield row

        units = stage.units(done.others(rows) if waiting else ())
        run_rest = ENGINES[context.engine.name]
        # A cluster may have what a model needs, and this machine not; such a model costs nothing.
        # What an earlier run made is a sample already.
        on_ray = context.engine.name == "ray"
        here = 0 if on_ray and (opened.step > 1 or count - waiting >= SAMPLE) else SAMPLE
        with sitting.at_work(out / SITTINGS, waiting):
            with contextlib.closing(run_units(opened, itertools.islice(units, here))) as made:
                sample = list(keep(made))
            if left := waiting - sitting.rows:
                _refuse_failed(sample)
                context.endpoint.approve(sitting.estimate(left))
                run.write_settings()  # the workers of a cluster go by them
                with contextlib.closing(run_rest(stage, opened, context, units, out)) as made:
                    deque(keep(made), maxlen=0)
        log.close()
        _put_in_order(log.path, done.order_of(rows))
        report = _report(stage, log.path)
        report.figures = opened.figures(LatestRows(log.path))
        run.finish(report.as_dict())
    return report


def _known(engine: str | EngineOptions) -> EngineOptions:
    """Return the options of an engine that can run here."""
    if isinstance(engine, str):
        engine = EngineOptions(engine)
    if engine.name not in ENGINES:
        raise unknown_name("engine", engine.name, ENGINES)
    if engine.name == "ray":
        check_ray(engine)
    return engine


def _refuse_failed(sample: Iterable[Row]) -> None:
    """Give up a model that answered nothing of a sample, clips that were not asked about aside.

    Raises:
        UserError: it did not.
    """
    asked = [row for row in sample if row["made"]["requests"]]
    if len(asked) < SAMPLE // 2 or any(row["error"] is None for row in asked):
        return
    causes = Counter(row["error"] for row in asked).most_common()
    others = f", and {plural(len(causes) - 1, 'other cause')}" if len(causes) > 1 else ""
    raise UserError(
        f"nothing more is asked, for all of the first {len(asked)} failed: {causes[0][0]}"
        f" ({causes[0][1]}){others}; take another model or prompt, and another --out",
        exit_code=1,
    )


REPLIES = "replies"
"""The folder of `ReplyStore` with all that servers answered."""

SITTINGS = "sittings.jsonl"
"""The file with two lines for each time that a stage was at work: rows to be made, what was done.

The second one, with `seconds`, is absent where the process was killed.
"""


@dataclass(slots=True)
class _Sitting:
    """What one process did: the part of the figures that differs from run to run."""

    stage: str
    engine: str
    total: int
    rows: int = 0
    failed: int = 0
    attempts: int = 0
    tokens: int = 0
    dollars: float | None = None
    begun: float = field(default_factory=time.monotonic)

    def count(self, row: Row) -> None:
        made = row["made"]
        self.rows += 1
        self.failed += row["error"] is not None
        self.attempts += made["attempts"]
        self.tokens += made["tokens"]["prompt"] + made["tokens"]["completion"]
        if made["dollars"] is not None:
            self.dollars = (self.dollars or 0.0) + made["dollars"]

    def estimate(self, rows: int) -> Estimate:
        """Return what so many more rows will take, if they are as those that were done."""
        if not self.rows or not self.attempts:
            return Estimate()
        more = rows / self.rows
        return Estimate(
            requests=round(self.attempts * more),
            tokens=self.tokens * more,
            cost=None if self.dollars is None else self.dollars * more,
            seconds=(time.monotonic() - self.begun) * more,
        )

    @contextlib.contextmanager
    def at_work(self, file: Path, waiting: int) -> Iterator[None]:
        """Add two lines to the file: how many rows the stage has in all, and what the block did."""
        if not waiting:
            yield
            return
        self._add(file, {"stage": self.stage, "engine": self.engine, "total": self.total})
        try:
            yield
        finally:
            line = {name: getattr(self, name) for name in self.__slots__ if name != "begun"}
            self._add(file, line | {"seconds": round(time.monotonic() - self.begun, 3)})

    def _add(self, file: Path, line: Row) -> None:
        with os_errors(file, "free some space"), file.open("a", encoding="utf-8") as lines:
            lines.write(dumps(line) + "\n")


class _Done:
    """What the lines of a log were made of: 16 bytes a line, however long its ids are."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ids, self._inputs = array("q"), array("q")  # hashes, line by line
        self._known_ids, self._known_inputs = array("q"), array("q")  # sorted, of the last lines

    def take(self, row: Row) -> None:
        """Count the next line of the log."""
        made_of = self._stage.input_of(row)
        self._ids.append(hash(row["id"]))
        self._inputs.append(0 if made_of is None else hash(made_of))

    def end_reading(self) -> None:
        """Find the last lines; lines that are taken from here on are not looked up."""
        self._known_ids, places = self._last()
        self._known_inputs = array("q", (self._inputs[place] for place in places))

    def others(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows that are to be done."""
        return (row for row in rows if not self._holds(row))

    def _holds(self, row: Row) -> bool:
        place = _find(self._known_ids, hash(row["id"]))
        if place is None:
            return False
        return self._known_inputs[place] == hash(self._stage.hash_of(row))

    def order_of(self, rows: Iterable[Row]) -> Sequence[int] | None:
        """Return the log's lines in the order of the rows, then others; None if it has that order.

        Of each id the last line.
        """
        ids, places = self._last()
        wanted, used = array("q"), bytearray(len(ids))
        for row in rows:
            place = _find(ids, hash(row["id"]))
            if place is not None:
                wanted.append(places[place])
                used[place] = 1
        others = (places[place] for place, is_used in enumerate(used) if not is_used)
        wanted.extend(sorted(others))
        if len(wanted) == len(self._ids) and all(map(int.__eq__, wanted, itertools.count())):
            return None
        return wanted

    def _last(self) -> tuple[array[int], array[int]]:
        """Return the ids' hashes, sorted, and the number of the last line of each."""
        import numpy as np

        ids = np.frombuffer(self._ids, dtype=np.int64)
        values, places = np.unique(ids[::-1], return_index=True)
        last = len(ids) - 1 - places
        return array("q", values.tobytes()), array("q", last.astype(np.int64).tobytes())


def _find(numbers: array[int], number: int) -> int | None:
    """Return the place of a number among sorted ones."""
    place = bisect_left(numbers, number)
    return place if place < len(numbers) and numbers[place] == number else None


def _put_in_order(log: Path, order: Sequence[int] | None) -> None:
    """Write the lines of a log anew: those whose numbers `order` holds, in its order."""
    if order is None:
        return
    with os_errors(log, "free some space"), log.open("rb") as lines, replacing_bytes(log) as new:
        starts = array("q")
        place = 0
        for line in lines:
            if line.strip():
                starts.append(place)
            place += len(line)
        for number in order:
            lines.seek(starts[number])
            new.write(lines.readline())


def _counted(rows: Iterable[Row]) -> int:
    """Return how many rows there are, all with ids of their own."""
    import numpy as np

    ids = array("q")
    for row in rows:
        if not row.get("id"):
            raise UserError(f"row {len(ids) + 1}: no id")
        ids.append(hash(row["id"]))
    if not ids:
        raise UserError("no rows; is this the right folder, and the right split?")
    if len(np.unique(np.frombuffer(ids, dtype=np.int64))) < len(ids):
        seen: set[str] = set()
        for number, row in enumerate(rows, start=1):
            if row["id"] in seen:
                raise UserError(f"row {number}: duplicate id {row['id']!r}")
            seen.add(row["id"])
    return len(ids)


def _report(stage: Stage, log: Path) -> StageReport:
    """Count what the log holds, the last line of each id."""
    report, failures = StageReport(stage.name), Counter[str]()
    for row in LatestRows(log):
        report.n_rows += 1
        if row["error"] is None:
            report.n_made += len(stage.export(row))
        else:
            failures[row["error"]] += 1
        made = row.get("made")
        if made is None:  # of an earlier version
            continue
        report.attempts += made["attempts"]
        for name in _TOKENS:
            report.tokens[name] += made["tokens"][name] or 0
        if made["dollars"] is not None:
            report.dollars = (report.dollars or 0.0) + made["dollars"]
    report.n_failed, report.failures = failures.total(), dict(failures)
    return report
