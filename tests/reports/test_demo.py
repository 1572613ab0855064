"""The demo's page: what it holds, what it escapes, and that its words follow the figures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

from sharegptvideo._io import read_json
from sharegptvideo.reports.charts import Scale, round_ticks
from sharegptvideo.reports.demo import words, write_page
from sharegptvideo.reports.demo.comparison import (
    Answer,
    Case,
    blind_guess,
    clean_accuracy,
    faults,
    outcomes,
    parts,
    read_cases,
)
from sharegptvideo.reports.demo.examples import choose_clips, disagreements, lost_examples
from sharegptvideo.synthetic.render import SIDE
from sharegptvideo.synthetic.state import ClipState, ObjectState

_VOID = {"meta", "img", "br", "link", "input", "hr"}


class _Checked(HTMLParser):
    """Fails on a tag that is not closed in order; keeps elements, links and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words).replace("\u00a0", " "))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def _exact(row: Mapping[str, Any]) -> str:
    return str(row["answer"])


def _inventing(row: Mapping[str, Any]) -> str:
    """Right but for a detail that no clip shows; yes to all that is asked about."""
    if row["question_type"] == "presence":
        return str(row["answer"]).replace("No, there is no", "Yes, there is a")
    return f"{row['answer'][:-1]}, next to a wooden table."


def _page(made: Any) -> _Checked:
    path = write_page(made.folder, made.summary)
    assert path == made.folder / "index.html"
    assert path.stat().st_size < 3_000_000
    return _Checked(path.read_text(encoding="utf-8"))


def test_gain_is_told_with_its_numbers(make_demo: Callable[..., Any]) -> None:
    made = make_demo(sft=_inventing, dpo=_exact)
    page = _page(made)
    test, other = made.summary["test"], made.summary["out_of_domain"]
    assert test["delta"] > 0
    assert page.text.count(f"DPO answers {100 * test['delta']:.1f} points more") >= 1
    for figure in (test["sft"]["accuracy"], other["sft"]["accuracy"], test["dpo"]["accuracy"]):
        assert f"{100 * figure:.1f} %" in page.text
    low, high = test["delta_ci95"]
    assert f"{words.points(low)} to {words.points(high)}" in page.text
    # The figures themselves come first, before a sentence is said about them.
    first = page.text.index("On 24 questions about 6 clips")
    for figure in (test["sft"]["accuracy"], test["dpo"]["accuracy"]):
        assert page.text.index(f"{100 * figure:.1f} %") < first
    assert page.text.index(f"95 % interval {words.points(low)} to {words.points(high)}") < first
    # Every wrong SFT answer has one of the two faults, DPO's have none.
    assert "mostly one of factuality" in page.text
    assert "100.0 % with SFT, 0.0 % with DPO" in page.text
    rates = made.summary["world"]["sft_faults"]
    assert f"{100 * rates['invented']:.0f} % of those to open questions" in page.text
    assert "torch 2.99.0" in page.text
    assert "next to a wooden table" in page.text


def test_loss_is_told_as_one(make_demo: Callable[..., Any]) -> None:
    made = make_demo(sft=_exact, dpo=_inventing)
    page = _page(made)
    assert made.summary["test"]["delta_ci95"][1] < 0
    size = f"{-100 * made.summary['test']['delta']:.1f}"
    assert f"DPO answers {size} points fewer of the questions right than SFT" in page.text
    assert "DPO did harm" in page.text
    assert "more of the questions right" not in page.text
    assert "mostly one of factuality" not in page.text
    # Nothing is put right by DPO (three places), nothing is wrong with both (one).
    assert "For 4 of these there was no such question" in page.text


def _denying(row: Mapping[str, Any]) -> str:
    """The exact answer, and to absent things a yes before it: what a broken DPO left."""
    return str(row["answer"]).replace("No, there is no", "Yes, there is no")


