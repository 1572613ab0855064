"""Stages that ask a server, killed again and again: nothing is paid twice, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import write_jsonl
from tests.build.test_candidates import write_clip

KILLS, CONCURRENCY, QUESTIONS, K = 5, 4, 24, 3

# Imports once; each line on stdin is a folder, and starts a run into it in a fork.
_STARTER = """
import gc, json, os, sys
from pathlib import Path
import httpx2, numpy, openai, openai.types.chat
import sharegptvideo.endpoint.http, sharegptvideo.media
from sharegptvideo.build import sample_candidates, score_candidates
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.judges import JudgeChoice
stage, url, here = sys.argv[1:]
rows = json.loads((Path(here) / "rows.json").read_text())
gc.collect()
gc.freeze()
for out in iter(sys.stdin.readline, ""):
    pid = os.fork()
    if pid == 0:
        given = {"endpoint": EndpointOptions(cache=False, concurrency=CONCURRENCY)}
        if stage == "candidates":
            given |= {"k": K, "frames": 2, "base_url": url, "send": "pictures"}
            sample_candidates(rows, "openai:m", Path(out.strip()), **given)
        else:
            judge = JudgeChoice("openai:m", url)
            score_candidates(Path(here) / "given.jsonl", judge, Path(out.strip()), **given)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
""".replace("CONCURRENCY", str(CONCURRENCY)).replace("K,", f"{K},", 1)


def write_inputs(folder: Path) -> None:
    """Questions on three clips, and candidates for as many."""
    clips = [str(write_clip(folder / f"clip{n}.mp4", seed=n)) for n in range(3)]
    rows = [
        {
            "id": f"q{n}",
            "video": f"clip{n % 3}",
            "source": "release",
            "question": f"What is number {n}?",
            "answer": "A ball.",
            "caption": "A ball rolls.",
        }
        for n in range(QUESTIONS)
    ]
    asked = [row | {"video_path": clips[n % 3]} for n, row in enumerate(rows)]
    (folder / "rows.json").write_text(json.dumps(asked))
    drawn = {"frame_indices": [0, 1], "error": None}
    write_jsonl(
        folder / "given.jsonl",
        [
            row | drawn | {"candidates": [f"It is {row['id']}, or {each}." for each in range(K)]}
            for row in rows
        ],
    )


@pytest.mark.parametrize("stage", ["candidates", "rewards"])
def test_repeats_are_no_more_than_the_calls_under_way(
    stage: str, chat_server: Any, tmp_path: Path
) -> None:
    write_inputs(tmp_path)
    draw = random.Random(11)
    asked: Counter[str] = Counter()
    lock, bell, killed = threading.Lock(), threading.Event(), threading.Event()
    bell_at = sys.maxsize

    def answer(body: dict[str, Any]) -> str:
        content = body["messages"][-1]["content"]
        call = content if isinstance(content, str) else f"{content[-1]['text']} {body['seed']}"
        with lock:
            asked[call] += 1
            if asked.total() >= bell_at:
                bell.set()
            late = bell.is_set()
        if late:  # under way when the process is killed
            killed.wait(60)
        return json.dumps({"explanation": call, "score": 1 + len(call) % 5})

    chat_server.answer, chat_server.models = answer, ["m"]
    command = [sys.executable, "-c", _STARTER, stage, chat_server.url, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        for _ in range(KILLS):
            bell.clear()
            killed.clear()
            bell_at = asked.total() + draw.randrange(6, 14)
            print(tmp_path / "killed", file=starter.stdin, flush=True)
            pid = int(starter.stdout.readline())
            assert bell.wait(60)
            os.kill(pid, signal.SIGKILL)
            killed.set()
            assert int(starter.stdout.readline()) == signal.SIGKILL
        bell.clear()
        bell_at = sys.maxsize
        print(tmp_path / "killed", file=starter.stdin, flush=True)
        starter.stdout.readline()
        assert int(starter.stdout.readline()) == 0
        assert len(asked) == QUESTIONS * K
        assert asked.total() - len(asked) <= KILLS * CONCURRENCY
        print(tmp_path / "whole", file=starter.stdin, flush=True)
        starter.stdout.readline()
        assert int(starter.stdout.readline()) == 0
    for name in (f"{stage}.jsonl", f"{stage}.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "whole" / f"{stage}.jsonl").open()]
    assert [(row["made"]["requests"], row["made"]["attempts"]) for row in rows] == [
        (1 if stage == "candidates" else K, K)
    ] * QUESTIONS
    assert all(row["made"]["tokens"]["completion"] > 0 for row in rows)
    assert {tuple(row["made"]["answered_by"]) for row in rows} == {("m-0613",)}
