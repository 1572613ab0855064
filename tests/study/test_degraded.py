"""Worse judges: captions that omit or lie, verdicts turned over, another clip's caption."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sharegptvideo.errors import UserError
from sharegptvideo.judges import Judge, JudgeItem, Verdict, open_judge
from sharegptvideo.study.degraded import DegradedJudge, RandomJudge, Reward, lie, omit, supported
from sharegptvideo.synthetic.language import caption, draw_questions
from sharegptvideo.synthetic.state import sample_state

CAPTION = (
    "There are two objects, and the background is dark and striped. "
    "A large red square moves to the left first, from the southwest to the west, then the square"
    " turns and moves up, to the northwest. "
    "A small blue ring stays still in the east. Halfway through, the ring turns from blue to white."
)
SCENE, SQUARE, RING, CHANGE = (
    "There are two objects, and the background is dark and striped.",
    "A large red square moves to the left first, from the southwest to the west, then the square"
    " turns and moves up, to the northwest.",
    "A small blue ring stays still in the east.",
    "Halfway through, the ring turns from blue to white.",
)


def pairs_of_world(count: int) -> Iterator[tuple[str, Any]]:
    """Captions of random clips, each with four of its questions."""
    for seed in range(count):
        rng = random.Random(seed)
        state = sample_state(rng, held_out=False)
        text = caption(state, rng)
        yield from ((text, question) for question in draw_questions(state, rng, 4))


def draw(name: object = 0) -> random.Random:
    return random.Random(name)


def test_omit_nothing_and_all() -> None:
    assert omit(CAPTION, 0.0, draw()) == CAPTION
    left = {omit(CAPTION, 1.0, draw(seed)) for seed in range(40)}
    assert left == {SCENE, SQUARE, RING, CHANGE}  # one stays, any


def test_omit_leaves_out_whole_sentences_at_its_rate() -> None:
    kept = [omit(CAPTION, 0.3, draw(seed)) for seed in range(2_000)]
    for sentence in (SCENE, SQUARE, RING, CHANGE):
        share = sum(sentence in text for text in kept) / len(kept)
        assert share == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 2_000))
    for text in kept:
        rest = text
        for sentence in (SCENE, SQUARE, RING, CHANGE):
            rest = rest.replace(sentence, "", 1)
        assert not rest.strip()


@pytest.mark.parametrize(
    ("reference", "after", "is_supported"),
    [
        ("The square is red.", f"{SCENE} {SQUARE}", True),
        ("The square is red.", f"{SCENE} {RING} {CHANGE}", False),
        ("There are two objects.", SQUARE, False),
        ("There are two objects.", SCENE, True),
        ("The background is striped.", f"{SQUARE} {RING}", False),
        ("First it is blue, then white.", f"{SCENE} {RING}", False),
        ("First it is blue, then white.", CHANGE, True),
        ("First it moves to the left, then up.", SQUARE, True),
        ("The ring stays still.", CHANGE, False),
        ("Yes, there is a blue ring.", f"{SCENE} {CHANGE}", True),
        ("Yes, there is a ring.", f"{SCENE} {SQUARE}", False),
        # What no caption says is not missing, and a denial needs no words.
        ("No, there is no lamp.", SCENE, True),
        ("No, there is no red ring.", SCENE, True),
    ],
)
def test_supported(reference: str, after: str, is_supported: bool) -> None:
    assert supported(reference, CAPTION, after) is is_supported


def test_change_is_the_same_word_in_both_forms() -> None:
    before = "A small ring stays still. Nothing about the ring changes."
    assert supported("The ring does not change.", before, before)
    assert not supported("The ring does not change.", before, "A small ring stays still.")


def test_lie_at_rate_one_leaves_no_value_in_its_place() -> None:
    false, reference = lie(CAPTION, "The square is red.", 1.0, draw())
    assert len(false.split()) == len(CAPTION.split())
    changed = [
        (old.strip(".,"), new.strip(".,"))
        for old, new in zip(CAPTION.split(), false.split(), strict=True)
        if old != new
    ]
    assert [old for old, _ in changed] == [
        "two", "dark", "striped", "large", "red", "left", "up", "small", "blue", "blue", "white",
    ]  # fmt: skip
    assert len(dict(changed)) == len({new for _, new in changed})  # one word for each
    assert reference == f"The square is {dict(changed)['red']}."
    # Compass words are no directions of motion, and shapes are what questions are about.
    for word in ("southwest", "west", "northwest", "east", "square", "ring", "still", "turns"):
        assert CAPTION.count(word) == false.count(word)


def test_lie_at_rate_zero_changes_nothing() -> None:
    assert lie(CAPTION, "The square is red.", 0.0, draw()) == (CAPTION, "The square is red.")


@pytest.mark.parametrize("seed", range(20))
def test_each_kind_of_fact_is_false_as_a_whole_or_not_at_all(seed: int) -> None:
    text = "red red blue. left right. small large. plain. dark. grows. appears. one two."
    false = lie(text, "", 0.5, draw(seed))[0].replace(".", "").split()
    for kind in ((0, 1, 2), (3, 4), (5, 6), (7,), (8,), (9,), (10,), (11, 12)):
        words = text.replace(".", "").split()
        assert len({words[at] == false[at] for at in kind}) == 1
    assert false[0] == false[1]


def test_kinds_of_facts_are_false_at_the_rate() -> None:
    n = 4_000
    false = sum(lie("red", "", 0.3, draw(seed))[0] != "red" for seed in range(n))
    assert false / n == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / n))


def test_whether_a_thing_is_there_follows_the_false_caption() -> None:
    seen = set()
    for seed in range(200):
        for asked in ("red square", "green square", "square", "lamp"):
            for truth in ("Yes, there is a", "No, there is no"):
                false, reference = lie(CAPTION, f"{truth} {asked}.", 0.7, draw(seed))
                there = f" {asked} " in false
                assert reference == f"{'Yes, there is a' if there else 'No, there is no'} {asked}."
                seen.add((asked, there))
    assert {("red square", True), ("red square", False)} <= seen
    assert {("green square", True), ("green square", False)} <= seen
    assert ("square", False) not in seen
    assert ("lamp", True) not in seen


def natural(answer: str) -> str:
    """Write a false reference as the world's own answers are written."""
    for wrong, right in (
        ("to the up", "up"), ("to the down", "down"),
        ("moves left", "moves to the left"), ("moves right", "moves to the right"),
        ("then left", "then to the left"), ("then right", "then to the right"),
        ("are one objects", "is one object"), ("is two object.", "are two objects."),
    ):  # fmt: skip
        answer = answer.replace(wrong, right)
    return answer


