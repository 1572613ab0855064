"""The page of a run in a browser, opened from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharegptvideo._io import write_jsonl
from sharegptvideo.eval import judge_predictions, run_evaluation
from sharegptvideo.models.settings import AnswerSettings
from sharegptvideo.reports.clips import clip_part
from sharegptvideo.reports.parts import Page, Section, asset
from sharegptvideo.reports.run import write_report
from sharegptvideo.reports.run.samples import CHUNK
from sharegptvideo.synthetic.render import write_mp4
from tests.conftest import ChatServer
from tests.support.browser import CHROMIUM, Browser
from tests.support.report_pages import read_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

N = 2 * CHUNK + 50
EVIL = "</script><img src=x onerror='document.title=\"taken over\"'>\u202edlo\u202c"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """850 samples: each second one right; the last one's answer is markup. A second run: all right
    but the first ten."""
    folder = tmp_path_factory.mktemp("page")
    rows = [
        {"id": str(i), "video": f"v{i // 20}", "caption": f"Clip {i // 20}.",
         "conversations": [{"from": "human", "value": f"<video>\nWhat is {i}?"},
                           {"from": "gpt", "value": f"thing {i}"}]}
        for i in range(N)
    ]  # fmt: skip
    write_jsonl(folder / "video_instruction" / "test" / "msvd.qa.jsonl", rows)
    answers = {
        "one": [f"thing {i - i % 2}" for i in range(N - 1)] + [EVIL],
        "two": [f"thing {i}" if i >= 10 else "nothing" for i in range(N)],
    }
    for name, texts in answers.items():
        file = folder / f"{name}.jsonl"
        write_jsonl(file, ({"id": str(i), "prediction": text} for i, text in enumerate(texts)))
        judge_predictions(file, ["msvd_qa"], "exact", folder / name, data_dir=folder)
    write_report(folder / "one", folder / "out", against=folder / "two")
    return folder / "out" / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def count(browser: Browser) -> str:
    return str(browser.run("document.getElementById('count').textContent"))


def opened(browser: Browser, page: Path, fragment: str = "") -> str:
    """Open the page and wait for a sample; gives its text."""
    browser.open(page, fragment)
    browser.wait("document.querySelector('#sample h3, #sample > .hint')")
    return str(browser.run("document.getElementById('sample').innerText"))


def test_it_opens_at_the_first_sample_and_draws_few_lines(browser: Browser, page: Path) -> None:
    text = opened(browser, page)
    assert text.startswith("What is 0?")
    # The list's texts come with the first file of samples, a picture or two after the sample's own.
    browser.wait("document.getElementById('list').innerText.includes('reference: thing 0')")
    assert count(browser) == "850 of 850 samples: 425 right, 425 wrong"
    assert browser.run("document.querySelectorAll('.line').length") < 40
    # Files of samples further down are not read before they are looked at.
    assert browser.run("document.querySelectorAll('head script').length") == 1
    assert browser.problems == []


@pytest.mark.parametrize(
    ("fragment", "counted"),
    [
        ("#outcome=w", "425 of 850 samples: 425 wrong"),
        ("#outcome=f", "0 of 850 samples"),
        ("#other=differ", "425 of 850 samples: 5 right, 420 wrong"),
        ("#other=first", "5 of 850 samples: 5 right"),
        ("#other=second&outcome=w", "420 of 850 samples: 420 wrong"),
        ("#other=absent", "0 of 850 samples"),
        ("#text=clip%2041.", "20 of 850 samples: 10 right, 10 wrong"),
        ("#text=849%20ONERROR", "1 of 850 samples: 1 wrong"),
    ],
)
def test_filters_show_what_fits(browser: Browser, page: Path, fragment: str, counted: str) -> None:
    opened(browser, page, fragment)
    assert count(browser) == counted


def test_markup_in_an_answer_is_text_and_hidden_signs_are_spelt_out(
    browser: Browser, page: Path
) -> None:
    text = opened(browser, page, f"#sample={N - 1}")
    assert "</script><img src=x onerror=" in text
    assert "[U+202E]dlo[U+202C]" in text
    assert browser.run("document.title").endswith("every answer and its verdict")
    assert browser.run("document.querySelectorAll('#viewer img').length") == 0
    assert browser.problems == []


def test_keys_and_clicks_move_through_the_list(browser: Browser, page: Path) -> None:
    def press(key: str) -> None:
        browser.run(
            "document.getElementById('list').dispatchEvent("
            f"new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"
        )

    opened(browser, page, "#outcome=r")
    press("End")
    browser.wait("document.querySelector('#sample h3').textContent === 'What is 848?'")
    assert "sample=848" in browser.run("location.hash")
    press("ArrowUp")
    browser.wait("document.querySelector('#sample h3').textContent === 'What is 846?'")
    # The list is drawn after the sample: until then the line before is still the selected one.
    browser.wait("document.querySelector('.line[aria-selected=true]')?.innerText.includes('846')")
    browser.run("document.querySelector('.line[aria-selected=true]').previousSibling.click()")
    browser.wait("document.querySelector('#sample h3').textContent === 'What is 844?'")
    assert "outcome=r" in browser.run("location.hash")


def test_a_file_that_is_missing_is_named(browser: Browser, page: Path) -> None:
    hidden = page.parent / "samples" / "00002.js"
    text = hidden.read_text(encoding="utf-8")
    hidden.unlink()
    try:
        found = opened(browser, page, f"#sample={N - 1}")
    finally:
        hidden.write_text(text, encoding="utf-8")
    assert found == "samples/00002.js is not beside this page"


def test_a_mark_seeks_and_a_clip_that_is_gone_leaves_its_frames(
    browser: Browser, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    write_mp4(np.full((16, 64, 64, 3), 90, np.uint8), clip)
    part = clip_part(clip, 4, tmp_path, name="clip")
    page = Page("t", "l", [Section("s", [part])], script=asset("clips.js"), clips=True)
    page.write(tmp_path / "page.html")
    mark, still = "document.querySelectorAll('.times button')[2]", "document.querySelector('.on')"
    browser.problems.clear()  # those of a file that was missing
    browser.open(tmp_path / "page.html")
    browser.wait("document.querySelector('video').readyState > 1")
    browser.run(f"{mark}.click()")
    browser.wait(f"{still}?.innerText === 'frame 10'")
    # Frame 10 of 8 a second is shown from 1.25 s on.
    at = browser.run("document.querySelector('video').currentTime")
    assert at == pytest.approx(1.255, abs=0.002)
    shown = "getComputedStyle(document.querySelector('.turn')).display"
    assert browser.run(shown) == "none"
    assert browser.problems == []
    clip.unlink()
    browser.open(tmp_path / "page.html")
    browser.wait("document.querySelector('.gone')")
    assert browser.run(shown) == "block"
    browser.run(f"{mark}.click()")
    assert browser.run(f"{still}.innerText") == "frame 10"


def test_prompts_are_those_that_were_sent(
    browser: Browser, small_release: Any, chat_server: ChatServer, tmp_path: Path
) -> None:
    """Model and judge are asked by a server, which keeps what came; one answer has marks in it."""

    def answer(body: dict[str, Any]) -> str:
        if body["model"] == "judge":
            return '{"explanation": "so", "score": 5}'
        return "```red``` <|im_end|>" if "What" in str(body["messages"]) else "yes"

    chat_server.answer = answer
    options: dict[str, Any] = {"data_dir": small_release.folder, "base_url": chat_server.url}
    options["settings"] = AnswerSettings(system="Be brief.")
    run_evaluation("openai:vlm", ["msvd_qa"], "openai:judge", tmp_path / "run", **options)
    write_report(tmp_path / "run", tmp_path / "out")
    shown = set()
    for place in range(6):
        opened(browser, tmp_path / "out" / "index.html", f"#sample={place}")
        folded = browser.run(
            "Array.from(document.querySelectorAll('#sample details'), (each) =>"
            " Array.from(each.querySelectorAll('.words'), (text) => text.textContent))"
        )
        shown |= {tuple(texts) for texts in folded}
    sent = set()
    for body in chat_server.requests:
        contents = [message["content"] for message in body["messages"]]
        texts = [
            content if isinstance(content, str)
            else "".join(part["text"] for part in content if part["type"] == "text")
            for content in contents
        ]  # fmt: skip
        sent.add(tuple(texts))
    assert shown == {texts for texts in sent if "Hi" not in texts}  # not those of a first try
    assert len(shown) == 2 + 6
    _, samples, _ = read_page(tmp_path / "out")
    kinds = [type(sample["judged"]) for sample in samples[:2]]
    assert kinds == [str, list]  # only what the page cannot write itself is in its files
