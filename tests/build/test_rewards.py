"""Scoring candidates: once for equal texts, resumable, nothing dropped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import write_jsonl
from sharegptvideo.build import make_pairs, score_candidates
from sharegptvideo.build.rewards import Rewards
from sharegptvideo.build.stage import Context, EngineOptions
from sharegptvideo.cli import app
from sharegptvideo.endpoint import EndpointOptions, Estimate
from sharegptvideo.errors import UserError
from sharegptvideo.judges import (
    AnswerMatch,
    Judge,
    JudgeChoice,
    JudgeItem,
    Verdict,
    verdict_row,
)
from tests.support.batch_server import BatchServer


class ShortIsGood(Judge):
    """Scores by the number of words, backwards, so that order shows; `plan` breaks some."""

    name = "short"

    def __init__(self, plan: dict[str, str] | None = None, stop_after: int | None = None) -> None:
        self.plan = plan or {}
        self.stop_after = stop_after
        self.asked: list[JudgeItem] = []

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}

    def check(self) -> None:
        pass

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        for item in reversed(items):
            if len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(item)
            trouble = self.plan.get(item.prediction)
            if trouble:
                reply = "no idea" if trouble == "unreadable" else None
                yield Verdict(item.id, "unscored", None, None, trouble, reply, {}, 7)
            else:
                score = float(max(1, 6 - len(item.prediction.split())))
                yield Verdict(item.id, "scored", score >= 3, score, "words", None, {}, 10)


def question(name: str, *texts: str, error: str | None = None) -> dict[str, Any]:
    return {
        "id": name,
        "video": f"v{name}",
        "source": "release",
        "question": f"Question {name}?",
        "answer": "A ball.",
        "caption": "A ball rolls.",
        "frame_indices": [0],
        "candidates": list(texts),
        "error": error,
    }


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    rows = [
        question("1", "a ball", "a ball", "a big red ball", "A ball"),
        question("2", "yes", "no it is not"),
        question("3", error="no media found for v3"),
    ]
    write_jsonl(tmp_path / "candidates.jsonl", rows)
    return tmp_path


def rows_of(folder: Path) -> dict[str, Any]:
    lines = (folder / "rewards.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_equal_texts_are_judged_once_and_verdicts_land_on_their_answers(loop: Path) -> None:
    judge = ShortIsGood()
    report = score_candidates(loop, judge, loop)
    assert sorted(item.prediction for item in judge.asked) == [
        "A ball",
        "a ball",
        "a big red ball",
        "no it is not",
        "yes",
    ]
    assert len({item.id for item in judge.asked}) == 5
    rows = rows_of(loop)
    assert [(a["text"], a["copies"], a["score"]) for a in rows["1"]["answers"]] == [
        ("a ball", 2, 4.0),
        ("a big red ball", 1, 2.0),
        ("A ball", 1, 4.0),
    ]
    assert [a["score"] for a in rows["2"]["answers"]] == [5.0, 2.0]
    assert rows["3"]["answers"] == []
    assert rows["3"]["error"] == "no media found for v3"
    assert (report.n_items, report.n_failed, report.n_answers, report.n_distinct) == (3, 1, 6, 5)
    assert (report.n_judged, report.n_scored, report.n_unscored) == (5, 5, 0)
    assert report.mean_score == pytest.approx((4 * 2 + 2 + 4 + 5 + 2) / 6)
    assert report.tokens == 50


def test_judge_gets_caption_question_reference_and_answer(loop: Path) -> None:
    judge = ShortIsGood()
    score_candidates(loop, judge, loop)
    (item,) = (item for item in judge.asked if item.prediction == "yes")
    assert (item.question, item.reference) == ("Question 2?", "A ball.")
    assert (item.caption, item.video) == ("A ball rolls.", "v2")


def test_second_run_asks_nothing(loop: Path) -> None:
    first = score_candidates(loop, ShortIsGood(), loop)
    before = (loop / "rewards.jsonl").read_bytes()
    judge = ShortIsGood()
    second = score_candidates(loop, judge, loop)
    assert judge.asked == []
    assert (loop / "rewards.jsonl").read_bytes() == before
    assert second.as_dict() | {"n_judged": 5} == first.as_dict()


def test_interrupted_run_asks_the_rest_only(loop: Path) -> None:
    """In the middle of the second item, whose first verdict is lost with a judge of the user's."""
    with pytest.raises(KeyboardInterrupt):
        score_candidates(loop, ShortIsGood(stop_after=4), loop)
    with pytest.raises(UserError, match="not finished"):
        make_pairs(loop, loop / "pairs")
    judge = ShortIsGood()
    report = score_candidates(loop, judge, loop)
    assert sorted(item.prediction for item in judge.asked) == ["no it is not", "yes"]
    assert report.n_scored == 5


