"""One evaluation from questions to results.json; every piece is in a module of its own."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sharegptvideo._concurrency import Progress
from sharegptvideo.endpoint import EndpointOptions, Estimate
from sharegptvideo.errors import UserError
from sharegptvideo.eval.answering import answer_questions
from sharegptvideo.eval.costs import estimate_answers, estimate_verdicts
from sharegptvideo.eval.panels import member_agreement
from sharegptvideo.eval.run_dir import RunFolder, package_versions
from sharegptvideo.eval.scoring import score_task
from sharegptvideo.eval.tasks import (
    Task,
    chosen_questions,
    load_questions,
    load_task,
    media_folder,
)
from sharegptvideo.eval.verdicts import judge_answers
from sharegptvideo.judges import Judge, Panel, open_judge, scale_of
from sharegptvideo.models.adapters import Model, open_model
from sharegptvideo.models.types import Question

__all__ = ["judge_predictions", "run_evaluation"]

PathLike = str | Path


@dataclass(frozen=True, slots=True)
class _Plan:
    """One task of a run, with all that is known before the first answer."""

    task: Task
    questions: list[Question]
    judge: Judge
    frames: int
    max_new_tokens: int

    def describe(self) -> dict[str, Any]:
        return {
            "version": self.task.version,
            "config": self.task.config,
            "split": self.task.split,
            "protocol": self.task.protocol,
            "prompt_hash": self.task.prompt_hash,
            "task_hash": self.task.task_hash,
            "frames": self.frames,
            "max_new_tokens": self.max_new_tokens,
            "judge": self.judge.describe(),
        }


def run_evaluation(
    model: str | Model,
    tasks: Sequence[str],
    judge: str | Judge,
    out: PathLike,
    *,
    data_dir: PathLike | None = None,
    media: PathLike | None = None,
    task_path: PathLike | None = None,
    limit: int | None = None,
    draw: int | None = None,
    base_url: str | None = None,
    judge_sees: Literal["frames"] | None = None,
    batch_size: int = 16,
    devices: Sequence[str] | None = None,
    max_new_tokens: int | None = None,
    endpoint: EndpointOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Answer the questions of `tasks` with `model`, have the answers judged, and count.

    A folder that holds a part of the same run is finished: answers and verdicts that are there
    are kept, failed answers tried again. Nothing is written before all that can be checked
    beforehand has been: names, data, model, judge, endpoint.

    Args:
        model: `hf:PATH_OR_ID`, `predictions:FILE`, `python:module:function` or `openai:NAME`, or
            a `Model` of the caller's.
        tasks: names of tasks.
        judge: `exact`, `answer-match`, `openai:NAME`, several of them as
            `panel:JUDGE,JUDGE,JUDGE`, or a `Judge` of the caller's.
        out: the run folder.
        data_dir: see `load_questions`.
        media: folder of the clips; default: `data_dir`, which holds them in a release.
        task_path: a folder with task files of one's own.
        limit: ask the first N questions of each task only.
        draw: a seed: `limit` questions at random instead of the first, the same in every run.
        base_url: endpoint of `openai:` models and judges; default `OPENAI_BASE_URL`.
        judge_sees: "frames": an `openai:` judge sees the clip instead of its caption.
        batch_size: questions that the model answers at once; those about one clip stay together.
        devices: for `hf:` models, see `open_model`.
        max_new_tokens: instead of the tasks' own; part of what the run is.
        endpoint: how fast, for how much money and with which cache endpoints are asked.
        progress: called as `progress(done, total, what)`.

    Returns:
        The contents of results.json; see this package's README.

    Raises:
        UserError: a name, file, folder or endpoint that the user has to mend.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: has to be 1 or more")
    if batch_size < 1 or (max_new_tokens is not None and max_new_tokens < 1):
        raise UserError("batch size and max new tokens have to be 1 or more")
    data = Path(data_dir) if data_dir is not None else None
    clips = Path(media) if media is not None else None
    for option, place in (("--data-dir", data), ("--media", clips)):
        if place is not None and not place.exists():
            raise UserError(f"{place}: no such folder; mend {option}")
    own = Path(task_path) if task_path is not None else None
    wanted = [load_task(name, own) for name in dict.fromkeys(tasks)]
    if not wanted:
        raise UserError("no task given; `sharegptvideo eval tasks` lists them")
    endpoint = endpoint or EndpointOptions()
    if isinstance(model, str) and model.startswith("openai:"):
        # No slot waits for the end of a batch.
        batch_size = max(batch_size, 2 * endpoint.concurrency)
    judges = _judges(judge, wanted, base_url, judge_sees, endpoint)
    answerer = (
        open_model(
            model, base_url=base_url, options=endpoint, devices=devices, batch_size=batch_size
        )
        if isinstance(model, str)
        else model
    )
    every = {
        task.name: load_questions(
            task, data, _clips(answerer, judges[_wording(task)], task, data, clips)
        )
        for task in wanted
    }
    plans = [
        _Plan(
            task,
            chosen_questions(every[task.name], limit, draw),
            judges[_wording(task)],
            answerer.frames or task.frames,
            max_new_tokens or task.max_new_tokens,
        )
        for task in wanted
    ]
    remarks = _check(answerer, plans, every)
    run = _describe(answerer, plans, judge, data=data, clips=clips, own=own, limit=limit, draw=draw)
    with RunFolder(Path(out), run) as folder:
        _answer_all(plans, answerer, folder, endpoint, batch_size, progress)
        _judge_all(plans, folder, progress)
        results = {
            plan.task.name: _results(plan, folder, remarks.get(plan.task.name, {}))
            for plan in plans
        }
        return folder.write_results(results)


def judge_predictions(
    predictions: PathLike,
    tasks: Sequence[str],
    judge: str | Judge,
    out: PathLike,
    *,
    data_dir: PathLike | None = None,
    media: PathLike | None = None,
    task_path: PathLike | None = None,
    limit: int | None = None,
    base_url: str | None = None,
    judge_sees: Literal["frames"] | None = None,
    endpoint: EndpointOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a file of predictions (JSONL: id, prediction, where needed task) and count.

    The same as `run_evaluation` with the model `predictions:FILE`, which says more.
    """
    return run_evaluation(
        f"predictions:{predictions}",
        tasks,
        judge,
        out,
        data_dir=data_dir,
        media=media,
        task_path=task_path,
        limit=limit,
        base_url=base_url,
        judge_sees=judge_sees,
        endpoint=endpoint,
        progress=progress,
    )


