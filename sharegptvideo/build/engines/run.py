"""Run a stage over rows into a folder: what is done stays, a sample says what the rest takes."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import KeyedLog, dumps, os_errors
from sharegptvideo._runs import check_place
from sharegptvideo.build.engines.local import run_units
from sharegptvideo.build.stage import (
    Context,
    EngineOptions,
    LatestRows,
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

Engine = Callable[[Stage, OpenStage, Context, Iterable[Sequence[Row]], int], Generator[list[Row]]]
"""`engine(stage, open stage, context, units, number of units)`: yields the rows of each unit."""


def _local(
    stage: Stage,  # noqa: ARG001 - what an engine is given
    opened: OpenStage,
    context: Context,  # noqa: ARG001
    units: Iterable[Sequence[Row]],
    count: int,  # noqa: ARG001
) -> Generator[list[Row]]:
    return run_units(opened, units)


ENGINES: dict[str, Engine] = {"local": _local}
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

    Writes `out/NAME.jsonl`, one line a row in their order (a later line of an id replaces an
    earlier one), and its settings, then its report, in `out/NAME.json`. A row is done where a line
    of its id was made of the same input and holds no error.

    `SAMPLE` units go first. What the rest will take is estimated from them, and approved as
    `EndpointOptions.approve` says.

    Args:
        stage: the settings of what is to be done.
        rows: with ids; read several times, so no iterator. Memory holds their ids alone.
        out: the folder to write.
        engine: what runs it, by name alone where that says it all.
        endpoint: speed, money and cache of its calls.
        progress: called with rows done, rows, the stage's name.

    Raises:
        UserError: no rows, an id that comes twice, results of other settings in `out`; whatever
            ends the work, with what was made before kept.
    """
    if isinstance(engine, str):
        engine = EngineOptions(engine)
    if engine.name not in ENGINES:
        raise unknown_name("engine", engine.name, ENGINES)
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
    sitting = _Sitting(stage.name, context.engine.name)
    with begin(notes, opened.describe, may_change={"send_reason"}) as run:
        log = run.log(stage.name, keep=stage.input_of)
        waiting = sum(1 for _ in _waiting(stage, rows, log))
        if waiting:
            if before is not None:
                opened.check(rows)
            context.endpoint.approve(opened.estimate(_waiting(stage, rows, log)))
            opened.prepare(_waiting(stage, rows, log))
        done = count - waiting

        def keep(made: Iterable[list[Row]]) -> None:
            nonlocal done
            for lines in made:
                for row in lines:
                    log.append(row)
                    sitting.count(row)
                    done += 1
                    if progress:
                        progress(done, count, stage.name)

        units = stage.units(_waiting(stage, rows, log))
        run_rest = ENGINES[context.engine.name]
        try:
            with contextlib.closing(run_units(opened, itertools.islice(units, SAMPLE))) as made:
                keep(made)
            if left := waiting - sitting.rows:
                context.endpoint.approve(sitting.estimate(left))
                with contextlib.closing(run_rest(stage, opened, context, units, left)) as made:
                    keep(made)
        finally:
            sitting.write(out / SITTINGS)
        log.close()
        report = _report(stage, log.path)
        report.figures = opened.figures(LatestRows(log.path))
        run.finish(report.as_dict())
    return report


REPLIES = "replies"
"""The folder of `ReplyStore` with all that servers answered."""

SITTINGS = "sittings.jsonl"
"""The file with a line for each time that a stage was at work: rows, seconds, dollars."""


@dataclass(slots=True)
class _Sitting:
    """What one process did: the part of the figures that differs from run to run."""

    stage: str
    engine: str
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

    def write(self, file: Path) -> None:
        """Add a line to the file, where anything was done."""
        if not self.rows:
            return
        line = {name: getattr(self, name) for name in self.__slots__ if name != "begun"}
        line |= {"seconds": round(time.monotonic() - self.begun, 3)}
        with os_errors(file, "free some space"), file.open("a", encoding="utf-8") as lines:
            lines.write(dumps(line) + "\n")


def _counted(rows: Iterable[Row]) -> int:
    """Return how many rows there are, all with ids of their own."""
    count = 0
    seen: set[int] = set()  # of hashes: ids of a million rows take ten times the memory
    for count, row in enumerate(rows, start=1):
        if not row.get("id"):
            raise UserError(f"row {count}: no id")
        if (number := hash(row["id"])) in seen:
            raise UserError(f"row {count}: duplicate id {row['id']!r}")
        seen.add(number)
    if not count:
        raise UserError("no rows; is this the right folder, and the right split?")
    return count


def _waiting(stage: Stage, rows: Iterable[Row], log: KeyedLog) -> Iterator[Row]:
    """Yield the rows that are to be done; each is looked up when it is asked for."""
    return (row for row in rows if log.rows.get(row["id"]) != stage.hash_of(row))


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
