"""A judge that reads captions against one that sees frames, on facts that captions have or lack.

The captions are of single pictures: they leave out every motion and every change. The frame judge
is a model of our own that has learnt true answers from the states of training clips: it is shown a
clip and a question, and an answer is right that says the same as its own. A model that is shown the
answer too, and trained to say yes or no, was tried on one seed: it learnt to find invented things,
and said yes to every motion and change (kappa with the truth 0.01 where nothing was invented).
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import points
from sharegptvideo.build import score_candidates
from sharegptvideo.errors import UserError
from sharegptvideo.eval.agreement import kappa
from sharegptvideo.judges.base import ACCEPTABLE, JudgeItem, Mark, RulesJudge
from sharegptvideo.judges.rules.answer_match import mark
from sharegptvideo.study.arms import Arms, Pairs, SftFaults
from sharegptvideo.study.experiment import Experiment
from sharegptvideo.study.gains import against_zero, changes, gain_result
from sharegptvideo.study.kind import Chart, Done, Result, level_nodes
from sharegptvideo.study.loop import (
    answers_node,
    candidates_node,
    changes_of,
    make_node,
    sft_node,
    world_node,
)
from sharegptvideo.study.node import Findings, Node, Stage, Work
from sharegptvideo.study.scales import StudyScale
from sharegptvideo.synthetic import ClipState, check_answer, is_right, load_questions
from sharegptvideo.synthetic.language import still_caption
from sharegptvideo.synthetic.reading import THINGS, read_answer
from sharegptvideo.synthetic.state import stilled

__all__ = ["LEFT_OUT", "CaptionJudge", "FrameJudge", "Verifier"]

LEFT_OUT = ("direction", "order", "change")
"""Kinds of questions about facts that the caption of a single picture leaves out."""

_LIKELIEST = 1e-6
"""As top-p: so small a share of the probability has one token, the likeliest."""

_TRUE = SftFaults(invented_in_context=0, invented_elsewhere=0, yes_to_absent=0, no_to_present=0)


class Level(StrictModel):
    """Which judge gives the reward, and what the questions are about.

    Attributes:
        judge: `caption` or `frame`.
        facts: `kept`: facts that the captions have; `left_out`: motions and changes.
    """

    judge: Literal["caption", "frame"]
    facts: Literal["kept", "left_out"]


class CaptionJudge(RulesJudge):
    """`answer-match` on captions of single pictures, where these say what is asked.

    Where they do not, there is no reference to compare with: an answer that names a thing which the
    caption does not show is wrong, any other one passes.
    """

    name = "caption-of-a-picture"
    version = 1

    def __init__(self, captions: Mapping[str, str], kinds: Mapping[str, str]) -> None:
        """Take captions by clip, and kinds of questions by their ids."""
        self._captions, self._kinds = captions, kinds

    def mark(self, item: JudgeItem) -> Mark:
        """Score one answer."""
        caption = self._captions[item.video]
        if self._kinds[_question_id(item)] not in LEFT_OUT:
            return mark(item.question, item.reference, item.prediction, caption)
        named = _nouns(item.prediction) - _nouns(caption)
        if named:
            return Mark(1, f'names "{min(named)}", which the caption does not show')
        return Mark(3, "the caption does not say")


class FrameJudge(RulesJudge):
    """A model that looks at the clip: right is what says the same as its own answer.

    The comparison is `answer-match`, with the model's answer as reference and as all that is known.
    """

    name = "own-answer"
    version = 1

    def __init__(self, answers: Mapping[str, str]) -> None:
        """Take the model's answers by the ids of the questions."""
        self._answers = answers

    def mark(self, item: JudgeItem) -> Mark:
        """Score one answer; see `RulesJudge.mark`."""
        own = self._answers[_question_id(item)]
        return mark(item.question, own, item.prediction, own)


def _question_id(item: JudgeItem) -> str:
    return item.id.partition("#")[0]  # the answers to a question are numbered


def _nouns(text: str) -> set[str]:
    return {mention.noun for mention in read_answer(text).mentions} - {"object"}


