"""Descriptions judged by their claims, and pairs of answers judged together."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from sharegptvideo.endpoint import ChatClient
from sharegptvideo.errors import UserError
from sharegptvideo.judges import JudgeItem, Verdict, is_judged, open_judge, verdict_row
from sharegptvideo.judges.base import Claims
from sharegptvideo.judges.llm import OpenAIJudge
from sharegptvideo.judges.protocol import ASPECTS, ClaimsProtocol, UnreadableError, load_protocol
from sharegptvideo.judges.rules.claim_match import ClaimMatch
from tests.support.made_captions import WORLD_CAPTIONS

REFERENCE = "A brown dog jumps over a fence and runs to a boy in a red shirt."
ITEM = JudgeItem("1", "t", "v", "Describe the clip.", REFERENCE, "A black dog jumps over a fence.")


def reply(claims: str, covered: str) -> str:
    """A reply with a claim for each letter: y is supported, or covered, and n is not."""
    words = {"y": "yes", "n": "no"}
    return json.dumps(
        {
            "claims": [
                {"claim": f"c{at}", "supported": words[one]} for at, one in enumerate(claims)
            ],
            "reference_claims": [
                {"claim": f"r{at}", "covered": words[one]} for at, one in enumerate(covered)
            ],
        }
    )


def verdict_of(server: Any, item: JudgeItem = ITEM, protocol: str = "claims") -> Verdict:
    client = ChatClient("m", base_url=server.url, first_wait=0.01)
    (verdict,) = OpenAIJudge("m", protocol=protocol, client=client).judge([item])
    return verdict


def material(body: dict[str, Any]) -> dict[str, str]:
    (block,) = re.findall(r"```json\n(.*?)\n```", body["messages"][1]["content"], re.DOTALL)
    found: dict[str, str] = json.loads(block)
    return found


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "f1"),
    [
        (Claims(4, 3, 6, 3), 3 / 4, 1 / 2, 3 / 5),  # 2 * 3/8 / (5/4)
        (Claims(1, 1, 4, 1), 1, 1 / 4, 2 / 5),
        (Claims(0, 0, 4, 0), 0, 0, 0),
        (Claims(3, 0, 4, 0), 0, 0, 0),
        (Claims(2, 2, 2, 2), 1, 1, 1),
    ],
)
def test_precision_recall_and_f1(
    counts: Claims, precision: float, recall: float, f1: float
) -> None:
    assert counts.precision == precision
    assert counts.recall == recall
    assert counts.f1 == pytest.approx(f1, abs=1e-15)


def test_a_description_is_counted_and_neither_right_nor_wrong(chat_server: Any) -> None:
    chat_server.answer = lambda _: reply("ynyy", "yyynnn")
    verdict = verdict_of(chat_server)
    assert (verdict.status, verdict.correct) == ("scored", None)
    assert verdict.claims == Claims(4, 3, 6, 3)
    assert verdict.score == pytest.approx(0.6)
    assert verdict.reason == "3 of 4 claims are supported, 3 of 6 of the reference are covered"
    assert verdict.reply == reply("ynyy", "yyynnn")
    row = verdict_row(ITEM, verdict)
    assert row["claims"] == {"claimed": 4, "supported": 3, "expected": 6, "covered": 3}
    assert is_judged(row)
    (body,) = chat_server.requests
    assert material(body) == {
        "question": "Describe the clip.",
        "reference": REFERENCE,
        "answer": "A black dog jumps over a fence.",
    }
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["claims", "reference_claims"]
    flags = schema["properties"]["claims"]["items"]
    assert flags["required"] == ["claim", "supported"]
    assert not flags["additionalProperties"]


def test_rows_of_other_verdicts_say_nothing_of_claims(chat_server: Any) -> None:
    chat_server.answer = lambda _: '{"explanation": "", "score": 4}'
    assert "claims" not in verdict_of(chat_server, protocol="correctness").as_row()


UNREADABLE = {
    "words beside it": (f"Here it is: {reply('y', 'y')}", "not one JSON object"),
    "a list is missing": ('{"claims": []}', '"reference_claims" is null, not a list'),
    "no list": ('{"claims": "none", "reference_claims": []}', '"claims" is "none", not a list'),
    "no object": ('{"claims": ["dog"], "reference_claims": []}', '1 of "claims" is "dog"'),
    "no claim": (
        '{"claims": [{"claim": " ", "supported": "yes"}], "reference_claims": []}',
        'entry 1 of "claims" has no "claim"',
    ),
    "neither yes nor no": (
        '{"claims": [{"claim": "a dog", "supported": "partly"}], "reference_claims": []}',
        '"supported" of entry 1 of "claims" is "partly"',
    ),
    "one twice": (
        '{"claims": [{"claim": "a dog", "supported": "yes"}, {"claim": " A  dog", "supported":'
        ' "yes"}], "reference_claims": []}',
        "entry 2 of .claims. is there twice",
    ),
    "a reference without claims": (reply("y", ""), "its reference_claims is empty"),
    "all covered by nothing": (reply("", "y"), "covers the reference with no claim"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_count_is_not_read(name: str) -> None:
    protocol = load_protocol("claims")
    text, cause = UNREADABLE[name]
    with pytest.raises(UnreadableError, match=cause):
        protocol.read(text)


def test_flags_may_be_json_booleans_and_the_block_fenced() -> None:
    text = (
        '```json\n{"claims": [{"claim": "a dog", "supported": true}], "reference_claims":'
        ' [{"claim": "a dog", "covered": true}, {"claim": "a boy", "covered": false}]}\n```'
    )
    assert load_protocol("claims").read(text) == Claims(1, 1, 2, 1)


def test_it_is_asked_once_more_and_then_unscored(chat_server: Any) -> None:
    replies = iter(["I would say 7 of 10.", reply("yn", "yn")])
    chat_server.answer = lambda _: next(replies)
    verdict = verdict_of(chat_server)
    assert (verdict.status, verdict.repaired, verdict.score) == ("scored", True, 0.5)
    last = chat_server.requests[-1]["messages"][-1]["content"]
    assert last.startswith("That reply cannot be used: it is not one JSON object.")
    chat_server.answer = lambda _: "I would say 7 of 10."
    other = JudgeItem("2", "t", "v", "Describe it.", REFERENCE, "A dog.")
    verdict = verdict_of(chat_server, other)
    assert (verdict.status, verdict.score, verdict.claims) == ("unscored", None, None)
    assert verdict.reason == "the reply cannot be read: it is not one JSON object"


def test_rules_count_the_facts_of_the_rendered_world() -> None:
    # Stated: a ring, red, small, right. Said: a ring, blue, small, right, then up.
    item = JudgeItem(
        "1",
        "t",
        "v",
        "Describe it.",
        "A small red ring moves to the right.",
        "A small blue ring moves to the right, then up.",
    )
    (verdict,) = open_judge("claim-match", protocol="claims").judge([item])
    assert verdict.claims == Claims(claimed=5, supported=3, expected=4, covered=3)
    assert verdict.score == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    # A ring, red, small are stated; "dog" and "runs" are nothing that this world has.
    item = replace(item, prediction="A dog runs after a small red ring.")
    assert ClaimMatch().mark(item) == Claims(claimed=5, supported=3, expected=4, covered=3)
    assert ClaimMatch().mark(replace(item, prediction="")) == Claims(0, 0, 4, 0)
    (verdict,) = ClaimMatch().judge([JudgeItem("1", "t", "v", "", "A woman cooks.", "A woman.")])
    assert verdict.status == "unscored"
    assert verdict.reason == "the reference states no fact of the rendered world"


def test_a_caption_of_the_world_bears_out_itself() -> None:
    for number, facts in enumerate((8, 13)):
        own = JudgeItem("1", "t", "v", "", WORLD_CAPTIONS[number], WORLD_CAPTIONS[number])
        assert ClaimMatch().mark(own) == Claims(facts, facts, facts, facts)
    # Of one and the other the darkness alone is shared, and no word is foreign to the world.
    other = JudgeItem("1", "t", "v", "", WORLD_CAPTIONS[1], WORLD_CAPTIONS[0])
    assert ClaimMatch().mark(other) == Claims(8, 1, 13, 1)


def test_which_rules_judge_what() -> None:
    assert open_judge("answer-match", protocol="claims").name == "claim-match"
    with pytest.raises(UserError, match="claim-match counts the claims of descriptions"):
        open_judge("claim-match", protocol="official")
    with pytest.raises(UserError, match="knows right and wrong answers only; claims needs openai"):
        open_judge("exact", protocol="claims")
    for aspect in ASPECTS:
        with pytest.raises(UserError, match=f"{aspect} needs openai:NAME"):
            open_judge("answer-match", protocol=aspect)
    with pytest.raises(UserError, match="a panel votes on right or wrong"):
        open_judge("panel:openai:a,openai:b", base_url="http://x/v1", protocol="claims")
    panel = open_judge("panel:openai:a,openai:b", base_url="http://x/v1", protocol="consistency")
    assert (panel.headline, panel.compares_pairs, panel.scale) == ("score", True, (0, 5))
    with pytest.raises(UserError, match="claims protocol shows the judge nothing of the video"):
        load_protocol("claims", sees="frames")


PAIR = JudgeItem(
    "1", "t", "v", "What does the man do?", "He cooks.", "He cooks.", None, None,
    ("What is the man doing?", "He is asleep."),
)  # fmt: skip


def test_two_answers_are_judged_together(chat_server: Any) -> None:
    chat_server.answer = lambda _: '{"explanation": "they differ", "score": 1}'
    verdict = verdict_of(chat_server, PAIR, protocol="consistency")
    assert (verdict.status, verdict.correct, verdict.score) == ("scored", False, 1.0)
    assert material(chat_server.requests[0]) == {
        "question": "What does the man do?",
        "other_question": "What is the man doing?",
        "reference": "He cooks.",
        "answer": "He cooks.",
        "other_answer": "He is asleep.",
    }


def test_a_verdict_on_two_holds_for_both_texts() -> None:
    alone = JudgeItem("1", "t", "v", PAIR.question, PAIR.reference, PAIR.prediction)
    other = ("What is the man doing?", "He is awake.")
    changed = JudgeItem("1", "t", "v", PAIR.question, PAIR.reference, "He cooks.", other=other)
    assert len({alone.hash, PAIR.hash, changed.hash}) == 3
    assert alone.hash == "4d07a8dc06a5a25b"  # as it was before there were pairs


def test_a_long_second_answer_is_cut_and_marked(chat_server: Any) -> None:
    chat_server.answer = lambda _: '{"explanation": "", "score": 0}'
    item = JudgeItem("1", "t", "v", "Q", "R", "short", other=("Q2", "word " * 600))
    verdict = verdict_of(chat_server, item, protocol="consistency")
    assert verdict.judge["answer_cut"] is True
    assert len(material(chat_server.requests[0])["other_answer"].split()) == 512


@pytest.mark.parametrize("name", ASPECTS)
def test_an_aspect_is_scored_from_0_to_5(name: str) -> None:
    protocol = load_protocol(name)
    assert not isinstance(protocol, ClaimsProtocol)
    assert protocol.read('{"explanation": "so", "score": 0}') == (False, 0, "so")
    assert protocol.read('{"explanation": "so", "score": 5}') == (True, 5, "so")
    for wrong in ("6", "-1", "4.8", '"5"', "true"):
        with pytest.raises(UnreadableError):
            protocol.read(f'{{"explanation": "", "score": {wrong}}}')
