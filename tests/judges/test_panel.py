"""Panels: who decides, what is kept of each member, and that nothing is asked twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.endpoint import EndpointError
from sharegptvideo.errors import UserError
from sharegptvideo.eval import judge_predictions
from sharegptvideo.eval.agreement import fleiss_kappa, member_agreement
from sharegptvideo.judges import Judge, JudgeItem, Panel, Verdict, open_judge

Vote = tuple[bool, float] | None


class Voter(Judge):
    """Says what it is set to by item id; None: no verdict, with a reply if `babbles`."""

    def __init__(
        self, name: str, votes: Mapping[str, Vote], *, babbles: bool = False, gone_at: str = ""
    ) -> None:
        self.name = name
        self.votes = votes
        self.babbles = babbles
        self.gone_at = gone_at
        self.asked: list[str] = []

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "kind": "test"}

    def check(self) -> None:
        """Always there."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        for item in reversed(items):  # any order is allowed
            if item.id == self.gone_at:
                raise EndpointError("the server is gone")
            self.asked.append(item.id)
            vote = self.votes[item.id]
            if vote is None:
                reply = "hm" if self.babbles else None
                yield Verdict(item.id, "unscored", None, None, "it does not say", reply)
            else:
                yield Verdict(item.id, "scored", *vote, "because", "{}", {"model": "m"}, 3)


def items(*names: str) -> list[JudgeItem]:
    return [JudgeItem(name, "t", f"v{name}", "Q?", "ref", "answer", None) for name in names]


def decide(*votes: Vote, babbles: bool = False) -> Verdict:
    panel = Panel([Voter(f"j{n}", {"1": v}, babbles=babbles) for n, v in enumerate(votes)])
    (verdict,) = panel.judge(items("1"))
    return verdict


@pytest.mark.parametrize(
    ("votes", "correct", "score", "reason"),
    [
        ([(True, 5), (True, 4), (False, 1)], True, 10 / 3, "2 of 3 say right"),
        ([(False, 2), (False, 1), (False, 2)], False, 5 / 3, "3 of 3 say wrong"),
        ([(True, 4), (True, 3), None], True, 3.5, "2 of 3 say right"),
        ([(True, 4), (False, 3)], None, None, "no majority: 1 right, 1 wrong"),
        (
            [(True, 4), (False, 3), None],
            None,
            None,
            "no majority: 1 right, 1 wrong, 1 unscored (it does not say)",
        ),
        ([(True, 5), None, None], None, None, "no majority: 1 right, 0 wrong, 2 unscored (it does"
         " not say)"),
    ],
)  # fmt: skip
def test_more_than_half_of_all_members_decide(
    votes: list[Vote], correct: bool | None, score: float | None, reason: str
) -> None:
    verdict = decide(*votes)
    assert verdict.correct is correct
    assert verdict.score == (None if score is None else pytest.approx(score))
    assert verdict.reason == reason
    assert verdict.status == ("unscored" if correct is None else "scored")


def test_every_members_verdict_is_kept() -> None:
    verdict = decide((True, 5.0), (True, 4.0), (False, 1.0))
    members = verdict.judge["members"]
    assert [(m["name"], m["correct"], m["score"]) for m in members] == [
        ("j0", True, 5.0),
        ("j1", True, 4.0),
        ("j2", False, 1.0),
    ]
    assert members[0]["reply"] == "{}"
    assert members[0]["judge"] == {"model": "m"}
    assert verdict.reply == "j0: {}\nj1: {}\nj2: {}"
    assert verdict.tokens == 9


def test_an_undecided_panel_is_asked_again_only_where_a_call_failed() -> None:
    """The runner asks again about unscored items without a reply."""
    assert decide((True, 4), None, None).reply is None
    assert decide((True, 4), None, None, babbles=True).reply == "j0: {}\nj1: hm\nj2: hm"


def test_a_panel_that_is_started_again_asks_only_what_it_lacks(tmp_path: Path) -> None:
    votes: dict[str, Vote] = dict.fromkeys("abcd", (True, 5.0))
    first, gone = Voter("one", votes), Voter("two", votes, gone_at="b")
    panel = Panel([first, gone])
    panel.keep_in(tmp_path / "panel")
    done: list[str] = []
    with pytest.raises(EndpointError, match="gone"):
        done += [verdict.id for verdict in panel.judge(items(*"abcd"))]
    assert gone.asked == ["d", "c"]
    again = [Voter("one", votes), Voter("two", votes)]
    panel = Panel(again)
    panel.keep_in(tmp_path / "panel")
    assert {verdict.id for verdict in panel.judge(items(*"abcd"))} == set("abcd")
    assert again[1].asked == ["b", "a"]
    assert sorted(first.asked + again[0].asked) == list("abcd")