def test_contradictions_and_losses_are_told(make_demo: Callable[..., Any]) -> None:
    made = make_demo(sft=_exact, dpo=_denying)
    found = made.summary["test"]
    asked = [row for row in made.rows("synthetic_qa") if str(row["answer"]).startswith("No,")]
    assert found["lost"]["n"] == len(asked) == found["kinds"]["presence"]["lost"] > 0
    assert found["gained"]["n"] == 0
    assert found["contradictions"]["sft"] == 0
    assert found["contradictions"]["dpo"] == pytest.approx(len(asked) / found["n_questions"])
    assert found["yes"]["dpo"] == 1
    page = _page(made)
    assert f"{len(asked)} questions" in page.text
    assert f"0.0 % with SFT, {100 * found['contradictions']['dpo']:.1f} % with DPO" in page.text
    assert "contradicts itself: both yes and no" in page.text
    assert "Nowhere: both give the same verdict" in page.text  # the judge of captions sees it, too
    results = read_json(made.folder / "runs" / "dpo" / "results.json")["tasks"]["synthetic_qa"]
    assert results["contradictions"]["value"] > 0
    assert results["contradictions"]["n"] == found["kinds"]["presence"]["n"]


def test_equal_models_are_no_evidence(make_demo: Callable[..., Any]) -> None:
    page = _page(make_demo(sft=_exact, dpo=_exact))
    assert "No clear difference between DPO and SFT (+0.0 points)" in page.text
    assert "no evidence that the method works" in page.text


def test_nothing_is_loaded_and_all_is_labelled(make_demo: Callable[..., Any]) -> None:
    made = make_demo(sft=_inventing, dpo=_exact)
    (made.folder / "leaderboard").mkdir()
    (made.folder / "leaderboard" / "index.html").write_text("x")
    page = _page(made)
    source = (made.folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|src=\"(?!datasets/)|url\((?!'data:image/jpeg)", source)
    assert page.all("script") == [{}]
    clips = page.all("video")
    assert clips
    for clip in clips:
        assert clip["aria-label"]
        assert (made.folder / str(clip["src"])).is_file()
    # Each clip's frames are one picture in the page, which stands for them where they are drawn.
    sprites = re.findall(r"url\('data:image/jpeg;base64,([^']+)'\)", source)
    assert len(sprites) == len(clips)
    for sprite in sprites:
        picture = Image.open(io.BytesIO(base64.b64decode(sprite)))
        assert picture.size == (8 * SIDE, SIDE)
    stills = [drawn for drawn in page.all("i") if drawn.get("role") == "img"]
    assert len(stills) == 9 * len(clips)
    assert all(still["aria-label"] for still in stills)
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all("scope" in head for head in page.all("th"))
    links = [link["href"] for link in page.all("a")]
    assert "leaderboard/index.html" in links
    for link in links:
        assert link is not None
        if link.startswith("#"):
            assert {"id": link[1:]} in page.all("section")
        else:
            assert (made.folder / link).exists()


def test_answers_are_escaped_and_failures_shown(make_demo: Callable[..., Any]) -> None:
    # Both models wrong everywhere, so that such an answer is among the chosen clips.
    made = make_demo(sft=lambda _: "<script>alert(1)</script> & co", dpo=lambda _: None)
    page = _page(made)
    assert page.all("script") == [{}]
    assert "<script>alert(1)</script> & co" in page.text
    assert "failed: clip broken" in page.text
    assert made.summary["test"]["dpo"]["accuracy"] == 0


def test_a_clip_that_cannot_be_read_is_named(make_demo: Callable[..., Any]) -> None:
    made = make_demo(sft=_exact, dpo=_exact)
    world = made.folder / "datasets" / "world"
    target = world.resolve()
    world.unlink()
    world.mkdir()
    for path in target.iterdir():
        if path.name != "videos":
            (world / path.name).symlink_to(path)
    page = _page(made)
    assert not page.all("video")
    assert "no such clip" in page.text


def test_same_folder_same_page(make_demo: Callable[..., Any]) -> None:
    made = make_demo(sft=_inventing, dpo=_exact)
    first = write_page(made.folder, made.summary).read_bytes()
    assert write_page(made.folder, made.summary).read_bytes() == first


