"""One evaluation: answer the questions of tasks, judge the answers, score the verdicts."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sharegptvideo._concurrency import Progress
from sharegptvideo._runs import check_place
from sharegptvideo.endpoint import EndpointOptions, Estimate
from sharegptvideo.errors import UserError
from sharegptvideo.eval.answer import answer_questions, estimate_answers
from sharegptvideo.eval.judge import estimate_verdicts, judge_answers
from sharegptvideo.eval.run_dir import EvalRunDir, package_versions, recorded_model
from sharegptvideo.eval.score import score_answers, token_usage
from sharegptvideo.eval.tasks import (
    Task,
    check_questions,
    chosen_questions,
    load_questions,
    load_task,
    media_folder,
    named_tasks,
)
from sharegptvideo.judges import JUDGES, Judge, open_judge
from sharegptvideo.judges.protocol import ASPECTS, named_protocol
from sharegptvideo.models import Model, Question, SamplingParams, open_model
from sharegptvideo.models.predictions import PredictionsInfo, PredictionsModel
from sharegptvideo.models.served import Send
from sharegptvideo.models.settings import AnswerSettings

__all__ = ["judge_predictions", "open_judges", "run_evaluation"]

PathLike = str | Path


def run_evaluation(
    model: str | Model,
    tasks: Sequence[str],
    judge: str | Judge | None,
    out: PathLike,
    *,
    data_dir: PathLike | None = None,
    media: PathLike | None = None,
    task_path: PathLike | None = None,
    split: str | None = None,
    limit: int | None = None,
    draw: int | None = None,
    base_url: str | None = None,
    judge_sees: Literal["frames"] | None = None,
    prompt: str | None = None,
    batch_size: int | None = None,
    devices: Sequence[str] | None = None,
    max_new_tokens: int | None = None,
    settings: AnswerSettings | None = None,
    send: Send = "auto",
    endpoint: EndpointOptions | None = None,
    info: PredictionsInfo | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Answer the questions of `tasks` with `model`, judge the answers, and score the verdicts.

    A folder that holds a part of the same run is finished: answers and verdicts that are there
    are kept, failed answers tried again. Nothing is written before all that can be checked
    beforehand has been: names, data, model, judge, endpoint.

    Args:
        model: `hf:PATH_OR_ID`, `predictions:FILE`, `python:module:function` or `openai:NAME`, or
            a `Model` of the caller's.
        tasks: names of tasks, and of groups of them.
        judge: `exact`, `answer-match`, `openai:NAME`, several of them as
            `panel:JUDGE,JUDGE,JUDGE`, or a `Judge` of the caller's. None: each task's own rules
            (`yes-no`, `choice`), for open answers `answer-match`.
        out: the run folder.
        data_dir: see `load_questions`.
        media: folder of the clips; default: `data_dir`, which holds them in a release.
        task_path: a folder with task files of one's own.
        split: another split of the tasks' data than their own, such as "validation".
        limit: ask the first N questions of each task only.
        draw: a seed: `limit` questions at random instead of the first, the same in every run.
        base_url: endpoint of `openai:` models and judges; default `OPENAI_BASE_URL`.
        judge_sees: "frames": an `openai:` judge sees the clip instead of its caption.
        prompt: what `openai:` judges are asked, instead of the tasks' own protocol:
            "caption-grounded", "official", "frames" (the clip and no reference), or a prompt file.
        batch_size: questions that the model answers at once, those about one clip together;
            default: 16, and for a model on a GPU as many as its memory holds.
        devices: for `hf:` models, see `open_model`.
        max_new_tokens: instead of the tasks' own; part of what the run is.
        settings: frames, precision, system text, pixels and decoding, where they are to be other
            than the tasks and the model have them; part of what the run is, which is shown as one
            under other settings. A `Model` takes those of opening by `open_model`.
        send: how `openai:` models are sent frames, see `open_model`; a run that is gone on with
            keeps to what it recorded.
        endpoint: how fast, for how much money and with which cache endpoints are asked.
        info: with `predictions:FILE`, what the file does not say: the key of the answers, and
            whose they are.
        progress: called as `progress(done, total, what)`.

    Returns:
        The contents of results.json; see this package's README.

    Raises:
        UserError: a name, file, folder or endpoint that the user has to fix.
    """
    check_place(Path(out))
    source = _Source.checked(data_dir, media, task_path, limit, draw)
    if batch_size is not None and batch_size < 1:
        raise UserError("batch size must be at least 1")
    settings = _with_limit(settings or AnswerSettings(), max_new_tokens)
    names = named_tasks(tasks, source.task_path)
    chosen = [load_task(name, source.task_path).of_split(split) for name in names]
    if not chosen:
        raise UserError("no task given; `sharegptvideo eval tasks` lists them")
    endpoint = endpoint or EndpointOptions()
    judges = open_judges(judge, chosen, base_url, judge_sees, prompt, endpoint)
    if info not in (None, PredictionsInfo()):
        if not isinstance(model, str) or not model.startswith("predictions:"):
            raise UserError(
                "the answers' key, the model's name, authors and link are for predictions:FILE"
                " (eval judge --predictions FILE)"
            )
        model = PredictionsModel(model.removeprefix("predictions:"), info)
    if isinstance(model, str):
        for task in chosen:  # before what opens a model imports torch, which takes seconds
            check_questions(task, source.data_dir)
        model = open_model(
            model,
            base_url=base_url,
            options=endpoint,
            devices=devices,
            batch_size=batch_size,
            send=send,
            settings=settings,
        )
    else:
        settings.check_obeyed(model, is_open=True)
    _refuse_unscored_options(chosen, model, settings)
    recorded = recorded_model(Path(out))
    if recorded is not None:
        model.go_on(recorded)
    batch_size = max(batch_size or 16, model.width)  # nothing waits for the end of a batch
    plans = [_plan(task, model, judges[task.name], source, settings) for task in chosen]
    remarks = model.check(
        [question for plan in plans for question in plan.questions],
        [question for plan in plans for question in plan.all_questions],
    )
    asked = judge if isinstance(judge, str | None) else judge.name
    spec = asked or ", ".join(dict.fromkeys(each.name for each in judges.values()))
    # Weights may have to be hashed: meanwhile they are loaded, and answers begin.
    about = functools.partial(_settings, model, plans, spec, source)
    with EvalRunDir(Path(out), about) as run:
        if model.needs_frames:
            endpoint.approve(_estimate(plans, model, run))
        for plan in plans:
            answer_questions(
                plan.task,
                plan.questions,
                model,
                run.predictions,
                frames=plan.frames,
                params=plan.params,
                batch_size=batch_size,
                progress=progress,
            )
        _refuse_left_out(model, settings)
        if not model.needs_frames:  # only now it is known what is to be judged
            endpoint.approve(_estimate(plans, model, run))
        run.write_settings()  # a verdict that is paid for must not be held in memory
        for plan in plans:
            judge_answers(
                plan.questions, run.predictions.rows, plan.judge, run.judgements, progress=progress
            )
        return run.write_results(
            {
                plan.task.name: score_answers(
                    plan.questions,
                    run.predictions.rows,
                    run.judgements.rows,
                    plan.judge,
                    plan.task.form,
                )
                | token_usage(plan.questions, run.predictions.rows)
                | remarks.get(plan.task.name, {})
                for plan in plans
            }
        )


