"""Experiments whose levels are DPO trainings of one SFT model: what changes the gain of DPO.

A level's figure is the gain: accuracy of DPO minus accuracy of SFT on the same questions about
unseen clips, by the clips' exact states, never by the judge that gave the reward.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo._strict import StrictModel
from sharegptvideo.build import PAIRS_FILE, make_pairs, score_candidates
from sharegptvideo.build.preferences import pair_of
from sharegptvideo.errors import UserError
from sharegptvideo.study.degraded import DegradedJudge, RandomJudge, Reward
from sharegptvideo.study.experiment import Experiment
from sharegptvideo.study.gains import gain_result
from sharegptvideo.study.kind import Done, Result, level_nodes
from sharegptvideo.study.loop import (
    TASK,
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

__all__ = ["Arms", "Level"]


class Pairs(StrictModel):
    """How pairs are made of rewards.

    Attributes:
        count: so many pairs, drawn by the seed; None: all.
        swap: share of pairs whose chosen and rejected answers change places.
        per_item: at most so many different pairs of one question.
    """

    count: int | None = Field(default=None, ge=1)
    swap: float = Field(default=0.0, ge=0, le=1)
    per_item: int = Field(default=1, ge=1)


class Training(StrictModel):
    """How DPO trains.

    Attributes:
        clip: the question's `own` clip, `another` one, or a `blank` one.
        learning_rate: None: the recipe's, 2e-5.
        beta: None: the recipe's, 0.1.
        sft_weight: of the SFT term in the loss; None: the recipe's, 1.
        after: the model after so many epochs of the recipe's three; None: after all.
    """

    clip: Literal["own", "another", "blank"] = "own"
    learning_rate: float | None = Field(default=None, gt=0)
    beta: float | None = Field(default=None, gt=0)
    sft_weight: float | None = Field(default=None, ge=0)
    after: int | None = Field(default=None, ge=1)


class SftFaults(StrictModel):
    """Rates of faults in the SFT answers, as `synthetic.Faults` has them."""

    invented_in_context: float = Field(ge=0, le=1)
    invented_elsewhere: float = Field(ge=0, le=1)
    yes_to_absent: float = Field(ge=0, le=1)
    no_to_present: float = Field(default=0.05, ge=0, le=1)


class Level(StrictModel):
    """What one level changes; what it does not name is as in the demo.

    Attributes:
        group: levels of one group are drawn as one line.
        x: the level's place on the chart's axis, where it has one.
        dollars_a_pair: what such pairs cost, by the source that the experiment's notes name.
    """

    faults: SftFaults | None = None
    reward: Reward = Reward()
    pairs: Pairs = Pairs()
    training: Training = Training()
    group: str | None = None
    x: float | None = None
    dollars_a_pair: float | None = Field(default=None, ge=0)


def _rewards(work: Work) -> Findings:
    """Score candidates. Settings: seed, reward. Parents: world, candidates."""
    from sharegptvideo.demo.exact_state import ExactStateJudge, agreement_on_rewards
    from sharegptvideo.judges import Judge, open_judge
    from sharegptvideo.study.smollm import smollm_judge

    reward, seed = Reward.model_validate(work.settings["reward"]), work.settings["seed"]
    world, candidates = work.inputs["world"], work.inputs["candidates"]
    measured: Findings = {}
    if reward.items is not None:
        candidates = _drawn(candidates / "candidates.jsonl", work.folder, reward.items, seed)
    captions = {
        row["video"]: row["caption"]
        for _, row in read_jsonl(work.inputs["candidates"] / "candidates.jsonl")
    }

    def score(inner: Judge, reward: Reward = reward, out: Path = work.folder) -> Findings:
        judge = inner
        if reward != Reward(by=reward.by, items=reward.items):
            judge = DegradedJudge(inner, reward, seed, captions)
        return score_candidates(candidates, judge, out, progress=work.progress).as_dict()

    if reward.by == "smollm2":
        asked = Reward(by=reward.by, items=reward.items)
        out = work.folder / "asked" if reward.extended else work.folder
        with smollm_judge() as inner:
            report = score(inner, asked, out)
        if reward.extended:
            measured = _error_rates(out, world)
            candidates = work.inputs["candidates"]
            report = score(
                ExactStateJudge(world),
                Reward(
                    by="state",
                    right_to_wrong=measured["right_to_wrong"],
                    wrong_to_right=measured["wrong_to_right"],
                ),
            )
    else:
        judges: dict[str, Callable[[], Judge]] = {
            "caption": lambda: open_judge("answer-match"),
            "state": lambda: ExactStateJudge(world),
            "random": lambda: RandomJudge(seed),
        }
        report = score(judges[reward.by]())
    return report | {
        "agreement": agreement_on_rewards(work.folder, world),
        "measured": measured,
    }


def _error_rates(rewards: Path, world: Path) -> Findings:
    """Return how often a judge took right answers for wrong and wrong ones for right.

    Where it has scored none of one kind, the rate there is that over all that it has scored.

    Raises:
        UserError: it has scored no answer at all.
    """
    from sharegptvideo.demo.exact_state import agreement_on_rewards
    from sharegptvideo.judges import ACCEPTABLE
    from sharegptvideo.synthetic import is_right, load_questions

    questions = load_questions(world)
    accepted: dict[bool, list[bool]] = {True: [], False: []}
    for _, row in read_jsonl(rewards / "rewards.jsonl"):
        for answer in row["answers"]:
            if answer["score"] is not None:
                right = is_right(questions[row["id"]], answer["text"])
                accepted[right].append(answer["score"] >= ACCEPTABLE)
    if not any(accepted.values()):
        raise UserError(f"{rewards}: the judge gave no verdict that can be read", exit_code=1)
    taken = [each for verdicts in accepted.values() for each in verdicts]
    of_right, of_wrong = accepted[True] or taken, accepted[False] or taken
    return {
        "n_right": len(accepted[True]),
        "n_wrong": len(accepted[False]),
        "right_to_wrong": 1 - statistics.fmean(of_right),
        "wrong_to_right": statistics.fmean(of_wrong),
        "agreement": agreement_on_rewards(rewards, world),
    }


def _drawn(candidates: Path, out: Path, count: int, seed: int) -> Path:
    """Write the candidates of `count` questions, drawn by the seed, into a file of their own."""
    rows = [row for _, row in read_jsonl(candidates)]
    kept = set(random.Random(seed).sample(range(len(rows)), min(count, len(rows))))
    file = out / "asked.jsonl"
    write_jsonl(file, [row for place, row in enumerate(rows) if place in kept])
    return file


def _pairs(work: Work) -> Findings:
    """Make pairs, perhaps none. Settings: seed, pairs. Parents: rewards."""
    settings, seed = Pairs.model_validate(work.settings["pairs"]), work.settings["seed"]
    report = make_pairs(work.inputs["rewards"], work.folder / "made", seed=seed).as_dict()
    rows = []
    for _, item in read_jsonl(work.inputs["rewards"] / "rewards.jsonl"):
        rows += _pairs_of(item, seed, settings.per_item)
    draw = random.Random(f"{seed}/pairs")
    if settings.count is not None and settings.count < len(rows):
        rows = [rows[place] for place in sorted(draw.sample(range(len(rows)), settings.count))]
    swapped = sum(_swap(row, settings.swap, seed) for row in rows)
    write_jsonl(work.folder / "data" / PAIRS_FILE, rows)
    return {
        "n_pairs": len(rows),
        "asked": settings.count,
        "swapped": swapped,
        "without_pair": report["without_pair"],
        "n_items": report["n_items"],
    }


def _pairs_of(item: dict[str, Any], seed: int, count: int) -> list[dict[str, Any]]:
    """Return up to `count` different pairs of an item; the first is what `make_pairs` draws."""
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for draw in range(count * 4 if count > 1 else 1):
        pair = pair_of(item, seed=seed + 1_000_003 * draw)
        if isinstance(pair, str):
            return []
        pairs.setdefault((pair["chosen"], pair["rejected"]), pair)
    kept = list(pairs.values())[:count]
    return [
        {**pair, "id": pair["id"] if place == 0 else f"{pair['id']}-{place}"}
        for place, pair in enumerate(kept)
    ]


def _swap(row: dict[str, Any], rate: float, seed: int) -> bool:
    if random.Random(f"{seed}/swap/{row['id']}").random() >= rate:
        return False
    for name in ("{}", "{}_score"):
        chosen, rejected = name.format("chosen"), name.format("rejected")
        row[chosen], row[rejected] = row[rejected], row[chosen]
    return True


def _dpo(work: Work) -> Findings:
    """Train on pairs. Settings: seed, changes, clip, evaluate. Parents: world, sft, pairs.

    With `evaluate` (batch size and new tokens), all test questions are answered before the first
    step and after each epoch. Without any pair there is no training and no model.
    """
    import math

    world, data = work.inputs["world"], work.inputs["pairs"] / "data"
    pairs = sum(1 for _ in read_jsonl(data / PAIRS_FILE))
    if not pairs:
        return {"rows": 0}
    model = work.inputs["sft"] / "model"
    # What the frozen tower and projector make of a clip is the same for all arms of one SFT model.
    media, changes = (
        world,
        ["features.enabled=true", f"features.folder={model.parent / 'features'}"],
    )
    if work.settings["clip"] != "own":
        data, media = _with_clips(work, data, world)
    if evaluate := work.settings["evaluate"]:
        changes += [
            f"eval.tasks=[{TASK}]",
            f"eval.every={math.ceil(pairs / evaluate['pairs_a_step'])}",
            "eval.samples=1000000",
            f"eval.data_dir={world}",
            f"eval.media={world}",
            f"eval.max_new_tokens={evaluate['max_new_tokens']}",
            f"eval.batch_size={evaluate['batch_size']}",
        ]
    return train(work, "dpo", model=model, data=data, media=media, changes=changes)


def _with_clips(work: Work, data: Path, world: Path) -> tuple[Path, Path]:
    """Write the pairs with other clips; return their folder, and that of the clips."""
    rows = [row for _, row in read_jsonl(data / PAIRS_FILE)]
    media, names = world, {}
    if work.settings["clip"] == "blank":
        media = work.folder / "clips"
        _write_blank(media / "blank.mp4")
    else:
        clips = sorted({row["video"] for row in rows})
        random.Random(work.settings["seed"]).shuffle(clips)
        names = dict(pairwise([*clips, clips[0]]))  # each gets the next, none its own
    changed = work.folder / "data"
    write_jsonl(
        changed / PAIRS_FILE,
        [{**row, "video": names.get(row["video"], "blank")} for row in rows],
    )
    return changed, media


def _write_blank(path: Path) -> None:
    """Write a clip that shows nothing: even grey."""
    import numpy as np

    from sharegptvideo.synthetic.render import FRAMES, SIDE, write_mp4

    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_mp4(np.full((FRAMES, SIDE, SIDE, 3), 128, np.uint8), path)


_STAGES = {
    "rewards": Stage(_rewards, seconds=3),
    "pairs": Stage(_pairs, seconds=1),
    "dpo": Stage(_dpo, seconds=35),
}


class Arms:
    """The kind of experiments 1 to 5."""

    level = Level
    stages: Mapping[str, Stage] = _STAGES

    def plan(
        self, experiment: Experiment, scale: StudyScale, seeds: Sequence[int]
    ) -> dict[tuple[str, int], dict[str, Node]]:
        """Return by level and seed: rewards, pairs, dpo, and the answers of sft and dpo."""
        return level_nodes(
            experiment, Level, seeds, lambda level, seed: arm_nodes(level, scale, seed)
        )

    def analyse(
        self, experiment: Experiment, done: Mapping[tuple[str, int], Mapping[str, Done]]
    ) -> Result:
        """Return gains, the declared contrast and the chart."""
        levels = {name: Level.model_validate(each) for name, each in experiment.levels.items()}
        about = {
            name: {
                "group": level.group,
                "x": level.x,
                "dollars_a_pair": level.dollars_a_pair,
                "after": level.training.after,
                # Where only the reward differs, the gain says what the judge's errors cost.
                "breaks": (level.pairs, level.training, level.faults)
                == (Pairs(), Training(), None),
            }
            for name, level in levels.items()
        }
        return gain_result(experiment, done, about)


def arm_nodes(level: Level, scale: StudyScale, seed: int) -> dict[str, Node]:
    """Return what one level needs for one seed."""
    world = world_node(scale, seed)
    sft = sft_node(scale, seed, level.faults.model_dump() if level.faults else None)
    candidates = candidates_node(scale, seed, sft)
    reward = level.reward
    if reward.items is not None:
        reward = reward.model_copy(update={"items": min(reward.items, scale.judged)})
    rewards = make_node(
        "rewards",
        {"seed": seed, "reward": reward.model_dump(mode="json", exclude_defaults=True)},
        stages=_STAGES,
        world=world,
        candidates=candidates,
    )
    pairs = make_node(
        "pairs",
        {"seed": seed, "pairs": level.pairs.model_dump(mode="json", exclude_defaults=True)},
        stages=_STAGES,
        rewards=rewards,
    )
    training = level.training
    changes = []
    if training.learning_rate is not None:
        changes.append(f"optimisation.learning_rate={training.learning_rate}")
    if training.beta is not None:
        changes.append(f"dpo.beta={training.beta}")
    if training.sft_weight is not None:
        changes.append(f"dpo.sft_weight={training.sft_weight}")
    evaluate = {
        "pairs_a_step": 16,  # of the recipe demo/dpo
        "batch_size": scale.loop.batch_size,
        "max_new_tokens": scale.loop.max_new_tokens,
    }
    dpo = make_node(
        "dpo",
        {
            "seed": seed,
            "changes": changes_of(scale, "dpo", changes),
            "clip": training.clip,
            "evaluate": None if training.after is None else evaluate,
        },
        stages=_STAGES,
        world=world,
        sft=sft,
        pairs=pairs,
    )
    return {
        "rewards": rewards,
        "pairs": pairs,
        "dpo": dpo,
        "sft_answers": answers_node(scale, seed, sft),
        "answers": answers_node(scale, seed, dpo, step=training.after),
    }