_Wording = tuple[str, Path | None]


def _wording(task: Task) -> _Wording:
    """What a judge is told about a task: the protocol, or a file of the task's own."""
    return task.protocol, task.judge.prompt_file if task.judge else None


def _judges(
    judge: str | Judge,
    tasks: Sequence[Task],
    base_url: str | None,
    sees: Literal["frames"] | None,
    options: EndpointOptions,
) -> dict[_Wording, Judge]:
    """The judge of each wording, checked."""
    wordings = [_wording(task) for task in tasks]
    if isinstance(judge, str):
        opened = {
            (protocol, file): open_judge(
                judge,
                base_url=base_url,
                protocol=protocol,
                prompt_file=file,
                sees=sees,
                options=options,
            )
            for protocol, file in wordings
        }
    else:
        opened = dict.fromkeys(wordings, judge)
    # One check is enough: they differ in their prompts only.
    next(iter(opened.values())).check()
    return opened


def _clips(
    model: Model, judge: Judge, task: Task, data: Path | None, media: Path | None
) -> Path | None:
    looks = [f"model {model.spec}"] if model.needs_frames else []
    looks += [f"judge {judge.name}"] if getattr(judge, "needs_frames", False) else []
    if not looks:
        return None
    folder = media_folder(task, data, media)
    if folder is None:
        raise UserError(f"{looks[0]} looks at clips: say where they are with --media")
    return folder