def test_unscored_stay_and_only_those_without_reply_are_asked_again(loop: Path) -> None:
    plan = {"yes": "unreadable", "no it is not": "endpoint down"}
    report = score_candidates(loop, ShortIsGood(plan), loop)
    assert (report.n_scored, report.n_unscored) == (3, 2)
    assert report.reasons == {"unreadable": 1, "endpoint down": 1}
    judge = ShortIsGood(plan)
    score_candidates(loop, judge, loop)
    assert [item.prediction for item in judge.asked] == ["no it is not"]
    judge = ShortIsGood()
    report = score_candidates(loop, judge, loop)
    assert [item.prediction for item in judge.asked] == ["no it is not"]
    assert (report.n_scored, report.n_unscored, report.n_failed) == (4, 1, 1)


def test_new_candidates_and_texts_are_judged_old_ones_are_not(loop: Path) -> None:
    score_candidates(loop, ShortIsGood(), loop)
    rows = [
        question("1", "a ball", "a cat"),
        question("2", "yes") | {"caption": "Another caption."},
        question("3", "found"),
    ]
    write_jsonl(loop / "candidates.jsonl", rows)
    judge = ShortIsGood()
    report = score_candidates(loop, judge, loop)
    # A new caption is new evidence: "yes" of question 2 is judged again.
    assert sorted(item.prediction for item in judge.asked) == ["a cat", "found", "yes"]
    assert (report.n_failed, report.n_distinct) == (0, 4)


def test_another_judge_is_refused(loop: Path) -> None:
    score_candidates(loop, ShortIsGood(), loop)
    before = (loop / "rewards.jsonl").read_bytes()
    with pytest.raises(UserError, match="other settings"):
        score_candidates(loop, AnswerMatch(), loop)
    assert (loop / "rewards.jsonl").read_bytes() == before


def test_judge_that_forgets_an_item_is_asked_again(loop: Path) -> None:
    class Forgets(ShortIsGood):
        def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
            yield from super().judge(items[1:])

    report = score_candidates(loop, Forgets(), loop)
    assert report.reasons == {"the judge gave no verdict": 2}  # one of each item
    judge = ShortIsGood()
    assert score_candidates(loop, judge, loop).n_unscored == 0
    assert [item.prediction for item in judge.asked] == ["a ball", "yes"]


def test_killed_run_has_every_item_that_was_judged(loop: Path, tmp_path_factory: Any) -> None:
    """What stands on the disk at each verdict is what a kill there would leave."""
    places: list[Path] = []

    class Killed(ShortIsGood):
        def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
            for verdict in super().judge(items):
                yield verdict
                places.append(tmp_path_factory.mktemp("killed") / "loop")
                shutil.copytree(loop, places[-1])

    whole = score_candidates(loop, Killed(), loop)
    for number, place in enumerate(places, start=1):
        judge = ShortIsGood()
        report = score_candidates(place, judge, place)
        assert len(judge.asked) == (5 if number <= 3 else 2)
        assert report.as_dict() | {"n_judged": 5} == whole.as_dict()
        assert rows_of(place) == rows_of(loop)
        assert (place / "rewards.json").read_bytes() == (loop / "rewards.json").read_bytes()
    assert len(places) == 5
    names = {path.name for path in loop.iterdir()}
    assert names == {"candidates.jsonl", "rewards.jsonl", "rewards.json", "sittings.jsonl"}


def test_verdicts_that_an_earlier_version_kept_are_taken_over_where_their_texts_are_the_same(
    loop: Path,
) -> None:
    judge = ShortIsGood()
    score_candidates(loop, judge, loop)
    kept = [
        verdict_row(item, next(ShortIsGood().judge([item])))
        for item in judge.asked
        if item.id.startswith("2#")
    ]
    assert len(kept) == 2
    for name in ("rewards.jsonl", "rewards.json"):
        (loop / name).unlink()
    write_jsonl(loop / "rewards_verdicts.jsonl", kept)
    write_jsonl(loop / "candidates.jsonl", [question("2", "yes it is", "no it is not")])
    judge = ShortIsGood()
    score_candidates(loop, judge, loop)
    assert [item.prediction for item in judge.asked] == ["yes it is"]
    assert not (loop / "rewards_verdicts.jsonl").exists()


def test_rewards_of_a_version_without_provenance_are_gone_on_with(loop: Path) -> None:
    score_candidates(loop, ShortIsGood(), loop)
    rows = [{k: v for k, v in row.items() if k != "made"} for row in rows_of(loop).values()]
    write_jsonl(loop / "rewards.jsonl", rows[:1])
    judge = ShortIsGood()
    assert score_candidates(loop, judge, loop).n_scored == 5
    assert sorted(item.prediction for item in judge.asked) == ["no it is not", "yes"]
    assert rows_of(loop)["1"] == rows[0]
    assert rows_of(loop)["2"]["made"]["parents"] == ["2"]


