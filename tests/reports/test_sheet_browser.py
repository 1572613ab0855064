"""A rating sheet in a browser: rated by keys and clicks, kept, saved, and read by the command."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.eval import judge_predictions
from sharegptvideo.reports.sheet import SheetOptions, write_sheet
from tests.support.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

EVIL = "</script><img src=x onerror='document.title=\"taken over\"'>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs on three questions: about a video, a clip that is missing, a broken file."""
    folder = tmp_path_factory.mktemp("runs")
    clips = folder / "test" / "msvd"
    clips.mkdir(parents=True)
    write_video(clips / "moves.mp4")
    (clips / "broken.mp4").write_bytes(b"no video")
    rows = [
        {"id": name, "video": f"test/msvd/{name}", "caption": "A clip.",
         "conversations": [{"from": "human", "value": f"<video>\nWhat is {name}?"},
                           {"from": "gpt", "value": "good"}]}
        for name in ("absent", "broken", "moves")
    ]  # fmt: skip
    write_jsonl(folder / "video_instruction" / "test" / "msvd.qa.jsonl", rows)
    made = []
    for name, text in (("one", EVIL), ("two", "good")):
        file = folder / f"{name}.jsonl"
        write_jsonl(file, ({"id": row["id"], "prediction": text} for row in rows))
        judge_predictions(file, ["msvd_qa"], "exact", folder / name, data_dir=folder)
        made.append(folder / name)
    return made


def write_video(file: Path) -> None:
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shade in range(0, 250, 25):
            picture = np.full((48, 64, 3), shade, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def said(browser: Browser) -> str:
    return str(browser.run("document.getElementById('said').innerText"))


def name_rater(browser: Browser, name: str) -> None:
    browser.run(
        "(() => { const field = document.forms[0].elements.rater;"
        f" field.value = {json.dumps(name)}; field.dispatchEvent(new Event('input')); }})()"
    )


def saved(browser: Browser, folder: Path) -> Path:
    """Press the button that saves, and wait for the file."""
    folder.mkdir()
    browser.saved(folder)
    browser.run("document.getElementById('save').click()")
    end = time.monotonic() + 60
    while not (files := list(folder.glob("*.jsonl"))):
        assert time.monotonic() < end, said(browser)
        time.sleep(0.02)
    return files[0]


def test_pairs_are_rated_kept_saved_and_read(
    browser: Browser, runs: list[Path], tmp_path: Path
) -> None:
    """A rater who prefers `good` everywhere prefers the second run in three of three pairs."""
    page = tmp_path / "sheet.html"
    write_sheet(runs, page)
    browser.open(page)
    assert said(browser) == "Question 1 of 3; 0 chosen."
    browser.run("document.getElementById('save').click()")
    assert said(browser).startswith("Write your name first")
    for letter in "tab":  # in the field for the name, keys are letters
        browser.press(letter)
    assert browser.run("document.forms[0].elements.rater.value") == "tab"
    assert said(browser).endswith("0 chosen.")
    browser.run("document.activeElement.blur()")
    for number in range(3):
        texts = browser.run(
            "[...document.querySelectorAll('.answers .words')].map(p => p.innerText)"
        )
        assert sorted(texts) == sorted([EVIL, "good"])
        browser.press("ab"[texts.index("good")])
        chosen = number + 1
        assert f"{chosen} chosen." in said(browser)
    assert said(browser).startswith("All are chosen")
    browser.open(page)  # what was chosen is kept
    assert said(browser).endswith("3 chosen.")
    file = saved(browser, tmp_path / "saved")
    assert browser.run("document.title") == "Which answer is better?"
    words = ["eval", "agreement", str(file), "--key", str(tmp_path / "sheet.key.json")]
    result = CliRunner().invoke(app, [*words, "--judge", "exact", "--json"])
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(result.stdout)
    assert (figures["all"]["n"], figures["all"]["agreement"]["value"]) == (3, 1.0)
    assert list(figures["raters"]) == ["tab"]
    (pair,) = figures["runs"]
    assert (pair["people"]["second"], pair["judge"]["second"]) == (3, 3)
    assert (pair["first"]["name"], pair["second"]["name"]) == ("one", "two")


def test_ratings_are_saved_as_verdicts(browser: Browser, runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "sheet.html"
    write_sheet(runs[1:], page)
    browser.open(page)
    assert "good" in browser.run("document.getElementById('item').innerText")
    browser.press("y")
    browser.run("document.querySelector('#choices button[value=no]').click()")
    browser.press("ArrowLeft")
    assert browser.run("document.querySelector('[aria-pressed=true]').innerText") == "Wrong"
    browser.press("y")  # a choice may change
    browser.press("ArrowLeft")
    browser.press("n")
    name_rater(browser, "Zoë B./..")
    file = saved(browser, tmp_path / "saved")
    ids = list(read_json(tmp_path / "sheet.key.json")["items"])
    lines = {row["id"]: row for _, row in read_jsonl(file)}
    assert list(lines) == ids[: len(lines)]
    assert {row["rater"] for row in lines.values()} == {"Zoë B./.."}
    assert file.name.endswith("-Zoë_B_.jsonl")
    assert all(isinstance(row["correct"], bool) and len(row) == 3 for row in lines.values())
    words = ["eval", "agreement", str(runs[1]), str(file), "--key"]
    result = CliRunner().invoke(app, [*words, str(tmp_path / "sheet.key.json"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["all"]["n"] == len(lines)


def test_a_clip_plays_and_one_that_cannot_is_named(
    browser: Browser, runs: list[Path], tmp_path: Path
) -> None:
    page = tmp_path / "sheet.html"
    write_sheet(runs, page, SheetOptions(seed=5))
    browser.open(page)
    seen = {}
    for _ in range(3):
        question = browser.run("document.querySelector('#item .question').innerText")
        browser.wait("document.querySelector('#item > .none, #item video[src]')")
        if "moves" in question:
            browser.wait("document.querySelector('#item video').readyState >= 2")
        else:
            browser.wait("document.querySelector('#item > .none')")
        seen[question] = browser.run("document.querySelector('#item > .none')?.innerText || ''")
        browser.press("ArrowRight")
    assert seen["What is moves?"] == ""
    for name in ("absent", "broken"):
        assert f"test/msvd/{name} is not where this sheet expects it" in seen[f"What is {name}?"]
    refused = [each for each in browser.problems if "Content Security Policy" in each]
    assert refused == []


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(
    browser: Browser, runs: list[Path], tmp_path: Path, width: int
) -> None:
    page = tmp_path / "sheet.html"
    write_sheet(runs, page)
    browser.resize(width, 900)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.resize(1400, 1000)