def _case(
    number: int, kind: str, reference: str, sft: str, dpo: str, right: tuple[bool, bool]
) -> Case:
    polarity = reference.split(",")[0].lower()
    expected = {"polarity": [[polarity]]} if kind == "presence" else {"shape": [["triangle"]]}
    shape = "square" if polarity == "no" else "triangle"
    item = ObjectState(shape, "red", "small", "left", "none", None, None, (2, 0))
    state = ClipState((item,), "plain", dark=True, style="plain")
    return Case(
        id=f"q{number}",
        task_set="test",
        video=f"v{number // 2}",
        kind=kind,
        question={
            "kind": kind,
            "text": f"question {number}",
            "expected": expected,
            "about": "triangle",
            "state": state.as_dict(),
        },
        reference=reference,
        caption="",
        answers={
            "sft": Answer(sft, None, right[0], False, None, None, None, None),
            "dpo": Answer(dpo, None, right[1], dpo == "Yes and no.", None, None, None, None),
        },
    )


def _cases() -> list[Case]:
    table, triangle = "It is a triangle, next to a wooden table.", "It is a triangle."
    no, yes = "No, there is no triangle.", "Yes, there is a triangle."
    return [
        _case(0, "shape", triangle, table, triangle, (False, True)),
        _case(1, "shape", triangle, "It is a square, next to a table.", triangle, (False, True)),
        _case(2, "shape", triangle, triangle, "It is a square.", (True, False)),
        _case(3, "presence", no, yes, yes, (False, False)),
        _case(4, "presence", no, yes, no, (False, True)),
        _case(5, "presence", yes, yes, yes, (True, True)),
    ]


def test_faults_are_counted_of_the_answers_that_could_have_them() -> None:
    sft, dpo = faults(_cases(), "sft"), faults(_cases(), "dpo")
    assert (sft["invented"].value, sft["invented"].n) == (pytest.approx(2 / 3), 3)
    assert (sft["yes_to_absent"].value, sft["yes_to_absent"].n) == (1.0, 2)
    assert (sft["no_to_present"].value, sft["no_to_present"].n) == (0.0, 1)
    assert dpo["invented"].value == 0.0
    assert dpo["yes_to_absent"].value == 0.5


def test_parts_sum_to_one_and_name_the_cause() -> None:
    # A wrong shape with an invented detail is wrong in another way, not for the detail alone.
    assert parts(_cases(), "sft") == {
        "right": pytest.approx(2 / 6),
        "invented_only": pytest.approx(1 / 6),
        "yes_to_absent": pytest.approx(2 / 6),
        "contradiction": 0.0,
        "otherwise": pytest.approx(1 / 6),
    }
    assert sum(parts(_cases(), "dpo").values()) == pytest.approx(1)
    both = [
        *_cases(),
        _case(6, "presence", "No, there is no triangle.", "", "Yes and no.", (False,) * 2),
    ]
    assert parts(both, "dpo")["contradiction"] == pytest.approx(1 / 7)


def test_lost_examples_take_kinds_in_turn() -> None:
    triangle, no = "It is a triangle.", "No, there is no triangle."
    lost = [
        _case(number, "shape" if number < 3 else "presence", triangle if number < 3 else no,
              triangle, "", (True, False))
        for number in range(5)
    ]  # fmt: skip
    cases = [*_cases()[:2], *lost]
    assert [case.id for case in lost_examples(cases, 4)] == ["q0", "q3", "q1", "q4"]
    assert len(lost_examples(cases, 99)) == 5
    assert lost_examples(_cases()[:2], 9) == []


def test_disagreements_are_those_of_state_and_judge() -> None:
    cases = _cases()
    answer = cases[0].answers["sft"]
    cases[0] = replace(
        cases[0], answers={**cases[0].answers, "sft": replace(answer, judged=True, reason="kind")}
    )
    found = disagreements(cases)  # the others have no verdict of the judge
    assert [(one.case.id, one.model, one.answer.reason) for one in found] == [("q0", "sft", "kind")]