def test_a_verdict_that_is_asked_again_adds_to_what_its_row_cost(
    loop: Path, chat_server: Any
) -> None:
    """The server fails for one answer of five at first; each reply counts 3 + 7 tokens."""
    chat_server.models = ["j"]
    failing = True

    def answer(body: dict[str, Any]) -> str | tuple[int, dict[str, str], str]:
        text = body["messages"][-1]["content"]
        if failing and "no it is not" in text:
            return 413, {}, json.dumps({"error": {"message": "too long"}})
        return '{"explanation": "as in the caption", "score": 4}'

    chat_server.answer = answer
    judge = JudgeChoice("openai:j", chat_server.url)
    options = EndpointOptions(cache=False)
    report = score_candidates(loop, judge, loop, endpoint=options)
    assert (report.n_scored, report.n_unscored) == (4, 1)
    first = rows_of(loop)["2"]["made"]
    assert (first["requests"], first["tokens"]["completion"]) == (1, 3)
    failing = False
    before = len(chat_server.requests)
    assert score_candidates(loop, judge, loop, endpoint=options).n_scored == 5
    assert len(chat_server.requests) == before + 1
    made = rows_of(loop)["2"]["made"]
    assert (made["requests"], made["attempts"], made["answered_by"]) == (2, 2, ["j-0613"])
    assert made["tokens"] == {"prompt": 14, "cached": None, "completion": 6}
    assert made["prompt_hash"] == first["prompt_hash"] is not None


def test_what_judging_costs_is_approved_before(loop: Path) -> None:
    class Costs(ShortIsGood):
        def estimate(self, items: Iterable[JudgeItem]) -> Estimate:
            return Estimate(requests=len(list(items)), cost=5.0)

    judge = Costs()
    with pytest.raises(UserError, match="above --max-cost"):
        score_candidates(loop, judge, loop, endpoint=EndpointOptions(max_cost=1.0))
    assert not judge.asked
    asked: list[str] = []
    options = EndpointOptions(max_cost=1.0, confirm=lambda line: not asked.append(line))
    assert score_candidates(loop, judge, loop, endpoint=options).n_scored == 5
    assert len(asked) == 1


def test_replies_come_from_the_cache(loop: Path, chat_server: Any, tmp_path: Path) -> None:
    chat_server.models = ["j"]
    chat_server.answer = lambda _: '{"explanation": "as in the caption", "score": 4}'
    words = ["build", "rewards", "--input", str(loop), "--judge", "openai:j", "--json"]
    words += ["--base-url", chat_server.url, "--concurrency", "1"]
    for name, asked in (("one", 5), ("two", 5), ("three", 10)):
        more = ["--no-cache"] if name == "three" else []
        result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / name), *more])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["n_scored"] == 5
        assert len(chat_server.requests) == asked
    assert chat_server.most_at_once == 1


def test_the_command_takes_what_judging_takes(loop: Path) -> None:
    words = ["build", "rewards", "--input", str(loop), "--out", str(loop), "--json"]
    result = CliRunner().invoke(app, [*words, "--panel", "answer-match,exact"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["n_judged"] == 5
    assert not (loop / "rewards_panel").exists()
    words[-2] = str(loop / "by_batch")
    with BatchServer() as server:
        asked = [*words, "--judge", "openai:m", "--base-url", server.url, "--batch-api"]
        result = CliRunner().invoke(app, asked)
        assert [batch["endpoint"] for batch in server.batches.values()] == ["/v1/chat/completions"]
    result = CliRunner().invoke(app, [*words, "--batch-api", "--no-cache"])
    assert "the Batch API keeps track in the cache" in result.output


def test_embedded_judge_tells_right_from_wrong(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "candidates.jsonl", [question("1", "a ball", "a green cat")])
    score_candidates(tmp_path, AnswerMatch(), tmp_path)
    right, wrong = rows_of(tmp_path)["1"]["answers"]
    assert wrong["score"] < 3 <= right["score"]


def test_a_judge_that_is_open_stays_in_its_process(loop: Path, tmp_path: Path) -> None:
    stage = Rewards(AnswerMatch())
    with pytest.raises(UserError, match=r"give JudgeChoice\('answer-match'\)"):
        stage.open(Context(engine=EngineOptions("ray")))
    with pytest.raises(UserError, match="unknown engine 'loca'"):
        score_candidates(loop, AnswerMatch(), tmp_path / "out", engine="loca")


def test_missing_or_empty_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="build candidates"):
        score_candidates(tmp_path, ShortIsGood(), tmp_path / "out")
    (tmp_path / "candidates.jsonl").write_text("")
    with pytest.raises(UserError, match="no candidates"):
        score_candidates(tmp_path, ShortIsGood(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