def test_a_changed_answer_and_a_failed_call_are_asked_again(tmp_path: Path) -> None:
    votes: dict[str, Vote] = {"a": (True, 5.0), "b": None, "c": (True, 5.0)}
    for asked in (["c", "b", "a"], ["b", "a"]):
        members = [Voter("one", votes), Voter("two", votes)]
        panel = Panel(members)
        panel.keep_in(tmp_path)
        changed = items("a", "b", "c")
        if asked == ["b", "a"]:
            changed[0] = JudgeItem("a", "t", "va", "Q?", "ref", "another answer", None)
        assert len(list(panel.judge(changed))) == 3
        assert members[0].asked == asked
        assert members[1].asked == asked


def test_what_a_member_passes_over_is_unscored() -> None:
    class Silent(Voter):
        def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
            return iter(()) if items else super().judge(items)

    panel = Panel([Silent("one", {}), Voter("two", {"1": (True, 5)})])
    (verdict,) = panel.judge(items("1"))
    assert verdict.judge["members"][0]["reason"] == "the judge gave no verdict"


def test_no_items_is_no_verdict() -> None:
    assert list(Panel([Voter("one", {}), Voter("two", {})]).judge([])) == []


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("panel:", "got none"),
        ("panel:exact", "two judges or more"),
        ("panel:exact,exact", "each named once"),
        ("panel:exact,panel:exact", "cannot sit in a panel"),
        ("panel:exact,exakt", "did you mean exact"),
    ],
)
def test_panels_that_are_none(spec: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        open_judge(spec)


def test_members_with_different_scales_are_refused_before_anything_is_asked(
    chat_server: Any,
) -> None:
    said = "openai:m gives 0 to 5, answer-match gives 1 to 5"
    with pytest.raises(UserError, match=said) as refused:
        open_judge("panel:openai:m,answer-match", base_url=chat_server.url, protocol="official")
    assert len(str(refused.value).splitlines()) == 1
    grounded = open_judge("panel:openai:m,answer-match", base_url=chat_server.url)
    assert grounded.scale == open_judge("exact").scale == (1, 5)
    one = open_judge("panel:openai:m,openai:n", base_url=chat_server.url, protocol="official")
    assert one.scale == (0, 5)
    assert chat_server.requests == []


def test_a_run_judged_by_a_panel(chat_server: Any, shared_data: Path, tmp_path: Path) -> None:
    """Three models of a server: each asked once an answer, all of it in the run folder."""
    questions = list(_questions(shared_data))[:40]
    answers = [
        {"id": str(row["id"]), "prediction": row["answer"] if number % 2 else "a purple zeppelin"}
        for number, row in enumerate(questions)
    ]
    write_jsonl(tmp_path / "answers.jsonl", answers)

    def answer(body: dict[str, Any]) -> str:
        text = body["messages"][1]["content"]
        right = "purple zeppelin" not in text or body["model"] == "kind"
        return json.dumps({"correct": "yes" if right else "no", "score": 5 if right else 0})

    chat_server.answer, chat_server.models = answer, ["kind", "strict", "stern"]

    def run() -> dict[str, Any]:
        found = judge_predictions(
            tmp_path / "answers.jsonl",
            ["msvd_qa_official"],
            "panel:openai:kind,openai:strict,openai:stern",
            tmp_path / "run",
            data_dir=shared_data / "annotations",
            base_url=chat_server.url,
            limit=len(questions),
        )["tasks"]["msvd_qa_official"]
        assert isinstance(found, dict)
        return found

    figures = run()
    asked = len(chat_server.requests)
    n = figures["n"]
    right = sum(row["prediction"] != "a purple zeppelin" for row in answers[:n])
    assert figures["accuracy"]["value"] == pytest.approx(right / n)
    panel = figures["panel"]
    assert [member["name"] for member in panel["members"]] == [
        "openai:kind",
        "openai:strict",
        "openai:stern",
    ]
    assert panel["members"][0]["n_outvoted"] == n - right
    assert panel["members"][1]["n_outvoted"] == 0
    assert panel["unanimous"] == pytest.approx(right / n)
    row = next(row for _, row in read_jsonl(tmp_path / "run" / "judgements.jsonl"))
    assert len(row["judge"]["members"]) == 3
    judge = read_json(tmp_path / "run" / "run.json")["tasks"]["msvd_qa_official"]["judge"]
    assert judge["protocol"] == "official"
    assert [member["name"] for member in judge["members"]][2] == "openai:stern"
    assert sum(1 for _ in read_jsonl(tmp_path / "run" / "panel" / "1.jsonl")) == n
    (tmp_path / "run" / "judgements.jsonl").unlink()
    assert run() == figures
    assert asked == 3 * n
    assert len(chat_server.requests) == asked  # the members' own verdicts were there


def _questions(shared_data: Path) -> Iterator[dict[str, Any]]:
    from sharegptvideo.eval.tasks import load_questions, load_task

    for question in load_questions(load_task("msvd_qa_official"), shared_data / "annotations"):
        yield {"id": question.id, "answer": question.answer}


def test_the_command_line(small_release: Any, tmp_path: Path) -> None:
    answers = [{"id": f"{clip}_{n}", "prediction": "it is red"} for clip in "abc" for n in (0, 1)]
    write_jsonl(tmp_path / "answers.jsonl", answers)
    command = ["eval", "judge", "--predictions", str(tmp_path / "answers.jsonl"), "--task",
               "msvd_qa", "--data-dir", str(small_release.folder), "--out", str(tmp_path / "run"),
               "--panel", "exact, answer-match"]  # fmt: skip
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0
    figures = read_json(tmp_path / "run" / "results.json")
    assert figures["judge"] == "panel:exact,answer-match"
    # `exact` takes none of the six; `answer-match` takes "it is red" for a_0 and a_1.
    assert figures["tasks"]["msvd_qa"]["panel"]["members"][1]["accuracy"] == pytest.approx(2 / 6)
    assert figures["tasks"]["msvd_qa"]["n_unscored"] == 2
    assert "the panel agrees on 66.7 % of the answers" in ran.stderr
    assert "2 unscored: no majority: 1 right, 1 wrong" in ran.stderr
    ran = CliRunner().invoke(app, [*command, "--judge", "exact"])
    assert ran.exit_code == 2
    assert "--judge and --panel exclude each other" in ran.stderr


def test_fleiss_kappa_by_hand_and_by_statsmodels() -> None:
    """Four items, three raters: agreement 1, 1, 1/3, 1/3; 7 of 12 votes in the first category."""
    counts = [[3, 0], [0, 3], [2, 1], [2, 1]]
    observed, by_chance = (1 + 1 + 1 / 3 + 1 / 3) / 4, (7 / 12) ** 2 + (5 / 12) ** 2
    assert fleiss_kappa(counts) == pytest.approx((observed - by_chance) / (1 - by_chance))
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    draws = np.random.default_rng(1)
    for _ in range(20):
        rights = draws.integers(0, 6, size=30)
        table = np.stack([rights, 5 - rights], axis=1)
        assert fleiss_kappa(table) == pytest.approx(inter_rater.fleiss_kappa(table))
    assert fleiss_kappa([[3, 0], [3, 0]]) is None
    assert fleiss_kappa(np.zeros((0, 2))) is None


def test_agreement_of_the_members_by_hand() -> None:
    """Members a, b, c on four answers; c has no verdict on the last."""
    votes = {
        "1": (True, True, False),
        "2": (False, False, False),
        "3": (True, False, True),
        "4": (True, True, None),
    }
    panel = Panel(
        [
            Voter(name, {key: None if v[n] is None else (v[n], 4.0) for key, v in votes.items()})
            for n, name in enumerate("abc")
        ]
    )
    rows = [
        {"status": v.status, "correct": v.correct, "judge": v.judge}
        for v in panel.judge(items(*votes))
    ]
    found = member_agreement(rows)["panel"]
    assert [m["n_scored"] for m in found["members"]] == [4, 4, 3]
    assert [m["accuracy"] for m in found["members"]] == pytest.approx([3 / 4, 2 / 4, 1 / 3])
    assert [m["n_outvoted"] for m in found["members"]] == [0, 1, 1]
    assert found["n_all_scored"] == 3
    assert found["unanimous"] == pytest.approx(1 / 3)
    # a and b: equal on 3 of 4; both right by chance 3/4 * 2/4, both wrong 1/4 * 2/4.
    pair = found["pairs"][0]
    assert (pair["first"], pair["second"], pair["n"]) == ("a", "b", 4)
    assert pair["agreement"] == pytest.approx(3 / 4)
    assert pair["kappa"] == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))
    assert member_agreement([{"judge": {"model": "m"}}]) == {}