def _check(
    model: Model, plans: Sequence[_Plan], every: Mapping[str, list[Question]]
) -> dict[str, Any]:
    asked = [question for plan in plans for question in plan.questions]
    return model.check(asked, [q for questions in every.values() for q in questions])


def _ahead(model: Model, plans: Sequence[_Plan], folder: RunFolder) -> Estimate:
    """What is still to be asked and paid for."""
    ahead = Estimate()
    for plan in plans:
        ahead += estimate_answers(
            plan.task,
            plan.questions,
            model,
            folder.predictions,
            frames=plan.frames,
            max_new_tokens=plan.max_new_tokens,
        )
        ahead += estimate_verdicts(
            plan.questions, folder.predictions.rows, plan.judge, folder.judgements
        )
    return ahead


def _answer_all(
    plans: Sequence[_Plan],
    model: Model,
    folder: RunFolder,
    endpoint: EndpointOptions,
    batch_size: int,
    progress: Progress | None,
) -> None:
    """Answers to every task; what is ahead is told first, and asked for where it may be dear."""
    if model.needs_frames:  # answers from a file cost nothing, and tell what judging will
        endpoint.approve(_ahead(model, plans, folder))
    for plan in plans:
        answer_questions(
            plan.task,
            plan.questions,
            model,
            folder.predictions,
            frames=plan.frames,
            max_new_tokens=plan.max_new_tokens,
            batch_size=batch_size,
            progress=progress,
        )
    if not model.needs_frames:
        endpoint.approve(_ahead(model, plans, folder))


def _judge_all(plans: Sequence[_Plan], folder: RunFolder, progress: Progress | None) -> None:
    """Verdicts on the answers to every task."""
    for plan in plans:
        if isinstance(plan.judge, Panel):
            plan.judge.keep_in(folder.path / "panel")
        judge_answers(
            plan.questions,
            folder.predictions.rows,
            plan.judge,
            folder.judgements,
            progress=progress,
        )


def _describe(
    model: Model,
    plans: Sequence[_Plan],
    judge: str | Judge,
    *,
    data: Path | None,
    clips: Path | None,
    own: Path | None,
    limit: int | None,
    draw: int | None,
) -> dict[str, Any]:
    looks = model.needs_frames or any(getattr(plan.judge, "needs_frames", False) for plan in plans)
    return {
        "model": {"spec": model.spec, **model.describe()},
        "judge": judge if isinstance(judge, str) else judge.name,
        "tasks": {plan.task.name: plan.describe() for plan in plans},
        # Answers are decoded greedily: no other thing is drawn.
        "seeds": {} if draw is None else {"questions": draw},
        "data": {
            "data_dir": str(data) if data else None,
            "media": str(clips or data) if (clips or data) and looks else None,
            "task_path": str(own) if own else None,
            "limit": limit,
        },
        "packages": package_versions(),
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _results(plan: _Plan, folder: RunFolder, remarks: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one task, and by name what keeps them from being complete."""
    asked = plan.questions
    predictions = {q.id: folder.predictions.rows[q.key] for q in asked}
    judgements = {q.id: folder.judgements.rows[q.key] for q in asked if q.key in folder.judgements}
    reasons = Counter(
        row["reason"]
        for key, row in judgements.items()
        if row["status"] == "unscored" and predictions[key]["status"] == "ok"
    )
    return {
        **score_task(
            [{"id": q.id, "video": q.video} for q in asked],
            predictions,
            judgements,
            lowest_score=scale_of(plan.judge)[0],
        ),
        "unscored": dict(reasons.most_common()),
        "n_repaired": sum(bool(row.get("repaired")) for row in judgements.values()),
        **member_agreement(list(judgements.values())),
        **remarks,
    }