def test_the_best_blind_guess_is_counted_within_kind_and_attribute() -> None:
    def asked(kind: str, attribute: str, *accepted: str) -> dict[str, Any]:
        expected = {attribute: [values.split() for values in accepted]}
        return {"kind": kind, "text": f"What {attribute}?", "expected": expected}

    # Of three colours two are red, of two directions either is right once: 2 + 1 of 5.
    assert blind_guess(
        [
            asked("order", "colour", "red"),
            asked("order", "colour", "red"),
            asked("order", "colour", "blue"),
            asked("order", "direction", "left", "up left"),
            asked("order", "direction", "up"),
        ]
    ) == pytest.approx(3 / 5)
    # What happens is not given away by the question: one guess for all three.
    happens = [asked("change", "change", "grows"), asked("change", "colour", "red")]
    assert blind_guess([*happens, asked("change", "colour", "red")]) == pytest.approx(2 / 3)
    # "At first" gives away that something changes: two guesses, of which each is right once more.
    at_first = [asked("direction", "direction", way) | {"text": "Where at first?"} for way in "uud"]
    ways = [asked("direction", "direction", way) for way in ("s", "s", "u")]
    assert blind_guess([*at_first, *ways]) == pytest.approx(4 / 6)
    assert blind_guess([]) is None


def test_what_a_model_sees_leaves_invented_things_out_of_account(
    make_demo: Callable[..., Any],
) -> None:
    """One model is right but for a lamp in each answer, the other says lamps alone."""
    made = make_demo(
        sft=lambda row: f"{row['answer'][:-1]}, with a lamp hanging above.",
        dpo=lambda _row: "There is a lamp.",
    )
    cases = read_cases(made.folder / "runs", made.folder / "datasets" / "world")
    open_questions = [case for case in cases if case.kind != "presence"]
    assert not any(case.answers["sft"].right for case in open_questions)
    assert clean_accuracy(open_questions, "sft").value == 1
    assert clean_accuracy(open_questions, "dpo").value == 0
    for kind, found in made.summary["test"]["kinds"].items():
        if kind != "presence":
            assert found["sft"] == 0
            assert found["sft_clean"]["value"] == 1
    page = _page(made)
    assert "What the model sees before DPO" in page.text
    assert page.text.count("asked things answered rightly") == 2


def test_clips_follow_the_rule() -> None:
    cases = _cases()
    assert {name: len(found) for name, found in outcomes(cases).items()} == {
        "fixed": 3,
        "both_right": 1,
        "both_wrong": 1,
        "broke": 1,
    }
    chosen = choose_clips(cases, 0)
    assert chosen == choose_clips(list(cases), 0)
    assert len({case.video for _, case in chosen}) == len(chosen)
    assert len({tuple(case.id for _, case in choose_clips(cases, seed)) for seed in range(9)}) > 1


def test_words_for_every_verdict() -> None:
    def figures(low: float, high: float) -> dict[str, Any]:
        return {"delta": (low + high) / 2, "delta_ci95": [low, high]}

    assert words.verdict(figures(0.01, 0.1)) == "above"
    assert words.verdict(figures(-0.1, -0.01)) == "below"
    assert words.verdict(figures(-0.1, 0.2)) == "unclear"
    assert words.verdict(figures(0.0, 0.2)) == "unclear"
    assert words.verdict({"delta": 0.3, "delta_ci95": None}) == "unclear"
    assert words.points(-0.0625) == "−6.2"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 100.0, [0, 20, 40, 60, 80, 100]),
        (0.689, 0.694, [0.689, 0.69, 0.691, 0.692, 0.693, 0.694]),
        (3.0, 3.0, [3, 4, 5, 6]),
        (-0.003, 0.008, [-0.005, 0, 0.005, 0.01]),
    ],
)
def test_ticks_are_round_and_cover(low: float, high: float, ticks: list[float]) -> None:
    found = round_ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    if low < high:
        assert found == pytest.approx(ticks)


def test_scale_cuts_at_its_ends() -> None:
    scale = Scale(0.0, 1.0, 40.0, 240.0)
    assert [scale(value) for value in (0.25, -1.0, 2.0)] == [90.0, 40.0, 240.0]
