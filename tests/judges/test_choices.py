"""The rules that read yes or no, and the letter of an option."""

from __future__ import annotations

import pytest

from sharegptvideo.judges import JudgeItem, open_judge
from sharegptvideo.judges.rules.choices import read_choice, read_yes_no

OPTIONS = ["a man is running", "dunking a basketball", "no one", "both of them"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("Yes", True),
        ("no.", False),
        ("**No**, there is a dog.", False),
        ("Yes, there is no dog.", True),
        ("Let me see. The man stands.\nAnswer: Yes", True),
        ("The correct answer is no, since nobody moves.", False),
        ('{"answer": "yes"}', True),
        ("He is dancing. No.", False),
    ],
)
def test_yes_or_no_is_read(answer: str, says: bool) -> None:
    assert read_yes_no(answer) is says


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("There is no dog in the video.", "neither"),
        ("It is not clear.", "neither"),
        ("No doubt he dances.", "neither"),
        ("Yes or no", "says yes and no"),
        ("Yes. No.", "says yes and no"),
        ("No, but the answer is yes", "says yes and no"),
        ("  ", "no words"),
    ],
)
def test_what_says_neither_yes_nor_no_is_not_guessed(answer: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        read_yes_no(answer)


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("B", 1),
        ("b", 1),
        ("(B)", 1),
        ("B) dunking", 1),
        ("**B.** dunking a basketball", 1),
        ("B dunking a basketball", 1),
        ("The answer is B.", 1),
        ("Answer: C", 2),
        ("The correct option is (C), as nobody is there", 2),
        ("Option D", 3),
        ("D\nThey are all seen.", 3),
        ("A man is running.", 0),  # the text, not the letter before it
        ("Dunking a basketball", 1),
        ("No one", 2),
        ("He is dunking a basketball. One sees no one else.", 1),
    ],
)
def test_the_option_is_read(answer: str, place: int) -> None:
    assert read_choice(answer, OPTIONS) == place


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("A man is dancing", "names no option"),
        ("The man is dunking a ball", "names no option"),
        ("He is not dunking a basketball.", "names no option"),
        ("A man is running or dunking a basketball.", "names no option"),
        ("He sits. Then he is dunking a basketball.", "names no option"),
        ("A. dunking a basketball", "with the text of another option"),
        ("A, B", "several"),
        ("A and B", "several"),
        ("B. It could be option C.", "several options: B, C"),
        ("E", "names E, of 4"),
        ("", "no words"),
    ],
)
def test_what_names_no_option_is_not_guessed(answer: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        read_choice(answer, OPTIONS)


def test_a_longer_option_is_meant_where_it_holds_a_shorter_one() -> None:
    options = ["walking", "walking a dog", "sitting"]
    assert read_choice("The woman is walking a dog.", options) == 1
    assert read_choice("The woman is walking.", options) == 0


def test_verdicts() -> None:
    def verdict(judge: str, reference: str, prediction: str) -> tuple[object, object]:
        options = tuple(OPTIONS) if judge == "choice" else ()
        item = JudgeItem("1", "t", "v", "q", reference, prediction, options=options)
        (given,) = open_judge(judge).judge([item])
        return given.correct, given.reason

    assert verdict("yes-no", "no", "No, he is not.") == (True, "says no")
    assert verdict("yes-no", "no", "Yes.") == (False, "says yes")
    assert verdict("yes-no", "no", "Perhaps.") == (None, "the answer says neither yes nor no")
    assert verdict("choice", "no one", "C") == (True, "names C")
    assert verdict("choice", "no one", "D") == (False, "names D")
    assert verdict("choice", "nobody", "C")[0] is None  # the reference is none of the options
