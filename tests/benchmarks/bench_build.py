"""What the engines of building reach, what a million rows take, what the paper's data would cost.

    python tests/benchmarks/bench_build.py [--served N] [--rows N] [--actors 1,2,4] [--skip-ray]
    python tests/benchmarks/bench_build.py --project [--captioner M] [--questioner M] [--judge M]

`served`: questions to N captions (10,000) from a local server with 200 ms latency and 64 slots that
meets one request in five with a fault (429 with Retry-After, 500, 503, a connection cut, a page, a
slow answer). The ideal rate is 64 / 0.2 s = 320 a second; the share of it counts whole answers, so
that 0.8 is the most where one attempt in five is lost and no slot is idle. Prints what was lost or
paid twice, and the most memory of the process and its workers.

`rows`: a stage that asks nothing, over so many rows (1,000,000): seconds, microseconds a row, and
the memory that the process gained by it. Under Ray over a hundredth of them.

`--project` asks nothing at all: the paper's 900,000 captions, 300,000 times three questions and
20,000 × 6 scores, from the length of our prompts and of the release's texts, at the prices that
`endpoint/prices.yaml` lists with their date and sources. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sharegptvideo.build.engines import run_stage
from sharegptvideo.build.loop_file import checked_loop
from sharegptvideo.build.model_stage import ModelChoice
from sharegptvideo.build.plan import typical_estimate
from sharegptvideo.build.qa import QaStage
from sharegptvideo.build.stage import Context, EngineOptions, OpenStage, Row, Stage, provenance
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.models.asking import Turn
from tests.support.vlm_scenes import Scene
from tests.support.vlm_server import VlmSettings, running_vlm_server

LATENCY_S, SLOTS = 0.2, 64
FAULTS = {"429": 0.05, "500": 0.04, "503": 0.04, "cut": 0.03, "page": 0.03, "slow": 0.01}
OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Nothing(Stage):
    """Makes a row of each row, and asks nothing."""

    name = "nothing"
    version = 1

    def open(self, context: Context) -> OpenStage:
        return _OpenNothing(self, context)


class _OpenNothing(OpenStage):
    width = 64

    def __init__(self, settings: Nothing, context: Context) -> None:
        self.settings, self._context = settings, context

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:  # noqa: ARG002
        (row,) = rows
        made = provenance(
            self.settings, row, model="none", prompt=None, params=None, answers=[],
            context=self._context,
        )  # fmt: skip
        return [{"id": row["id"], "caption": row["caption"], "error": None, "made": made}]

    def turns(self, count: int) -> Sequence[Turn]:
        return [_NoTurn() for _ in range(count)]

    def describe(self) -> Row:
        return {"model": None}


class _NoTurn(Turn):
    async def ask(self, requests: Any, params: Any) -> list[Any]:
        raise NotImplementedError


class Captions:
    """So many captions, made as they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Row]:
        scenes = [Scene(f"{number:010X}").caption().rpartition(" ")[0] for number in range(100)]
        for number in range(self.count):
            yield {
                "id": f"clip{number:07}", "video": f"clip{number:07}", "source": None,
                "prompt": "What happens?",
                "caption": f"{scenes[number % 100]} {number:010X}.",
            }  # fmt: skip


class Memory:
    """The most memory that this process and those it started have in use together, in MiB."""

    def __init__(self) -> None:
        self.most = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self.before = _family_mib()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.2):
            self.most = max(self.most, _family_mib())


