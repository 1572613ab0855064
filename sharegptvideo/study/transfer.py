"""Does a reward for one task carry to another? Captioning, retrieval and question answering.

Three trainings of one model that captions and answers, each with pairs of its own outputs chosen by
one reward; each is then measured on all three tasks, by the exact states of unseen clips.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import plural, points
from sharegptvideo.build import PAIRS_FILE
from sharegptvideo.errors import UserError
from sharegptvideo.eval.hierarchical import SeededScores, conclusion, equivalence
from sharegptvideo.study.arms import Arms, Pairs
from sharegptvideo.study.degraded import Reward
from sharegptvideo.study.experiment import Experiment
from sharegptvideo.study.gains import against_zero, changes, contrast_figures, contrast_sentence
from sharegptvideo.study.kind import Chart, Done, Result, level_nodes
from sharegptvideo.study.loop import (
    answers_node,
    candidates_node,
    changes_of,
    make_node,
    sft_node,
    train,
    world_node,
)
from sharegptvideo.study.node import Findings, Node, Stage, Work
from sharegptvideo.study.scales import StudyScale
from sharegptvideo.synthetic import ClipState
from sharegptvideo.synthetic.facts import (
    Fact,
    caption_facts,
    check_caption,
    clip_facts,
    places,
)

__all__ = ["Transfer"]

Facts = frozenset[Fact]

_PROMPT = "Describe the video in detail."
_LIKELIEST = 1e-6
"""As top-p: so small a share of the probability has one token, the likeliest."""

_TOKENS = 96
_BOTH = (
    "optimisation.epochs=1",
    "data.name=null",
    "data.mix=[{name: captions, weight: 0.5}, {name: sft, weight: 0.5}]",
)
"""What the recipe of SFT has in place of its own rows, so that a model captions and answers."""

_OUTCOMES = {
    "precision": "captions: claims that are true",
    "recall": "captions: facts that are claimed",
    "f1": "captions: F1 of both",
    "r1": "retrieval: R@1 of a caption among the clips",
    "accuracy": "questions: right answers",
}
_WORK = {name: "answers" if name == "accuracy" else "captions" for name in _OUTCOMES}
"""Which work an outcome is of."""


class Level(StrictModel):
    """What one training is rewarded for.

    Attributes:
        reward: `captioning`: F1 of claims that are true and facts that are claimed; `retrieval`:
            the rank of the caption's clip among all clips for pairs; `questions`: the paper's
            reward, `answer-match` on captions.
        pairs: at most so many pairs, the same number for all rewards.
    """

    reward: Literal["captioning", "retrieval", "questions"]
    pairs: int = Field(default=600, ge=1)


def _captioner(work: Work) -> Findings:
    """Train the SFT model on captions and answers, so that it does both. Settings: seed, changes.

    Parents: world, sft. No row is new to the model, which has unlearnt to caption in SFT.
    """
    world, model = work.inputs["world"], work.inputs["sft"] / "model"
    return train(work, "sft", model=model, data=world, media=world)


def _facts_of(world: Path, split: str) -> dict[str, Facts]:
    """Return the facts of a split's clips, by clip."""
    return {
        row["video"]: clip_facts(ClipState.from_dict(row["state"]))
        for _, row in read_jsonl(world / "states.jsonl")
        if row["split"] == split
    }


def _sample(work: Work, split: str, *, k: int, top_p: float) -> list[dict[str, Any]]:
    """Draw captions of a split's clips; return the rows of `sample_candidates`."""
    from sharegptvideo.build import sample_candidates

    world = work.inputs["world"]
    rows = [
        {
            "id": clip,
            "video": clip,
            "source": "synthetic",
            "question": _PROMPT,
            "answer": "not looked at",
            "caption": None,
            "video_path": str(world / "videos" / f"{clip}.mp4"),
        }
        for clip in _facts_of(world, split)
    ]
    sample_candidates(
        rows,
        work.inputs["model"] / "model",
        work.folder,
        k=k,
        top_p=top_p,
        seed=work.settings["seed"],
        max_new_tokens=work.settings["max_new_tokens"],
        progress=work.progress,
    )
    drawn = [row for _, row in read_jsonl(work.folder / "candidates.jsonl")]
    if failed := next((row for row in drawn if row["error"]), None):
        raise UserError(f"{failed['id']}: {failed['error']}", exit_code=1)
    return drawn


