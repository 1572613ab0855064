"""A demo's folder without its trainings: real clips, answers written by rule, real judging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_json, write_json, write_jsonl
from sharegptvideo.build import make_pairs, score_candidates
from sharegptvideo.data.load import read_rows
from sharegptvideo.demo.exact_state import (
    ExactStateJudge,
    agreement_on_rewards,
    agreement_on_runs,
)
from sharegptvideo.eval import run_evaluation
from sharegptvideo.judges import open_judge
from sharegptvideo.reports.demo.comparison import compare_models
from sharegptvideo.synthetic import Sizes, build_world

TASKS = ("synthetic_qa", "synthetic_ood_qa")
# A row of a test file -> what a model answers, None where it failed.
Answering = Callable[[Mapping[str, Any]], str | None]


@dataclass(frozen=True)
class MadeDemo:
    """A folder as the demo leaves it, and its summary."""

    folder: Path
    summary: dict[str, Any]

    def rows(self, task: str) -> list[dict[str, Any]]:
        """The questions of a test set."""
        return list(read_rows(task, data_dir=self.folder / "datasets" / "world", split="test"))


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of thirteen clips."""
    out = tmp_path_factory.mktemp("demo") / "world"
    build_world(out, seed=3, sizes=Sizes(train=2, preference=3, test=6, out_of_domain=2), workers=1)
    return out


@pytest.fixture
def make_demo(small_world: Path, tmp_path: Path) -> Callable[..., MadeDemo]:
    """`make_demo(sft=, dpo=)` writes a demo's folder from what the models answer."""

    def make(*, sft: Answering, dpo: Answering) -> MadeDemo:
        folder = tmp_path / "made"
        world = folder / "datasets" / "world"
        world.parent.mkdir(parents=True)
        world.symlink_to(small_world, target_is_directory=True)
        for name, answering in (("sft", sft), ("dpo", dpo)):
            _write_runs(folder, name, answering)
        _write_preferences(folder)
        _write_models(folder)
        return MadeDemo(folder, _summary(folder))

    return make


def _write_runs(folder: Path, name: str, answering: Answering) -> None:
    world = folder / "datasets" / "world"
    predictions = folder / f"{name}.jsonl"
    rows = []
    for task in TASKS:
        for row in read_rows(task, data_dir=world, split="test"):
            answer = answering(row)
            said = (
                {"status": "failed", "error": "clip broken"}
                if answer is None
                else {"status": "ok", "prediction": answer}
            )
            rows.append({"id": row["id"], "task": task, **said})
    write_jsonl(predictions, rows)
    for suffix, judge in (("", "answer-match"), ("-exact", ExactStateJudge(world))):
        out = folder / "runs" / f"{name}{suffix}"
        run_evaluation(f"predictions:{predictions}", TASKS, judge, out, data_dir=world)
        # As of the demo's own models: of answers in a file it is not known.
        run = read_json(out / "run.json")
        for task in run["tasks"].values():
            task["frames"] = 8
        write_json(out / "run.json", run)


def _write_preferences(folder: Path) -> None:
    out = folder / "datasets" / "preferences"
    write_jsonl(
        out / "candidates.jsonl",
        [
            {
                **{key: row[key] for key in ("id", "video", "source", "question", "answer")},
                "caption": row["caption"],
                "candidates": [row["answer"], f"{row['answer'][:-1]}, next to a wooden table."] * 3,
                "error": None,
            }
            for row in read_rows("qa", data_dir=folder / "datasets" / "world", split="train")
        ],
    )
    score_candidates(out, open_judge("answer-match"), out)
    write_json(folder / "pairs.json", make_pairs(out, out, seed=0).as_dict())


def _write_models(folder: Path) -> None:
    for stage in ("pretrain", "sft", "dpo"):
        rows: list[dict[str, Any]] = [{"step": step, "loss": 3 / step} for step in (1, 5, 10)]
        if stage == "dpo":
            for row in rows:
                row |= {"rewards/accuracies": 0.8, "rewards/margins": 0.5}
                row |= {"rewards/chosen": 0.2, "rewards/rejected": -0.3}
        write_jsonl(folder / "models" / stage / "log.jsonl", rows)
        write_json(folder / "models" / stage / "run.json", {"versions": {"torch": "2.99.0"}})


def _summary(folder: Path) -> dict[str, Any]:
    from sharegptvideo._io import read_json

    world = folder / "datasets" / "world"
    runs = [folder / "runs" / "sft", folder / "runs" / "dpo"]
    pairs = read_json(folder / "pairs.json")
    found = read_json(world / "world.json")
    training = {"rows": 12, "steps": 10, "loss_first": 3.0, "loss_last": 0.3}
    return {
        "seed": 0,
        "scale": "tiny",
        "seconds": {"world": 1.5, "pretrain": 61.0, "total": 62.5},
        "world": {"faults": found["settings"]["faults"], **found["found"]},
        "model": {"parameters": 1234567, "vocabulary": 600, "video_tokens": 40},
        "training": {"pretrain": training, "sft": training, "dpo": training},
        "pairs": pairs["n_pairs"],
        "pairs_report": pairs,
        "judge_agreement_test": agreement_on_runs(runs, world),
        "judge_agreement_candidates": agreement_on_rewards(
            folder / "datasets" / "preferences", world
        ),
        **compare_models(folder / "runs", world),
    }
