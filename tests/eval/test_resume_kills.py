"""kill -9 at fifty random moments of a run: no answer or verdict lost, none paid for twice."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_jsonl, write_jsonl

KILLS = 50
VIDEOS, QUESTIONS = 8, 6
AT_ONCE = 8  # requests that model and judge have under way

# Imports everything once; each line on stdin starts a run into that folder in a forked child.
_STARTER = """
import gc, os, sys
import datasets, openai, sharegptvideo.eval, sharegptvideo.eval.run
from sharegptvideo.models.served import ServedModel
from sharegptvideo.judges.llm import OpenAIJudge
from sharegptvideo.endpoint import EndpointOptions
import sharegptvideo.data.load, sharegptvideo.media, openai.types.chat, scipy.stats
url, data, at_once = sys.argv[1:]
# Without the cache: the run folder alone has to keep what was answered.
endpoint = EndpointOptions(concurrency=int(at_once), cache=False)
gc.collect()
gc.freeze()  # else each child's collector goes over all that is shared
for line in iter(sys.stdin.readline, ""):
    out = line.rstrip()
    pid = os.fork()
    if pid == 0:
        try:
            sharegptvideo.eval.run_evaluation(
                "openai:m", ["msvd_qa"], "openai:j", out, data_dir=data, base_url=url,
                endpoint=endpoint,
            )
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    print(pid, flush=True)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet gone: its id stays taken
    print("ended", flush=True)
    sys.stdin.readline()  # until the killer has done so
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@dataclass
class _Watch:
    """Counts what the server is asked, and rings when a run has asked `bell_after` times."""

    asked: Counter[str] = field(default_factory=Counter)
    since_start: int = 0
    bell_after: int = 1
    bell: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> str:
        key = _name(body)
        with self.lock:
            self.asked[key] += 1
            self.since_start += 1
            if self.since_start == self.bell_after:
                self.bell.set()
        if body["model"] == "m":
            return f"answer to {key}"
        return json.dumps({"explanation": f"on {key}", "score": 1 + len(key) % 5})

    def start(self, bell_after: int) -> None:
        with self.lock:
            self.since_start, self.bell_after = 0, bell_after
            self.bell.clear()


def _name(body: dict[str, Any]) -> str:
    """`m v3 q7` or `j v3 q7`: which question a request is about."""
    text = json.dumps(body["messages"])
    at = text.index("number ") + len("number ")
    return f"{body['model']} {text[at:].split('?')[0]}"


def _release(folder: Path, write_clip: Any) -> Path:
    rows = []
    for video in range(VIDEOS):
        write_clip(folder / "test" / "msvd" / f"v{video}", (video * 20, 90, 90))
        rows += [
            {
                "id": f"v{video}_{number}",
                "video": f"test/msvd/v{video}",
                "caption": "A plain picture.",
                "conversations": [
                    {"from": "human", "value": f"<video>\nWhat is number v{video} q{number}?"},
                    {"from": "gpt", "value": "a colour"},
                ],
            }
            for number in range(QUESTIONS)
        ]
    write_jsonl(folder / "video_instruction" / "test" / "msvd.qa.jsonl", rows)
    return folder


def _kept(run: Path) -> set[str]:
    """What the logs hold whole, as `_name` names it."""
    found: set[str] = set()
    for file, model in (("predictions.jsonl", "m"), ("judgements.jsonl", "j")):
        if (run / file).is_file():
            for line in (run / file).read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    row = json.loads(line)
                    video, number = row["id"].split("_")
                    found.add(f"{model} {video} q{number}")
    return found


def _content(run: Path) -> list[dict[str, Any]]:
    rows = [row for name in ("predictions", "judgements")
            for _, row in read_jsonl(run / f"{name}.jsonl")]  # fmt: skip
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


class _Starter:
    """A process that starts runs one after another; the bell rings, too, when one has ended."""

    def __init__(self, url: str, data: Path, watch: _Watch) -> None:
        self._watch = watch
        self._lines: queue.Queue[str] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _STARTER, url, str(data), str(AT_ONCE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENAI_API_KEY": "none"},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
            if line == "ended\n":
                self._watch.bell.set()

    def start(self, out: Path) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{out}\n")
        self._process.stdin.flush()
        return int(self._lines.get(timeout=120))

    def status(self) -> int:
        """Let the ended child go, and how it ended."""
        assert self._process.stdin is not None
        assert self._lines.get(timeout=120) == "ended\n"
        self._process.stdin.write("done\n")
        self._process.stdin.flush()
        return os.waitstatus_to_exitcode(int(self._lines.get(timeout=120)))

    def __enter__(self) -> _Starter:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._reader.join()


@pytest.mark.slow
def test_fifty_kills_lose_nothing_and_repeat_nothing(
    chat_server: Any, tmp_path: Path, clip_writer: Any
) -> None:
    data = _release(tmp_path / "data", clip_writer)
    watch = _Watch()
    chat_server.models, chat_server.answer = ["m", "j"], watch.answer
    whole = tmp_path / "whole"
    draw = random.Random(20)
    moments: Counter[str] = Counter()
    kills, runs = 0, 0
    with _Starter(chat_server.url, data, watch) as starter:
        starter.start(whole)
        assert starter.status() == 0
        expected, results = _content(whole), (whole / "results.json").read_text()
        assert set(watch.asked.values()) == {1}
        while kills < KILLS:  # a run that ends before the last kill is followed by another
            runs += 1
            run = tmp_path / f"run{runs}"
            watch.asked.clear()
            before = kills
            while not _one_sitting(starter, watch, run, draw, kill=kills < KILLS, moments=moments):
                kills += 1
            assert _content(run) == expected
            assert (run / "results.json").read_text() == results
            assert len(watch.asked) == 2 * VIDEOS * QUESTIONS
            # What was on its way at a kill is asked again: no more than go out at once, each time.
            twice = sum(count - 1 for count in watch.asked.values())
            assert twice <= (kills - before) * AT_ONCE
    assert min(moments["m"], moments["j"]) >= 5, moments  # both phases were killed in


def _one_sitting(
    starter: _Starter,
    watch: _Watch,
    run: Path,
    draw: random.Random,
    *,
    kill: bool,
    moments: Counter[str],
) -> bool:
    """Start the run and kill it somewhere; whether it had ended before. Nothing kept is asked."""
    before, kept = watch.asked.copy(), _kept(run)
    # From the middle of a request to a few answers later.
    watch.start(bell_after=draw.randint(1, 20))
    pid = starter.start(run)
    if kill:
        assert watch.bell.wait(60)
        threading.Event().wait(draw.uniform(0, 0.012))
        os.kill(pid, signal.SIGKILL)  # of a child that has ended, perhaps: its id is still its own
    status = starter.status()
    assert status in {0, -signal.SIGKILL}
    asked = {name for name, count in watch.asked.items() if count > before[name]}
    assert not asked & kept
    if status and asked:
        moments[max(asked)[0]] += 1
    return status == 0


@pytest.fixture
def clip_writer() -> Any:
    """Ten frames of one colour, as the release keeps them."""
    import numpy as np
    from PIL import Image

    def write(folder: Path, colour: tuple[int, int, int]) -> None:
        folder.mkdir(parents=True)
        for number in range(1, 11):
            frame = np.full((24, 32, 3), colour, dtype=np.uint8)
            Image.fromarray(frame).save(folder / f"c01_{number:04d}.png")

    return write
