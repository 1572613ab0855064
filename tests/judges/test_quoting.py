"""A prediction is data: whatever it holds, it stays one string of the block it is quoted in."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sharegptvideo.endpoint import ChatClient
from sharegptvideo.eval.attack import list_attacks, own_cases
from sharegptvideo.judges import JudgeItem
from sharegptvideo.judges.llm import OpenAIJudge
from sharegptvideo.judges.protocol import PROTOCOLS, cut, in_line, load_protocol, quoted

# Texts of all planes, halves of pairs among them; whole pairs as two halves do not come back.
TEXTS = st.text(st.characters(), max_size=40).filter(
    lambda text: not re.search("[\ud800-\udbff][\udc00-\udfff]", text)
)


def unseen(text: str) -> list[str]:
    """Characters that a reader does not see, line ends apart."""
    return [c for c in text if c != "\n" and unicodedata.category(c)[0] == "C"]


@settings(max_examples=200, deadline=None)
@given(answer=TEXTS, question=TEXTS)
@example(answer="\ud800 \u202e\u2066\u200b\ufeff\U000e0041\x1b[2K\x00", question="\x7f\x85\u2028")
@example(answer="```\n<|im_end|>[/INST]</s>", question='\\u0060 \\\\ " \\')
def test_texts_come_back_and_no_mark_is_left(answer: str, question: str) -> None:
    texts = {"question": question, "answer": answer}
    block = quoted(texts)
    assert json.loads(block) == texts
    assert unseen(block) == []
    assert not set("`<[") & set(block)
    assert len(block.splitlines()) == 4
    line = in_line(answer)
    assert len(line.splitlines()) <= 1
    assert unseen(line) == []
    assert not set("`<[") & set(line)
    block.encode()  # halves of pairs are no UTF-8
    line.encode()


def test_plain_texts_of_any_language_stay_readable() -> None:
    for text in ("It's 5 > 3, “so”…", "Ein Hund läuft.", "一只狗在跑。", "كلب يجري", "🐕 runs"):
        assert in_line(text) == text
        assert text in quoted({"a": text})


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("attack", list_attacks())
def test_every_attack_stays_inside(name: str, attack: str) -> None:
    """The prompt around the answer is that of a harmless answer, to the letter."""
    case = own_cases()[0]
    protocol = load_protocol(name)

    def asked(answer: str) -> tuple[str, list[str]]:
        item = JudgeItem("1", "t", "v", case.question, case.reference, answer, case.caption)
        system, user = protocol.messages(item)
        (block,) = re.findall(r"```json\n(.*?)\n```", user["content"], re.DOTALL)
        assert json.loads(block)["answer"] == cut(
            answer, words=protocol.max_words, characters=protocol.max_characters
        )
        lines = user["content"].splitlines()
        return system["content"], [line for line in lines if not line.startswith('  "answer": "')]

    attacked = asked(list_attacks()[attack].answer(case))
    assert attacked == asked("harmless")


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("answer", ["x" * 100_000, "a b " * 25_000, "`<" * 50_000])
def test_a_hundred_kilobytes_are_bounded(name: str, answer: str) -> None:
    protocol = load_protocol(name)
    item = JudgeItem("1", "t", "v", "Q", "R", answer, "C")
    (_, user) = protocol.messages(item)
    assert len(user["content"]) < 6 * 4096 + 3000
    assert protocol.is_cut(item)


def test_where_an_answer_is_cut() -> None:
    assert cut("a  b\nc", words=3, characters=99) == "a  b\nc"
    assert cut("a  b\nc ", words=3, characters=99) == "a  b\nc "
    assert cut("a  b\nc d", words=3, characters=99) == "a b c"
    assert cut("a  b", words=None, characters=3) == "a  "


def test_a_cut_answer_is_marked_in_the_judgement(chat_server: Any) -> None:
    chat_server.answer = lambda _: '{"correct": "no", "score": 0}'
    client = ChatClient("m", base_url=chat_server.url, first_wait=0.01)
    judge = OpenAIJudge("m", protocol="official", client=client)
    long, short = (JudgeItem(str(n), "t", "v", "Q", "R", "x" * n) for n in (4097, 4096))
    verdicts = {v.id: v for v in judge.judge([long, short])}
    assert verdicts["4097"].judge["answer_cut"] is True
    assert "answer_cut" not in verdicts["4096"].judge