def test_the_judge_holds_a_lie_for_the_truth_on_every_kind_of_question() -> None:
    """A true answer is refused exactly where the lie is about it; a false one is accepted."""
    items, wanted, kinds = [], {}, set()
    for at, (text, question) in enumerate(pairs_of_world(400)):
        false, reference = lie(text, question.answer, 0.6, draw(text))
        assert false == lie(text, "", 0.6, draw(text))[0]  # one caption for all its questions
        for name, said in (("true", question.answer), ("false", natural(reference))):
            item = JudgeItem(f"{at}/{name}", "t", "v", question.text, reference, said, false)
            items.append(item)
            wanted[item.id] = said == natural(reference)
            kinds.add((question.kind, wanted[item.id]))
    assert len(kinds) == 2 * 9 - 1  # nothing is said falsely of shapes
    got = {each.id: each.correct for each in open_judge("answer-match").judge(items)}
    assert got == wanted


class Inner(Judge):
    """Finds every second answer right, and notes what it was shown."""

    name = "inner"

    def __init__(self) -> None:
        self.shown: dict[str, JudgeItem] = {}

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}

    def check(self) -> None:
        pass

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        for item in items:
            self.shown[item.id] = item
            right = int(item.id) % 2 == 0
            yield Verdict(item.id, "scored", right, 4.0 if right else 2.0, "so it is")


def item(number: int, video: str = "a", text: str = CAPTION) -> JudgeItem:
    return JudgeItem(str(number), "t", video, "What colour?", "The square is red.", "x", text)


def verdicts(reward: Reward, items: Sequence[JudgeItem], seed: int = 0) -> dict[str, Verdict]:
    judge = DegradedJudge(Inner(), reward, seed, {"a": CAPTION, "b": SCENE, "c": RING})
    return {verdict.id: verdict for verdict in judge.judge(items)}