def _caption_candidates(work: Work) -> Findings:
    """Draw captions of the clips for pairs. Settings: seed, k, max_new_tokens.

    Parents: world, model.
    """
    drawn = _sample(work, "preference", k=work.settings["k"], top_p=0.95)
    return {"n": sum(len(row["candidates"]) for row in drawn)}


def _caption_pairs(work: Work) -> Findings:
    """Pair the best with the worst caption of a clip, and the next best with the next worst.

    Settings: seed, reward, count. Parents: world, candidates.
    """
    facts = _facts_of(work.inputs["world"], "preference")
    score = _REWARDS[work.settings["reward"]](facts)
    rows: list[dict[str, Any]] = []
    for _, row in read_jsonl(work.inputs["candidates"] / "candidates.jsonl"):
        scored = {text: score(row["video"], text) for text in row["candidates"] if text.strip()}
        rows += _caption_pairs_of(row, scored, work.settings["seed"])
    draw = random.Random(f"{work.settings['seed']}/pairs")
    if work.settings["count"] < len(rows):
        kept = draw.sample(range(len(rows)), work.settings["count"])
        rows = [rows[place] for place in sorted(kept)]
    write_jsonl(work.folder / "data" / PAIRS_FILE, rows)
    claims = {
        f"{name}_claims": _mean(len(caption_facts(row[name])) for row in rows)
        for name in ("chosen", "rejected")
    }
    scores = {name: _mean(row[f"{name}_score"] for row in rows) for name in ("chosen", "rejected")}
    return {"n_pairs": len(rows), **scores, **claims}


