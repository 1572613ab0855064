"""`answer-match` reads captions only; against the exact state of the world it must mostly agree."""

from __future__ import annotations

import random
from collections.abc import Iterator

from sharegptvideo.judges import mark
from sharegptvideo.synthetic.exact import is_right
from sharegptvideo.synthetic.language import Faults, Question, caption, distil, draw_questions
from sharegptvideo.synthetic.state import COLOURS, DIRECTIONS, SHAPES, sample_state


def answers(question: Question, other: str, faulty: str, rng: random.Random) -> Iterator[str]:
    """The answer, a faulty one, another question's, one cut short, some with a swapped value."""
    yield from (question.answer, faulty, other)
    words = question.answer.split()
    yield " ".join(words[: rng.randint(1, len(words))])
    for values in (COLOURS, DIRECTIONS, SHAPES):
        for index, word in enumerate(words):
            if word.strip(".,") in values:
                swapped = rng.choice([value for value in values if value != word.strip(".,")])
                yield " ".join([*words[:index], swapped, *words[index + 1 :]])


def test_agreement_with_the_exact_state() -> None:
    rng = random.Random(11)
    same = accepted = right = total = 0
    for number in range(200):
        state = sample_state(rng, held_out=number % 2 == 0)
        reported = caption(state, rng)
        questions = draw_questions(state, rng, 5)
        for question in questions:
            other = rng.choice(questions).answer
            faulty, _ = distil(question, state, rng, Faults())
            for answer in answers(question, other, faulty, rng):
                judged = mark(question.text, question.answer, answer, reported).score >= 3
                exact = is_right({**question.as_dict(), "state": state.as_dict()}, answer)
                same += judged == exact
                accepted += judged
                right += exact
                total += 1
    assert 0.2 < right / total < 0.8
    assert abs(accepted - right) / total < 0.02
    assert same / total > 0.97
