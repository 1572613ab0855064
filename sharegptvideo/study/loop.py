"""The loop of the paper as pieces of work that experiments share: world, model, trainings, answers.

Every seed has a world and a model of its own. The functions at the end make the nodes; a level of
an experiment changes one of them, and shares all that stands before it with the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.models.tiny import ModelSize
from sharegptvideo.study.node import Findings, Node, Stage, Work, read_done
from sharegptvideo.study.scales import StudyScale
from sharegptvideo.synthetic import (
    Faults,
    Sizes,
    build_world,
    check_answer,
    load_questions,
)
from sharegptvideo.synthetic.world import write_distilled

__all__ = [
    "STAGES",
    "answers_node",
    "candidates_node",
    "evaluations",
    "make_node",
    "pretrain_node",
    "sft_node",
    "start_node",
    "train",
    "world_node",
]

TASK = "synthetic_qa"
BLANK = "blank"
"""The stem of a clip that shows nothing, in every world's folder of clips."""


def _world(work: Work) -> Findings:
    """Render a world. Settings: seed, sizes."""
    report = build_world(
        work.folder,
        seed=work.settings["seed"],
        sizes=Sizes(**work.settings["sizes"]),
        workers=1,  # a study has processes of its own
        progress=work.progress,
    )
    return dict(report["found"])


def _start(work: Work) -> Findings:
    """Draw a model's weights. Settings: seed, size. Parents: world."""
    from sharegptvideo.data.load import read_rows
    from sharegptvideo.models import build_tiny

    world = work.inputs["world"]
    texts: list[str] = []
    for row in read_rows("captions", data_dir=world):
        texts += [row["prompt"], row["caption"]]
    for row in read_rows("sft", data_dir=world):
        texts += [message["content"] for message in row["messages"]]
    build_tiny(
        texts,
        work.folder / "model",
        seed=work.settings["seed"],
        size=ModelSize(**work.settings["size"]),
        architecture="llava_hound",
    )
    return {}


def train(
    work: Work, stage: str, *, model: Path, data: Path, media: Path, changes: Iterable[str] = ()
) -> Findings:
    """Train by the recipe `demo/STAGE` with changes, into the work's `model` folder.

    Args:
        work: whose settings have `seed` and `changes`, `key=value` as `train run` takes them.
        stage: pretrain, sft or dpo.
        model: the model to start from.
        data: the folder of rows.
        media: the folder of clips.
        changes: more changes.

    Returns:
        rows, steps, seconds, loss_first, loss_last and, of DPO, the last logged `rewards/…` and
        `logps/…` figures.
    """
    from sharegptvideo.training import DpoRecipe, load_recipe, run_dpo, run_sft

    settings = (
        f"model={model}",
        f"output={work.folder / 'model'}",
        f"data.data_dir={data}",
        f"data.media={media}",
        f"seed={work.settings['seed']}",
        "report_to=[]",
        "save_every=200",  # a checkpoint costs as much as a step of these models
    )
    recipe = load_recipe(f"demo/{stage}", [*settings, *work.settings["changes"], *changes])
    if isinstance(recipe, DpoRecipe):
        result = run_dpo(recipe, progress=work.progress)
    else:
        result = run_sft(recipe, progress=work.progress)
    first, last = (result.log[0], result.log[-1]) if result.log else ({}, {})
    logged = {
        name: value for name, value in last.items() if name.startswith(("rewards/", "logps/"))
    }
    return {
        "rows": result.rows,
        "steps": result.steps,
        "seconds": result.seconds,
        "loss_first": first.get("loss"),
        "loss_last": last.get("loss"),
        "first_logged": {name: first.get(name) for name in logged},
        "logged": logged,
    }


def _pretrain(work: Work) -> Findings:
    """Train on captions. Settings: seed, changes. Parents: world, start."""
    world = work.inputs["world"]
    return train(work, "pretrain", model=work.inputs["start"] / "model", data=world, media=world)


def _sft(work: Work) -> Findings:
    """Train on distilled answers. Settings: seed, changes, sizes, faults. Parents: world, pretrain.

    With `faults`, the answers are distilled anew, on the same questions about the same clips.
    """
    world, faults, rates = work.inputs["world"], work.settings["faults"], {}
    data = world
    if faults is not None:
        data = work.folder / "data"
        rates = write_distilled(
            data,
            seed=work.settings["seed"],
            sizes=Sizes(**work.settings["sizes"]),
            faults=Faults(**faults),
        )
    model = work.inputs["pretrain"] / "model"
    return train(work, "sft", model=model, data=data, media=world) | {"faults": rates}


def _candidates(work: Work) -> Findings:
    """Draw answers to the questions for pairs. Settings: seed, k, max_new_tokens.

    Parents: world, model.
    """
    from sharegptvideo.build import sample_candidates
    from sharegptvideo.data.load import read_rows

    world = work.inputs["world"]
    rows = read_rows("qa", data_dir=world, split="train", media=world)
    report = sample_candidates(
        rows,
        work.inputs["model"] / "model",
        work.folder,
        k=work.settings["k"],
        seed=work.settings["seed"],
        max_new_tokens=work.settings["max_new_tokens"],
        progress=work.progress,
    )
    return report.as_dict()