def _caption_pairs_of(
    row: Mapping[str, Any], scored: Mapping[str, float], seed: int
) -> Iterator[dict[str, Any]]:
    """Yield up to two pairs of one clip's captions, of four different ones."""
    texts = sorted(scored)
    random.Random(f"{seed}/{row['id']}").shuffle(texts)  # so that of equal ones any may be taken
    texts.sort(key=lambda text: -scored[text])
    for place in range(min(2, len(texts) // 2)):
        chosen, rejected = texts[place], texts[-1 - place]
        if scored[chosen] > scored[rejected]:
            yield {
                "id": f"{row['id']}-{place}",
                "video": row["video"],
                "source": row["source"],
                "prompt": row["question"],
                "chosen": chosen,
                "rejected": rejected,
                "chosen_score": scored[chosen],
                "rejected_score": scored[rejected],
            }


def _captioning_reward(facts: Mapping[str, Facts]) -> Callable[[str, str], float]:
    return lambda clip, text: check_caption(caption_facts(text), facts[clip]).f1


def _retrieval_reward(facts: Mapping[str, Facts]) -> Callable[[str, str], float]:
    """Return 1 / the rank of the caption's clip, in the middle of those that are level with it."""
    pool, number = list(facts.values()), {clip: place for place, clip in enumerate(facts)}

    def score(clip: str, text: str) -> float:
        above, beside = places(caption_facts(text), number[clip], pool)
        return 1 / (1 + above + (beside - 1) / 2)

    return score


_REWARDS = {"captioning": _captioning_reward, "retrieval": _retrieval_reward}


def _captions(work: Work) -> Findings:
    """Caption unseen clips, and check the captions by the clips' exact states.

    Writes `outcomes.jsonl`: id, video, precision, recall, f1, r1, claims, caption; r1 is the chance
    of finding the clip first among all of these. Settings: seed, max_new_tokens. Parents: world,
    model.
    """
    facts = _facts_of(work.inputs["world"], "test")
    if not (work.inputs["model"] / "model").exists():
        write_jsonl(work.folder / "outcomes.jsonl", [])  # no pair to train on, so no model
        return {"n": 0}
    pool, number = list(facts.values()), {clip: place for place, clip in enumerate(facts)}
    rows = []
    for row in _sample(work, "test", k=1, top_p=_LIKELIEST):
        clip, (caption,) = row["video"], row["candidates"]
        claimed = caption_facts(caption)
        check = check_caption(claimed, facts[clip])
        above, beside = places(claimed, number[clip], pool)
        rows.append(
            {
                "id": clip,
                "video": clip,
                "precision": check.precision,
                "recall": check.recall,
                "f1": check.f1,
                "r1": 0.0 if above else 1 / beside,
                "claims": check.claimed,
                "caption": caption,
            }
        )
    write_jsonl(work.folder / "outcomes.jsonl", sorted(rows, key=lambda row: str(row["id"])))
    figures = ("precision", "recall", "f1", "r1", "claims")
    return {"n": len(rows)} | {
        name: statistics.fmean(row[name] for row in rows) for name in figures
    }


_STAGES = {
    "captioner": Stage(_captioner, seconds=45),
    "caption_candidates": Stage(_caption_candidates, seconds=45),
    "caption_pairs": Stage(_caption_pairs, seconds=2),
    "captions": Stage(_captions, seconds=12),
}


class Transfer:
    """The kind of experiment 6."""

    level = Level
    stages: Mapping[str, Stage] = _STAGES

    def plan(
        self, experiment: Experiment, scale: StudyScale, seeds: Sequence[int]
    ) -> dict[tuple[str, int], dict[str, Node]]:
        """Return by level and seed: pairs, dpo, and the answers and captions before and after."""
        return level_nodes(experiment, Level, seeds, lambda level, seed: _nodes(level, scale, seed))

    def analyse(
        self, experiment: Experiment, done: Mapping[tuple[str, int], Mapping[str, Done]]
    ) -> Result:
        """Return the gains of every training in every outcome; the contrast is on captions' F1."""
        arms = {
            level: {
                seed: nodes
                for (name, seed), nodes in sorted(done.items())
                if name == level and nodes["captions"].findings["n"]
            }
            for level in experiment.levels
        }
        changed = {
            (level, outcome): _change(outcome, arms[level])
            for level in experiment.levels
            for outcome in _OUTCOMES
        }
        table = [_row(level, changed, list(arms[level].values())) for level in experiment.levels]
        seeds = len({seed for _, seed in done})
        contrast = contrast_figures(
            experiment.contrast, {level: changed[level, "f1"] for level in experiment.levels}
        )
        return Result(
            table=table,
            contrast=contrast,
            charts=[
                *(
                    Chart("points", "level", f"gain_{outcome}", "", f"gain in {title}",
                          low=f"low_{outcome}", high=f"high_{outcome}")
                    for outcome, title in _OUTCOMES.items()
                    if outcome in ("f1", "r1", "accuracy")
                ),
                Chart("lines", "recall", "precision", "facts that captions claim, share",
                      "claims of captions that are true, %", series="level"),
            ],
            says=(contrast_sentence(contrast, "gain in F1 of captions"), _carried(table)),
            tables={"outcomes": list(_outcome_rows(experiment, changed))},
            notes=[
                f"{level}: no pair in {seeds - len(each)} of {plural(seeds, 'seed')}"
                for level, each in arms.items()
                if len(each) < seeds
            ],
        )  # fmt: skip


def _nodes(level: Level, scale: StudyScale, seed: int) -> dict[str, Node]:
    """Return what one level needs for one seed."""
    world, sft = world_node(scale, seed), sft_node(scale, seed)
    mixed = make_node(
        "captioner",
        {"seed": seed, "changes": changes_of(scale, "sft", _BOTH)},
        stages=_STAGES,
        world=world,
        sft=sft,
    )
    if level.reward == "questions":
        rewards = make_node(
            "rewards",
            {"seed": seed, "reward": Reward().model_dump(mode="json", exclude_defaults=True)},
            stages=dict(Arms.stages),
            world=world,
            candidates=candidates_node(scale, seed, mixed),
        )
        pairs = make_node(
            "pairs",
            {
                "seed": seed,
                "pairs": Pairs(count=level.pairs).model_dump(mode="json", exclude_defaults=True),
            },
            stages=dict(Arms.stages),
            rewards=rewards,
        )
    else:
        candidates = make_node(
            "caption_candidates",
            {"seed": seed, "k": scale.loop.candidates, "max_new_tokens": _TOKENS},
            stages=_STAGES,
            world=world,
            model=mixed,
        )
        pairs = make_node(
            "caption_pairs",
            {"seed": seed, "reward": level.reward, "count": level.pairs},
            stages=_STAGES,
            world=world,
            candidates=candidates,
        )
    dpo = make_node(
        "dpo",
        {"seed": seed, "changes": changes_of(scale, "dpo"), "clip": "own", "evaluate": None},
        stages=dict(Arms.stages),
        world=world,
        sft=mixed,
        pairs=pairs,
    )

    def captions(model: Node) -> Node:
        settings = {"seed": seed, "max_new_tokens": _TOKENS}
        return make_node("captions", settings, stages=_STAGES, world=world, model=model)

    return {
        "pairs": pairs,
        "dpo": dpo,
        "answers_before": answers_node(scale, seed, mixed),
        "answers": answers_node(scale, seed, dpo),
        "captions_before": captions(mixed),
        "captions": captions(dpo),
    }


def _change(outcome: str, arms: Mapping[int, Mapping[str, Done]]) -> SeededScores:
    """Return what a training changes in an outcome; `arms` by seed."""
    name = _WORK[outcome]
    before = [arm[f"{name}_before"] for arm in arms.values()]
    after = [arm[name] for arm in arms.values()]
    return changes(list(arms), before, after, "right" if outcome == "accuracy" else outcome)


def _estimate(scores: SeededScores) -> dict[str, Any]:
    """Return gain, interval, p-values and what they show."""
    gain = against_zero(scores)
    equal = equivalence(gain)
    low, high = gain.ci95 or (None, None)
    return {
        "gain": gain.value,
        "low": low,
        "high": high,
        "p_value": gain.p_value,
        "p_equivalence": equal.p_value,
        "against_zero": conclusion(gain.p_value, equal.p_value),
    }


def _row(
    level: str,
    changed: Mapping[tuple[str, str], SeededScores],
    arms: Sequence[Mapping[str, Done]],
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "level": level,
        "n_seeds": len(arms),
        "pairs": _mean(arm["pairs"].findings["n_pairs"] for arm in arms),
    }
    for outcome in _OUTCOMES:
        name = _WORK[outcome]
        row[f"{outcome}_before"] = _mean(arm[f"{name}_before"].findings[outcome] for arm in arms)
        row[outcome] = _mean(arm[name].findings[outcome] for arm in arms)
        estimate = _estimate(changed[level, outcome])
        row |= {f"{key}_{outcome}": estimate[key] for key in ("gain", "low", "high")}
    row["claims_before"] = _mean(arm["captions_before"].findings["claims"] for arm in arms)
    row["claims"] = _mean(arm["captions"].findings["claims"] for arm in arms)
    return row


def _outcome_rows(
    experiment: Experiment, changed: Mapping[tuple[str, str], SeededScores]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each training and outcome, with its tests against zero."""
    for level in experiment.levels:
        for outcome, title in _OUTCOMES.items():
            yield {"level": level, "outcome": title, **_estimate(changed[level, outcome])}


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.fmean(known) if known else None


def _carried(table: Sequence[Mapping[str, Any]]) -> str:
    """Say what each training gains in each task."""
    parts = [
        f"{row['level']} gains {points(row['gain_f1'], sign=True)} in captions,"
        f" {points(row['gain_r1'], sign=True)} in R@1 and"
        f" {points(row['gain_accuracy'], sign=True)} in questions"
        for row in table
        if row["gain_f1"] is not None
    ]
    return f"In points, DPO for {'; for '.join(parts)}." if parts else "No level has a gain."