def _family_mib() -> float:
    """Resident memory, in proportion where it is shared, of this process and all below it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family, grown = family | more, bool(more)
    total = 0
    for pid in family:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(rollup.split("\nPss:")[1].split()[0])
        except (OSError, IndexError):
            continue
    return total / 1024


def served(count: int, engine: EngineOptions) -> dict[str, Any]:
    settings = VlmSettings(
        latency_s=LATENCY_S, slots=SLOTS, faults=FAULTS, retry_after_s=0.2, slow_s=2.0
    )
    with running_vlm_server(settings) as server, tempfile.TemporaryDirectory() as folder:
        stage = QaStage(ModelChoice("openai:vlm", base_url=server.url))
        options = EndpointOptions(concurrency=80, cache=False)
        with Memory() as memory:
            begun = time.perf_counter()
            report = run_stage(
                stage, Captions(count), Path(folder), engine=engine, endpoint=options
            )
            seconds = time.perf_counter() - begun
        seen = server.report()
        return {
            "engine": engine.name,
            "actors": engine.actors,
            "rows": report.n_rows,
            "failed": report.n_failed,
            "lost": count - report.n_rows,
            "paid_twice": seen.repeats,
            "faults": seen.met.total(),
            "seconds": round(seconds, 1),
            "share_of_ideal": round(count / seconds / (SLOTS / LATENCY_S), 3),
            "peak_mib": round(memory.most),
            "gained_mib": round(memory.most - memory.before),
        }


def rows_alone(count: int, engine: EngineOptions) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Memory() as memory:
        begun, cpu = time.perf_counter(), time.process_time()
        report = run_stage(Nothing(), Captions(count), Path(folder), engine=engine)
        seconds = time.perf_counter() - begun
        again = time.perf_counter()
        run_stage(Nothing(), Captions(count), Path(folder), engine=engine)
        return {
            "engine": engine.name,
            "rows": report.n_rows,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "microseconds_a_row": round(seconds / count * 1e6),
            "seconds_when_all_is_done": round(time.perf_counter() - again, 1),
            "log_mib": round(sum(f.stat().st_size for f in Path(folder).glob("*.jsonl")) / 2**20),
            "gained_mib": round(memory.most - memory.before),
        }


def project(captioner: str, questioner: str, judge: str) -> dict[str, Any]:
    """What the paper's data take, by stage."""
    loop = checked_loop(
        "the paper",
        {
            "out": "nowhere",
            "videos": "nowhere",
            "base_url": OPENAI,
            "captions": {"model": captioner},
            "qa": {"model": questioner},
            "candidates": {"model": "hf:the-sft-model"},
            "rewards": {"judge": judge},
        },
    )
    endpoint = EndpointOptions(cache=False)
    models = {"captions": captioner, "qa": questioner, "rewards": judge}
    stages = {}
    for name, inputs in {"captions": 900_000, "qa": 300_000, "rewards": 20_000}.items():
        estimate = typical_estimate(loop, name, inputs, endpoint)
        assert estimate is not None
        stages[name] = {
            "model": models[name],
            "inputs": inputs,
            "calls": estimate.requests,
            "tokens": round(estimate.tokens),
            "dollars": None if estimate.cost is None else round(estimate.cost, 2),
            "hours": round(estimate.seconds / 3600, 1),
            "prices_of": estimate.priced,
        }
    return stages | {"concurrency": endpoint.concurrency, "paper_says_of_rewards": "under $20"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--served", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--actors", default="1,2,4")
    parser.add_argument("--skip-ray", action="store_true")
    parser.add_argument("--project", action="store_true")
    parser.add_argument("--captioner", default="openai:gpt-4o")
    parser.add_argument("--questioner", default="openai:gpt-3.5-turbo")
    parser.add_argument("--judge", default="openai:gpt-3.5-turbo")
    given = parser.parse_args()
    if given.project:
        print(json.dumps(project(given.captioner, given.questioner, given.judge), indent=2))
        return
    actors = [] if given.skip_ray else [int(each) for each in given.actors.split(",")]
    rays = [EngineOptions("ray", actors=each) for each in actors]
    local = EngineOptions()
    figures = {
        "served": [_shown(served(given.served, each)) for each in (local, *rays) if given.served],
        "rows": [
            _shown(rows_alone(count, each))
            for count, each in itertools.chain(
                [(given.rows, local)], [(given.rows // 100, each) for each in rays[:1]]
            )
            if count
        ],
        "own_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(figures, indent=2))
    assert all(each["lost"] == 0 and each["failed"] == 0 for each in figures["served"])


def _shown(figures: dict[str, Any]) -> dict[str, Any]:
    """Show figures as they come, on stderr: all of them take long."""
    print(json.dumps(figures), file=sys.stderr, flush=True)
    return figures


if __name__ == "__main__":
    main()
