"""A stage over rows: their order, what is done already, batches that do not depend on time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharegptvideo._io import read_jsonl
from sharegptvideo.build.engines import run_stage
from sharegptvideo.build.engines.local import run_units
from sharegptvideo.build.stage import Context, OpenStage, Row, Stage, provenance
from sharegptvideo.errors import UserError
from sharegptvideo.models import Answer, Model, Request, SamplingParams
from sharegptvideo.models.asking import Asker, SilentTurn, Turn, open_asker
from sharegptvideo.models.batches import Clip

GREEDY = SamplingParams()


class Shouting(Model):
    """Answers in capitals; keeps what it was asked together."""

    spec = "python:shouting"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def describe(self) -> dict[str, Any]:
        return {"kind": "python", "name": self.spec}

    def generate(
        self,
        requests: Sequence[Request],
        params: SamplingParams,  # noqa: ARG002 - a model's signature
    ) -> Iterator[Answer]:
        self.batches.append([request.prompt for request in requests])
        for request in requests:
            yield Answer(request, (request.prompt.upper(),))


@dataclass(frozen=True)
class Echo(Stage):
    """Asks about each row's text after a random while; twice where the text is long."""

    model: Shouting = field(default_factory=Shouting)
    step: int = 4
    name = "echo"
    version = 1

    def open(self, context: Context) -> OpenStage:
        return OpenEcho(self, context)


class OpenEcho(OpenStage):
    def __init__(self, settings: Echo, context: Context) -> None:
        self.settings, self.context = settings, context
        self.asker: Asker = open_asker(settings.model, step=settings.step)
        self.step, self.width = self.asker.step, self.asker.width

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:
        (row,) = rows
        await asyncio.sleep(random.uniform(0, 0.01))
        answers = await turn.ask([Request(row["text"])], GREEDY)
        if len(row["text"]) > 6:
            answers += await turn.ask([Request(row["text"][6:])], GREEDY)
        error = None if row["text"] != "bad" else "a bad text"
        made = provenance(
            self.settings,
            row,
            model=self.asker.model.spec,
            prompt=(1, "0" * 16),
            params=GREEDY,
            answers=answers,
            context=self.context,
        )
        return [
            {
                "id": row["id"],
                "texts": [each.text for each in answers],
                "error": error,
                "made": made,
            }
        ]

    def turns(self, count: int) -> Sequence[Turn]:
        return self.asker.turns(count)

    def describe(self) -> Row:
        return {"model": self.asker.model.spec}

    async def close(self) -> None:
        await self.asker.close()


def rows_of(*texts: str) -> list[Row]:
    return [{"id": f"r{number}", "text": text} for number, text in enumerate(texts)]


def texts(out: Path) -> dict[str, list[str]]:
    return {row["id"]: row["texts"] for _, row in read_jsonl(out / "echo.jsonl")}


def test_rows_come_in_order_and_a_second_run_asks_for_what_is_new_or_failed(tmp_path: Path) -> None:
    rows = rows_of("one", "bad", "three", "four")
    report = run_stage(Echo(), rows, tmp_path)
    assert (report.n_rows, report.n_made, report.failures) == (4, 3, {"a bad text": 1})
    assert [row["id"] for _, row in read_jsonl(tmp_path / "echo.jsonl")] == ["r0", "r1", "r2", "r3"]

    stage = Echo()
    rows[1]["text"], rows[3]["text"] = "good", "other"
    report = run_stage(stage, [*rows, {"id": "r4", "text": "five"}], tmp_path)
    assert list(itertools.chain(*stage.model.batches)) == ["good", "other", "five"]
    assert texts(tmp_path) == {
        "r0": ["ONE"], "r1": ["GOOD"], "r2": ["THREE"], "r3": ["OTHER"], "r4": ["FIVE"]
    }  # fmt: skip
    assert (report.n_rows, report.n_made, report.n_failed) == (5, 5, 0)
    before = (tmp_path / "echo.jsonl").read_bytes()
    run_stage(Echo(), [*rows, {"id": "r4", "text": "five"}], tmp_path)
    assert (tmp_path / "echo.jsonl").read_bytes() == before


def test_what_is_asked_together_depends_on_the_order_of_units_only() -> None:
    rows = rows_of(*(f"t{number}" + "x" * (6 * (number % 3 == 0)) for number in range(10)))

    def batches(seed: int) -> list[list[str]]:
        random.seed(seed)
        stage = Echo()
        made = [row["id"] for [row] in run_units(stage.open(Context()), ([row] for row in rows))]
        assert made == [row["id"] for row in rows]
        return sorted(stage.model.batches)

    expected = [
        ["t0xxxxxx", "t1", "t2", "t3xxxxxx"], ["xx", "xx"],
        ["t4", "t5", "t6xxxxxx", "t7"], ["xx"],
        ["t8", "t9xxxxxx"], ["xx"],
    ]  # fmt: skip
    assert batches(1) == batches(2) == batches(3) == sorted(expected)