def _answers(work: Work) -> Findings:
    """Answer the questions on unseen clips, and check the answers by the clips' exact states.

    Writes `outcomes.jsonl`: id, video, kind, right, contradicts, answer. Settings: batch_size,
    max_new_tokens, step (of a training that was evaluated while it ran; null: its end).
    Parents: world, model.
    """
    from sharegptvideo.demo.exact_state import ExactStateJudge
    from sharegptvideo.eval import run_evaluation

    world, model, at = work.inputs["world"], work.inputs["model"] / "model", work.settings["step"]
    if (trained := read_done(work.inputs["model"])) and trained["findings"].get("rows") == 0:
        write_jsonl(work.folder / "outcomes.jsonl", [])  # nothing to train on, so no model
        return {"n": 0, "accuracy": None, "contradictions": None}
    run = work.folder / "run"
    if at is None:
        run_evaluation(
            f"hf:{model}",
            [TASK],
            ExactStateJudge(world),
            run,
            data_dir=world,
            media=world,
            batch_size=work.settings["batch_size"],
            max_new_tokens=work.settings["max_new_tokens"],
            progress=work.progress,
        )
    else:
        step, status = evaluations(model)[at]
        if status != "ok":
            raise UserError(
                f"{model}: its evaluation at step {step} failed; evals.jsonl says why. Remove"
                f" {model.parent} and run the same command again",
                exit_code=1,
            )
        run = model / "evaluations" / f"step-{step:06d}"
    return write_outcomes(run, world, work.folder / "outcomes.jsonl")


def evaluations(model: Path) -> list[tuple[int, str]]:
    """Return step and status of each evaluation in a training: before it, after each epoch."""
    from sharegptvideo.training.run_dir import read_evaluations

    return [(row["step"], row["status"]) for row in read_evaluations(model)]


def write_outcomes(run: Path, world: Path, out: Path) -> Findings:
    """Check the answers of an evaluation by the exact states, and write a row for each.

    A failed answer counts as wrong.

    Raises:
        UserError: there is no answer.
    """
    questions = load_questions(world)
    rows = []
    for _, row in read_jsonl(run / "predictions.jsonl"):
        question = questions[row["id"]]
        checked = check_answer(question, row["prediction"]) if row["status"] == "ok" else None
        rows.append(
            {
                "id": row["id"],
                "video": row["video"],
                "kind": question["kind"],
                "right": checked is not None and checked.right,
                "contradicts": checked is not None and checked.contradicts,
                "answer": row["prediction"],
            }
        )
    if not rows:
        raise UserError(f"{run}: no answers")
    rows.sort(key=lambda row: str(row["id"]))
    write_jsonl(out, rows)
    return {
        "n": len(rows),
        "accuracy": sum(row["right"] for row in rows) / len(rows),
        "contradictions": sum(row["contradicts"] for row in rows) / len(rows),
    }


STAGES = {
    "world": Stage(_world, seconds=40),
    "start": Stage(_start, seconds=5),
    "pretrain": Stage(_pretrain, seconds=240),
    "sft": Stage(_sft, seconds=130),
    "candidates": Stage(_candidates, seconds=20),
    "answers": Stage(_answers, seconds=10),
}


def make_node(
    stage: str, settings: dict[str, Any], *, stages: dict[str, Stage] = STAGES, **parents: Node
) -> Node:
    """Return a node of a stage, with the stage's version."""
    return Node(stage, stages[stage].version, settings, parents)


def world_node(scale: StudyScale, seed: int) -> Node:
    """Return a seed's world."""
    return make_node("world", {"seed": seed, "sizes": asdict(scale.loop.world)})


def start_node(scale: StudyScale, seed: int) -> Node:
    """Return a seed's model before any training."""
    settings = {"seed": seed, "size": asdict(scale.loop.model)}
    return make_node("start", settings, world=world_node(scale, seed))


def changes_of(scale: StudyScale, stage: str, more: Sequence[str] = ()) -> list[str]:
    """Return the changes of a stage's recipe at this scale."""
    return [*scale.loop.overrides.get(stage, ()), *more]


def pretrain_node(scale: StudyScale, seed: int) -> Node:
    """Return a seed's model after the captions."""
    settings = {"seed": seed, "changes": changes_of(scale, "pretrain")}
    start = start_node(scale, seed)
    return make_node("pretrain", settings, world=start.parents["world"], start=start)


def sft_node(scale: StudyScale, seed: int, faults: dict[str, Any] | None = None) -> Node:
    """Return a seed's model after the distilled answers; `faults`: other than the world's."""
    settings = {
        "seed": seed,
        "changes": changes_of(scale, "sft"),
        "sizes": asdict(scale.loop.world),
        "faults": faults,
    }
    before = pretrain_node(scale, seed)
    return make_node("sft", settings, world=before.parents["world"], pretrain=before)


def candidates_node(scale: StudyScale, seed: int, model: Node) -> Node:
    """Return a model's answers to the questions for pairs."""
    settings = {
        "seed": seed,
        "k": scale.loop.candidates,
        "max_new_tokens": scale.loop.max_new_tokens,
    }
    return make_node("candidates", settings, world=world_node(scale, seed), model=model)


def answers_node(scale: StudyScale, seed: int, model: Node, *, step: int | None = None) -> Node:
    """Return a model's answers about unseen clips; `step`: of that evaluation in its training."""
    settings = {
        "batch_size": scale.loop.batch_size,
        "max_new_tokens": scale.loop.max_new_tokens,
        "step": step,
    }
    return make_node("answers", settings, world=world_node(scale, seed), model=model)