def _verified_rewards(work: Work) -> Findings:
    """Score the candidates of the questions about some facts. Settings: seed, judge, facts.

    Parents: world, candidates and, of the frame judge, verifier.
    """
    from sharegptvideo.demo.exact_state import agreement_on_rewards

    world, settings = work.inputs["world"], work.settings
    kinds = {name: question["kind"] for name, question in load_questions(world).items()}
    asked = [
        row
        for _, row in read_jsonl(work.inputs["candidates"] / "candidates.jsonl")
        if _is_about(kinds[row["id"]], settings["facts"])
    ]
    file = work.folder / "asked.jsonl"
    write_jsonl(file, asked)
    judge: RulesJudge
    if settings["judge"] == "caption":
        judge = CaptionJudge(_picture_captions(world, settings["seed"]), kinds)
    else:
        judge = FrameJudge(_own_answers(work, asked))
    report = score_candidates(file, judge, work.folder, progress=work.progress).as_dict()
    return report | {
        "agreement": agreement_on_rewards(work.folder, world),
        "kappa_of_values": _kappa_of_values(work.folder, load_questions(world)),
    }


def _kappa_of_values(rewards: Path, questions: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return Cohen's kappa with the truth over the answers that name nothing invented.

    What is left to judge are values; each answer counts as often as it was drawn.
    """
    judged, right = [], []
    for _, row in read_jsonl(rewards / "rewards.jsonl"):
        for answer in row["answers"]:
            if answer["score"] is not None and not _nouns(answer["text"]) & set(THINGS):
                times = answer["copies"]
                judged += [float(answer["score"] >= ACCEPTABLE)] * times
                right += [float(is_right(questions[row["id"]], answer["text"]))] * times
    return kappa(np.array(judged), np.array(right))


def _is_about(kind: str, facts: str) -> bool:
    return (kind in LEFT_OUT) == (facts == "left_out")


def _picture_captions(world: Path, seed: int) -> dict[str, str]:
    """Caption each clip as a picture in which nothing moves or changes."""
    return {
        row["video"]: still_caption(
            stilled(ClipState.from_dict(row["state"])), random.Random(f"{seed}/{row['video']}")
        )
        for _, row in read_jsonl(world / "states.jsonl")
    }


def _own_answers(work: Work, asked: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Ask the verifier the questions; return its answers by their ids."""
    from sharegptvideo.build import sample_candidates

    videos, out = work.inputs["world"] / "videos", work.folder / "own"
    sample_candidates(
        [{**row, "video_path": str(videos / f"{row['video']}.mp4")} for row in asked],
        work.inputs["verifier"] / "model",
        out,
        k=1,
        top_p=_LIKELIEST,
        max_new_tokens=work.settings["max_new_tokens"],
        seed=work.settings["seed"],
        progress=work.progress,
    )
    rows = [row for _, row in read_jsonl(out / "candidates.jsonl")]
    if failed := next((row for row in rows if row["error"]), None):
        raise UserError(f"{failed['id']}: {failed['error']}", exit_code=1)
    return {row["id"]: row["candidates"][0] for row in rows}


def _answers_about(work: Work) -> Findings:
    """Keep the outcomes of the questions about some facts, and check values by themselves.

    Adds `value_right` to the rows: right but for invented things. Settings: facts. Parents: world,
    answers.
    """
    questions = load_questions(work.inputs["world"])
    rows = [
        row | {"value_right": _value_right(questions[row["id"]], row["answer"])}
        for _, row in read_jsonl(work.inputs["answers"] / "outcomes.jsonl")
        if _is_about(row["kind"], work.settings["facts"])
    ]
    write_jsonl(work.folder / "outcomes.jsonl", rows)
    shares = {"accuracy": "right", "contradictions": "contradicts", "values": "value_right"}
    return {"n": len(rows)} | {
        name: statistics.fmean(row[column] for row in rows) if rows else None
        for name, column in shares.items()
    }


def _value_right(question: Mapping[str, Any], answer: str | None) -> bool:
    return check_answer(question, answer or "", ignore_things=True).right


_STAGES = {
    "verified_rewards": Stage(_verified_rewards, seconds=12),
    "answers_about": Stage(_answers_about, seconds=2),
}


class Verifier:
    """The kind of experiment 7."""

    level = Level
    stages: Mapping[str, Stage] = _STAGES

    def plan(
        self, experiment: Experiment, scale: StudyScale, seeds: Sequence[int]
    ) -> dict[tuple[str, int], dict[str, Node]]:
        """Return by level and seed: rewards, pairs, dpo, and the answers of sft and dpo.

        Answers are those to questions about the level's facts; names with `other_` are of the rest.
        """
        return level_nodes(experiment, Level, seeds, lambda level, seed: _nodes(level, scale, seed))

    def analyse(
        self, experiment: Experiment, done: Mapping[tuple[str, int], Mapping[str, Done]]
    ) -> Result:
        """Return gains on the facts trained on, the contrast, and the gains on the other facts."""
        levels = {name: Level.model_validate(each) for name, each in experiment.levels.items()}
        about = {
            name: {
                "group": f"{level.judge} judge",
                "x": None,
                "dollars_a_pair": None,
                "after": None,
                "breaks": True,
            }
            for name, level in levels.items()
        }
        result = gain_result(experiment, done, about)
        other = {
            key: {
                **nodes,
                "sft_answers": nodes["other_sft_answers"],
                "answers": nodes["other_answers"],
            }
            for key, nodes in done.items()
        }
        elsewhere = gain_result(experiment, other, about)
        table = [
            row | _values({s: each for (name, s), each in done.items() if name == row["level"]})
            for row in result.table
        ]
        return replace(
            result,
            table=table,
            says=(result.says[0], f"{result.says[1]} {_values_sentence(experiment, table)}"),
            charts=[
                *result.charts,
                Chart("points", "level", "value_gain", "", "gain but for invented things",
                      low="value_low", high="value_high", series="group"),
            ],
            tables={
                "by_kind": result.tables["by_kind"] + elsewhere.tables["by_kind"],
                "other_facts": elsewhere.table,
            },
        )  # fmt: skip


def _values(arms: Mapping[int, Mapping[str, Done]]) -> dict[str, Any]:
    """Return what a level changes in values, invented things left out of account; by seed."""
    trained = {seed: arm for seed, arm in arms.items() if arm["answers"].findings["n"]}
    before = [arm["sft_answers"] for arm in trained.values()]
    after = [arm["answers"] for arm in trained.values()]
    gain = against_zero(changes(list(trained), before, after, "value_right"))
    low, high = gain.ci95 or (None, None)
    return {
        "kappa_of_values": _mean(
            arm["rewards"].findings["kappa_of_values"] for arm in arms.values()
        ),
        "sft_values": _mean(each.findings["values"] for each in before),
        "values": _mean(each.findings["values"] for each in after),
        "value_gain": gain.value,
        "value_low": low,
        "value_high": high,
    }


def _values_sentence(experiment: Experiment, table: Sequence[Mapping[str, Any]]) -> str:
    """Say what the levels compared change where invented things are left out of account."""
    rows = {row["level"]: row for row in table}
    compared = (experiment.contrast.of, experiment.contrast.against or "")
    gains = [
        f"{points(row['value_gain'], sign=True)} ({level})"
        for level, row in ((level, rows[level]) for level in compared if level in rows)
        if row["value_gain"] is not None
    ]
    if not gains:
        return "No level has answers to compare by their values."
    return f"With invented things left out of account the gain is {' and '.join(gains)} points."


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _nodes(level: Level, scale: StudyScale, seed: int) -> dict[str, Node]:
    """Return what one level needs for one seed."""
    world, sft = world_node(scale, seed), sft_node(scale, seed)
    parents = {"world": world, "candidates": candidates_node(scale, seed, sft)}
    settings = {"seed": seed, "judge": level.judge, "facts": level.facts}
    if level.judge == "frame":
        parents["verifier"] = sft_node(scale, seed, _TRUE.model_dump())
        settings["max_new_tokens"] = scale.loop.max_new_tokens
    rewards = make_node(
        "verified_rewards",
        settings,
        stages=_STAGES,
        **parents,
    )
    stages = dict(Arms.stages)
    pairs = make_node(
        "pairs",
        {"seed": seed, "pairs": Pairs().model_dump(mode="json", exclude_defaults=True)},
        stages=stages,
        rewards=rewards,
    )
    dpo = make_node(
        "dpo",
        {"seed": seed, "changes": changes_of(scale, "dpo"), "clip": "own", "evaluate": None},
        stages=stages,
        world=world,
        sft=sft,
        pairs=pairs,
    )
    other = "kept" if level.facts == "left_out" else "left_out"

    def about(facts: str, model: Node) -> Node:
        answers = answers_node(scale, seed, model)
        return make_node(
            "answers_about", {"facts": facts}, stages=_STAGES, world=world, answers=answers
        )

    return {
        "rewards": rewards,
        "pairs": pairs,
        "dpo": dpo,
        "sft_answers": about(level.facts, sft),
        "answers": about(level.facts, dpo),
        "other_sft_answers": about(other, sft),
        "other_answers": about(other, dpo),
    }