def judge_predictions(
    predictions: PathLike,
    tasks: Sequence[str],
    judge: str | Judge | None,
    out: PathLike,
    *,
    data_dir: PathLike | None = None,
    media: PathLike | None = None,
    task_path: PathLike | None = None,
    split: str | None = None,
    limit: int | None = None,
    base_url: str | None = None,
    judge_sees: Literal["frames"] | None = None,
    prompt: str | None = None,
    endpoint: EndpointOptions | None = None,
    info: PredictionsInfo | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a file of predictions (id, prediction, where needed task) and score it.

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
        split=split,
        limit=limit,
        base_url=base_url,
        judge_sees=judge_sees,
        prompt=prompt,
        endpoint=endpoint,
        info=info,
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """Where questions and clips come from, and which of them are asked."""

    data_dir: Path | None
    media: Path | None
    task_path: Path | None
    limit: int | None
    draw: int | None

    @classmethod
    def checked(
        cls,
        data_dir: PathLike | None,
        media: PathLike | None,
        task_path: PathLike | None,
        limit: int | None,
        draw: int | None,
    ) -> _Source:
        """Take what the caller gave.

        Raises:
            UserError: no such folder, or a limit below 1.
        """
        if limit is not None and limit < 1:
            raise UserError(f"limit must be at least 1, got {limit}")
        data, clips, own = (
            None if path is None else Path(path) for path in (data_dir, media, task_path)
        )
        for option, path in (("--data-dir", data), ("--media", clips)):
            if path is not None and not path.exists():
                raise UserError(f"{path}: no such folder; fix {option}")
        return cls(data, clips, own, limit, draw)


@dataclass(frozen=True, slots=True)
class _Plan:
    """One task of a run, with all that is known before the first answer."""

    task: Task
    judge: Judge
    all_questions: list[Question]
    questions: list[Question]
    """Those that are asked."""
    frames: int
    params: SamplingParams
    generation: Mapping[str, float]
    """What was asked for of `params`, its length left aside."""
    sent_as: str | None
    """`{prompt}` with the marks of turns that the model gets around it; None: not asked here."""

    @property
    def limit(self) -> int | None:
        """How many questions are asked, where that is not all of them."""
        return len(self.questions) if len(self.questions) < len(self.all_questions) else None

    def describe(self, model: Model, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return what run.json says of the task, `about` being what it says of the model."""
        judge = self.judge.describe()
        asked: dict[str, Any] = {
            "frames": self.frames,
            "max_new_tokens": self.params.max_new_tokens,
            **({"generation": dict(self.generation)} if self.generation else {}),
        }
        used = model.shown(self.task.name, asked)
        changed = settings_changed(self.task, used, about)
        return {
            "version": self.task.version,
            "config": self.task.config,
            "split": self.task.split,
            "protocol": judge.get("protocol", self.task.protocol),
            "prompt_hash": self.task.prompt_hash,
            "task_hash": self.task.task_hash,
            **used,
            **({"settings_changed": changed} if changed else {}),
            **({"sent_as": self.sent_as} if self.sent_as is not None else {}),
            "limit": self.limit,
            "judge": judge,
        }


def settings_changed(
    task: Task, used: Mapping[str, Any], model: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Return the settings that answers were given under other than the task's: [task's, used].

    Args:
        task: whose answers they are.
        used: what run.json says of the task; what it says of changes already is kept.
        model: what it says of the model.
    """
    own = asdict(SamplingParams()) | {
        "frames": task.frames,
        "max_new_tokens": task.max_new_tokens,
        "seed": None,
    }
    asked = {name: used[name] for name in ("frames", "max_new_tokens")}
    asked |= {name: n for name, n in used.get("generation", {}).items() if name != "seed"}
    asked |= {name: model[name] for name in ("system", "max_pixels") if name in model}
    changed = {
        name: [own.get(name), value]
        for name, value in asked.items()
        if value is not None and value != own.get(name)
    }
    return {**used.get("settings_changed", {}), **changed}


def _with_limit(settings: AnswerSettings, max_new_tokens: int | None) -> AnswerSettings:
    """Return settings with the length of answers among them.

    Raises:
        UserError: another one is there already, or it is below 1.
    """
    if max_new_tokens is None:
        return settings
    there = settings.generation.get("max_new_tokens", max_new_tokens)
    if there != max_new_tokens:
        raise UserError(
            f"max_new_tokens is given twice, as {max_new_tokens} and as {there}; give it once"
        )
    return replace(settings, generation={**settings.generation, "max_new_tokens": max_new_tokens})


def _refuse_left_out(model: Model, settings: AnswerSettings) -> None:
    """Make sure that no setting was left out on the way, as an endpoint may refuse one later.

    Raises:
        UserError: one was.
    """
    lost = sorted(settings.generation.keys() & set(model.refused))
    if lost:
        raise UserError(
            f"model {model.spec}: its endpoint refused {', '.join(lost)} for some answers, which"
            " were given without; leave --generation out and take another --out",
            exit_code=1,
        )


def _plan(
    task: Task, model: Model, judge: Judge, source: _Source, settings: AnswerSettings
) -> _Plan:
    """Load the questions of a task, with their clips where model or judge sees them."""
    media = None
    if model.needs_frames or judge.needs_frames:
        media = media_folder(task, source.data_dir, source.media)
        if media is None:
            seer = f"model {model.spec}" if model.needs_frames else f"judge {judge.name}"
            raise UserError(f"{seer} needs the clips; give their folder with --media")
    questions = load_questions(task, source.data_dir, media)
    if task.choice == "likelihood":  # nothing is generated
        settings = replace(settings, generation={})
    return _Plan(
        task,
        judge,
        questions,
        chosen_questions(questions, source.limit, source.draw),
        frames=settings.frames or model.frames or task.frames,
        params=settings.params(task.max_new_tokens),
        generation={
            name: value for name, value in settings.generation.items() if name != "max_new_tokens"
        },
        sent_as=model.render("{prompt}") if model.needs_frames else None,
    )


def open_judges(
    judge: str | Judge | None,
    tasks: Sequence[Task],
    base_url: str | None = None,
    sees: Literal["frames"] | None = None,
    prompt: str | None = None,
    options: EndpointOptions | None = None,
) -> dict[str, Judge]:
    """Return the judge of each task, checked; tasks of one wording share it.

    For the arguments see `run_evaluation`.

    Raises:
        UserError: no such judge, one that cannot read a task's answers, or an endpoint that does
            not answer.
    """
    if judge is not None and not isinstance(judge, str):
        judge.check()
        return {task.name: judge for task in tasks}
    opened: dict[tuple[str, str, Path | None], Judge] = {}
    judges = {}
    for task in tasks:
        spec = judge or task.own_judge or "answer-match"
        _refuse_other_rules(task, spec)
        wording = (spec, *_wording(task, prompt))
        if wording not in opened:
            opened[wording] = open_judge(
                spec,
                base_url=base_url,
                protocol=wording[1],
                prompt_file=wording[2],
                sees=sees,
                options=options,
            )
        judges[task.name] = opened[wording]
    first = judges[tasks[0].name]
    if prompt is not None and "protocol" not in first.describe():
        raise UserError(f"judge {first.name} is asked with no prompt; --prompt is for openai:NAME")
    # One check is enough: they differ in their prompts only.
    first.check()
    return judges


def _refuse_unscored_options(tasks: Sequence[Task], model: Model, settings: AnswerSettings) -> None:
    """Refuse a model that is to say which option is likeliest, and cannot.

    Settings of decoding are refused where no task has use for them.
    """
    if settings.generation and all(task.choice == "likelihood" for task in tasks):
        raise UserError(
            f"task {tasks[0].name}: the likeliest option is the answer, and nothing is generated;"
            " leave --generation and --max-new-tokens out"
        )
    for task in tasks:
        if task.choice == "likelihood" and model.needs_frames and not model.scores_options:
            raise UserError(
                f"task {task.name}: model {model.spec} gives no likelihoods of options; take a"
                " task by letter, or a model hf:PATH_OR_ID"
            )


def _refuse_other_rules(task: Task, judge: str) -> None:
    """Refuse rules that do not read a task's answers: their figures would say nothing."""
    asked = {name.strip() for name in judge.removeprefix("panel:").split(",")} & set(JUDGES)
    if task.protocol in ASPECTS or (task.form == "description" and not task.own_judge):
        if asked:
            raise UserError(
                f"task {task.name}: judge {min(asked)} does not read {task.protocol}, which needs a"
                " language model; give --judge openai:NAME"
            )
        return
    if task.own_judge:
        wrong = asked - {task.own_judge}
        if task.form == "description":  # these rules go by the name of those for answers too
            wrong -= {"answer-match"}
    else:
        wrong = asked & {"yes-no", "choice", "claim-match"}
    if wrong:
        raise UserError(
            f"task {task.name}: judge {min(wrong)} does not read answers of form {task.form};"
            f" leave --judge out for {task.own_judge or 'answer-match'}, or take openai:NAME"
        )


def _wording(task: Task, prompt: str | None) -> tuple[str, Path | None]:
    """Return the protocol and the prompt file of a task's judge: those of `prompt`, or its own."""
    if prompt is None:
        return task.protocol, task.judge.prompt_file if task.judge else None
    protocol, file = named_protocol(prompt)
    own = ("claims", *ASPECTS)
    if protocol != task.protocol and (protocol in own or task.protocol in own):
        raise UserError(
            f"task {task.name}: its answers are judged under {task.protocol}, and the prompt"
            f" {prompt} is for {protocol}; leave --prompt out"
        )
    if protocol == "caption-grounded" and task.protocol == "official":
        raise UserError(
            f"task {task.name}: its rows have no captions, which the prompt {prompt} shows; take"
            " official or frames"
        )
    return protocol, file


def _estimate(plans: Sequence[_Plan], model: Model, run: EvalRunDir) -> Estimate:
    """Return what is still to be asked and paid for."""
    total = Estimate()
    for plan in plans:
        total += estimate_answers(
            plan.task,
            plan.questions,
            model,
            run.predictions,
            frames=plan.frames,
            params=plan.params,
        )
        total += estimate_verdicts(plan.questions, run.predictions.rows, plan.judge, run.judgements)
    return total


def _settings(model: Model, plans: Sequence[_Plan], judge: str, source: _Source) -> dict[str, Any]:
    """Return the contents of run.json."""
    media = source.media or source.data_dir
    sees = model.needs_frames or any(plan.judge.needs_frames for plan in plans)
    about = {"spec": model.spec, **model.describe()}
    seeds = {} if source.draw is None else {"questions": source.draw}
    params = next((plan.params for plan in plans if not plan.params.greedy), None)
    if params is not None:  # what models say of themselves is how they answer by default
        about |= {"decoding": "sampled", "temperature": params.temperature}
        seeds["answers"] = params.seed
    return {
        "model": about,
        "judge": judge,
        "tasks": {plan.task.name: plan.describe(model, about) for plan in plans},
        "seeds": seeds,
        "data": {
            "data_dir": str(source.data_dir) if source.data_dir else None,
            "media": str(media) if media and sees else None,
            "task_path": str(source.task_path) if source.task_path else None,
            "limit": source.limit,
        },
        "packages": package_versions(),
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