class Waiting(OpenEcho):
    """Its first row is done last."""

    count = 600

    def __init__(self, context: Context) -> None:
        super().__init__(Echo(), context)
        self.width, self.step = 8, 1
        self.done = 0

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:  # noqa: ARG002
        while rows[0]["id"] == "r0" and self.done < self.count - 1:
            await asyncio.sleep(0.001)
        self.done += 1
        return [rows[0]]

    def turns(self, count: int) -> Sequence[Turn]:
        return [SilentTurn() for _ in range(count)]


def test_a_row_that_takes_long_does_not_hold_all_later_ones_in_memory() -> None:
    stage = Waiting(Context())
    rows = rows_of(*("x" for _ in range(stage.count)))
    came = [row["id"] for [row] in run_units(stage, ([row] for row in rows))]
    assert sorted(came) == sorted(row["id"] for row in rows)
    assert 256 < came.index("r0") < 600
    assert [name for name in came if name != "r0"] == [row["id"] for row in rows[1:]]


def test_ids_are_checked_before_anything_is_asked(tmp_path: Path) -> None:
    stage = Echo()
    with pytest.raises(UserError, match="row 2: duplicate id 'r0'"):
        run_stage(stage, [*rows_of("one"), *rows_of("two")], tmp_path)
    with pytest.raises(UserError, match="row 1: no id"):
        run_stage(stage, [{"text": "one"}], tmp_path)
    with pytest.raises(UserError, match="no rows"):
        run_stage(stage, [], tmp_path)
    with pytest.raises(UserError, match="unknown engine 'loca'"):
        run_stage(stage, rows_of("one"), tmp_path, engine="loca")
    assert stage.model.batches == []


class OpenShow(OpenEcho):
    """Asks about each row's text with its clip: a frame of the size that the path says."""

    frames = 1

    def __init__(self, settings: Echo, context: Context) -> None:
        super().__init__(settings, context)
        self.seen: list[str] = []

    def read(self, rows: Sequence[Row]) -> Clip:
        path = rows[0]["video_path"]
        self.seen.append(path)
        if path is None:
            return Clip(missing=True)
        return Clip(frames=np.zeros((1, 1, int(path.split("/")[1]), 3), np.uint8), indices=[0])

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:
        clip = turn.clip
        assert clip is not None
        if clip.frames is None:
            return [{"id": row["id"], "text": None} for row in rows]
        asked = [Request(f"{row['id']}/{clip.frames.nbytes}", clip.frames) for row in rows]
        answers = await turn.ask(asked, GREEDY)
        return [
            {"id": row["id"], "text": each.text} for row, each in zip(rows, answers, strict=True)
        ]


def test_a_clip_is_read_once_and_frames_that_take_much_memory_make_steps_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sharegptvideo.build.engines.local.FRAME_BYTES", 30)
    stage = Echo(step=5)
    opened = OpenShow(stage, Context())
    paths = ["a/2", "a/2", "b/3", None, "c/9", "d/1", "d/1", "d/1", "e/1"]
    rows = [{"id": f"r{n}", "video_path": path} for n, path in enumerate(paths)]
    units = [rows[:2], rows[2:3], rows[3:4], rows[4:5], rows[5:7], rows[7:8], rows[8:]]
    made = [row for unit in run_units(opened, units) for row in unit]
    assert [row["text"] for row in made] == [
        "R0/6", "R1/6", "R2/9", None, "R4/27", "R5/3", "R6/3", "R7/3", "R8/3"
    ]  # fmt: skip
    assert sorted(map(str, opened.seen)) == ["None", "a/2", "b/3", "c/9", "d/1", "e/1"]
    # 5 rows at most but for the last unit's, and 30 bytes: c and d together, as d is read once.
    assert stage.model.batches == [
        ["r0/6", "r1/6", "r2/9"],
        ["r4/27", "r5/3", "r6/3", "r7/3"],
        ["r8/3"],
    ]


def test_a_log_ends_in_the_order_of_the_rows_however_often_it_was_begun(tmp_path: Path) -> None:
    rows = rows_of("one", "two", "three", "four", "five")
    run_stage(Echo(), rows, tmp_path / "unbroken")
    broken = tmp_path / "broken"
    run_stage(Echo(), [rows[3], rows[1] | {"text": "bad"}], broken)
    run_stage(Echo(), [rows[1], {"id": "gone", "text": "x"}], broken)
    run_stage(Echo(), rows, broken)
    lines = (broken / "echo.jsonl").read_bytes().splitlines(keepends=True)
    assert b"".join(lines[:-1]) == (tmp_path / "unbroken" / "echo.jsonl").read_bytes()
    assert texts(broken)["gone"] == ["X"]  # of rows that are gone, the results stay


def test_a_torn_line_is_made_again_and_leaves_no_trace(tmp_path: Path) -> None:
    rows = rows_of("one", "two", "three")
    run_stage(Echo(), rows, tmp_path)
    log = tmp_path / "echo.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.index(b"\n") + 40])
    stage = Echo()
    run_stage(stage, rows, tmp_path)
    assert stage.model.batches == [["two", "three"]]
    assert log.read_bytes() == whole