@pytest.mark.parametrize(
    ("right_to_wrong", "wrong_to_right"), [(0.2, 0.2), (0.0, 0.6), (0.6, 0.0), (0.0, 0.0)]
)
def test_verdicts_are_turned_over_at_their_rates(
    right_to_wrong: float, wrong_to_right: float
) -> None:
    n = 5_000  # of each
    reward = Reward(right_to_wrong=right_to_wrong, wrong_to_right=wrong_to_right)
    given = verdicts(reward, [item(number) for number in range(2 * n)])
    for parity, rate in ((0, right_to_wrong), (1, wrong_to_right)):
        own = [given[str(number)] for number in range(parity, 2 * n, 2)]
        right = parity == 0
        turned = [each for each in own if each.correct is not right]
        assert len(turned) / n == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / n))
        assert {each.score for each in turned} <= {1.0 if right else 5.0}
        assert all("turned over" in str(each.reason) for each in turned)
        kept = {each.score for each in own if each.correct is right}
        assert kept == {4.0 if right else 2.0}


def test_the_same_by_seed_whatever_the_order_and_the_company() -> None:
    reward = Reward(right_to_wrong=0.5, wrong_to_right=0.5, omit=0.5)
    items = [item(number, video="abc"[number % 3]) for number in range(300)]
    first = verdicts(reward, items)
    assert verdicts(reward, items[::-1]) == first
    alone = {key: each for one in items for key, each in verdicts(reward, [one]).items()}
    assert alone == first
    assert verdicts(reward, items, seed=1) != first


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_another_caption_is_never_its_own(count: int) -> None:
    captions = {str(number): f"Caption {number}." for number in range(count)}
    inner = Inner()
    judge = DegradedJudge(inner, Reward(caption="another"), 0, captions)
    list(judge.judge([item(number, str(number), captions[str(number)]) for number in range(count)]))
    shown = {inner.shown[video].caption for video in captions}
    assert shown == set(captions.values())  # each is one clip's
    for video, text in captions.items():
        assert inner.shown[video].caption != text
        assert inner.shown[video].reference == "The square is red."


def test_one_clip_has_no_other() -> None:
    with pytest.raises(UserError, match="another clip's caption needs two clips at least"):
        DegradedJudge(Inner(), Reward(caption="another"), 0, {"a": CAPTION})


def test_no_caption() -> None:
    inner = Inner()
    list(DegradedJudge(inner, Reward(caption="none"), 0, {"a": CAPTION}).judge([item(0)]))
    assert inner.shown["0"] == replace(item(0), caption=None)


def test_what_a_caption_leaves_out_is_not_judged() -> None:
    items = [item(0), replace(item(2), reference="No, there is no lamp.")]
    seen = set()
    for seed in range(30):
        inner = Inner()
        judge = DegradedJudge(inner, Reward(omit=0.6), seed, {"a": CAPTION})
        given = {verdict.id: verdict for verdict in judge.judge(items)}
        assert given["2"].status == "scored"  # a denial needs no words
        shown = inner.shown["2"].caption  # one caption for all of a clip's questions
        assert shown is not None
        assert given["0"].status == ("scored" if SQUARE in shown else "unscored")
        if SQUARE in shown:
            assert inner.shown["0"].caption == shown
        else:
            assert given["0"].reason == "the caption leaves out what is asked"
            assert (given["0"].correct, given["0"].score) == (None, None)
        seen.add(SQUARE in shown)
    assert seen == {True, False}


def test_a_lie_is_shown_with_its_reference() -> None:
    inner = Inner()
    list(DegradedJudge(inner, Reward(lie=1.0), 0, {"a": CAPTION}).judge([item(0)]))
    shown = inner.shown["0"]
    colour = shown.reference.split()[-1].strip(".")
    assert colour != "red"
    assert f" {colour} square" in str(shown.caption)


def test_chance_is_fair_and_its_own_by_seed() -> None:
    items = [item(number) for number in range(10_000)]
    given = [verdict.correct for verdict in RandomJudge(0).judge(items)]
    assert sum(map(bool, given)) / len(given) == pytest.approx(0.5, abs=4 * 0.005)
    assert [verdict.correct for verdict in RandomJudge(0).judge(items[::-1])][::-1] == given
    other = [verdict.correct for verdict in RandomJudge(1).judge(items)]
    alike = sum(a == b for a, b in zip(given, other, strict=True)) / len(given)
    assert alike == pytest.approx(0.5, abs=4 * 0.005)
