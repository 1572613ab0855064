"""What a finished training leaves: the model's card, and the model on the Hub."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sharegptvideo._io import dumps, parse_yaml, read_json, read_text, write_text
from sharegptvideo._markdown import fenced, markdown_cell, markdown_code
from sharegptvideo._text import (
    interval,
    number,
    percent,
    plural,
    points,
    rough_duration,
    rounded,
)
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.hub import TEST_REPO, hub_errors, repo_of
from sharegptvideo.errors import UserError
from sharegptvideo.models.checkpoints import ADAPTER_CONFIG, adapter_base
from sharegptvideo.models.convert import ModelParts
from sharegptvideo.training.checks import check_push
from sharegptvideo.training.curves import draw_accuracy, draw_curves
from sharegptvideo.training.launch import processes, save_whole
from sharegptvideo.training.lora import finish_adapters
from sharegptvideo.training.recipes import DpoRecipe, Hub, Lora, Recipe
from sharegptvideo.training.run_dir import read_evaluations

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from sharegptvideo.training.run_dir import TrainingDir, TrainResult

__all__ = ["finish_run", "push_model", "pushed", "save_model", "write_card"]

Row = dict[str, Any]
_ROWS = 12
_SUPERVISED = {"loss": "loss", "mean_token_accuracy": "tokens right", "learning_rate": "rate"}
_PREFERENCES = {
    "loss": "loss",
    "rewards/chosen": "reward chosen",
    "rewards/rejected": "reward rejected",
    "rewards/margins": "margin",
    "rewards/accuracies": "chosen above rejected",
}
_STAGES = {
    "pretrain": "pre-training on captions",
    "sft": "supervised fine-tuning",
    "dpo": "direct preference optimisation",
}


_TITLES = {
    "pretrain": "Pre-training on captions",
    "sft": "Supervised fine-tuning",
    "dpo": "Direct preference optimisation",
}


def save_model(trainer: Any, base: str, lora: Lora | None, folder: Path) -> None:
    """Write the trained model to `folder`: whole, or with `lora.merge: false` its adapters.

    Every process has to call this; the first one writes.

    Args:
        base: the model that the training started from.
    """
    processes().first(lambda: shutil.rmtree(folder, ignore_errors=True))
    save_whole(trainer, folder)
    if not trainer.is_world_process_zero():
        return
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle with local paths
    if lora is not None:
        finish_adapters(base, folder, merge=lora.merge)


def finish_run(state: Any, run: TrainingDir, seconds: float) -> None:
    """Draw the curves, write the card, and mark the run as finished, in the first process.

    Args:
        state: the trainer's, after training.
        seconds: of this sitting, for the record.
    """
    if state.is_world_process_zero:
        # What comes from a checkpoint has its keys in order; the file is the same without a resume.
        log = [dict(sorted(entry.items())) for entry in state.log_history if "loss" in entry]
        draw_curves(log, run.path / "loss.png", title=_TITLES[run.recipe.stage])
        evaluations = read_evaluations(run.path)
        draw_accuracy(evaluations, run.path / "accuracy.png")
        _note_failed(run, evaluations)
        write_card(run, run.staged, log, evaluations, state.global_step, seconds)
        run.finish(log, state.global_step, seconds)
    processes().wait()


def _note_failed(run: TrainingDir, evaluations: Sequence[Row]) -> None:
    """Note how many evaluations are missing from the curve."""
    steps = {row["step"] for row in evaluations}
    failed = sorted({row["step"] for row in evaluations if row["status"] == "failed"})
    if failed:
        run.note(
            f"{len(failed)} of {len(steps)} evaluations failed (at step "
            f"{', '.join(map(str, failed))}) and are missing from the curve; evals.jsonl says why"
        )


def write_card(
    run: TrainingDir,
    staged: Path,
    log: Sequence[Row],
    evaluations: Sequence[Row],
    steps: int,
    seconds: float,
) -> None:
    """Write README.md into `staged`, the folder with the model's files.

    Args:
        log: the logged steps.
        evaluations: rows of evals.jsonl.
        seconds: of this sitting.
    """
    from huggingface_hub import ModelCard, ModelCardData

    recipe, state = run.recipe, run.state
    name = recipe.push_to_hub.repo if recipe.push_to_hub else run.path.resolve().name
    good = [row for row in evaluations if row["status"] == "ok"]
    adapters = (staged / "adapter_config.json").is_file()
    data = ModelCardData(
        base_model=_hub_base(recipe),
        datasets=None if recipe.data.data_dir else _repos(recipe),
        library_name="peft" if adapters else "transformers",
        pipeline_tag="video-text-to-text",
        tags=["video", "sharegptvideo", recipe.stage, *(["lora"] if recipe.lora else [])],
        model_name=name.rpartition("/")[2] if good else None,
        eval_results=[_result(recipe, row) for row in _last(good)] or None,
    )
    total = state.get("seconds", 0.0) + seconds
    titles = _PREFERENCES if isinstance(recipe, DpoRecipe) else _SUPERVISED
    card = ModelCard.from_template(
        data,
        template_str=files("sharegptvideo.training").joinpath("card.md").read_text("utf-8"),
        name=markdown_cell(name.rpartition("/")[2]),
        version=state["versions"].get("sharegptvideo", ""),
        about=_about(recipe),
        facts=_facts(recipe, state, steps, total),
        training=_training(log),
        log_titles=list(titles.values()),
        log_rows=_log_rows(log, list(titles)),
        recipe=fenced(
            yaml.safe_dump(_shareable(recipe), sort_keys=False, allow_unicode=True), "yaml"
        ),
        evaluations=[
            list(map(markdown_cell, _evaluation(row)))
            for task in dict.fromkeys(row["task"] for row in good)
            for row in _some([row for row in good if row["task"] == task])
        ],
        load_command=fenced(_command(name, good)),
        load_code=fenced(_code(name, recipe, adapters=adapters), "python"),
        limitations=list(map(markdown_cell, _limitations(recipe, state, good))),
        made_with=", ".join(f"{k} {v}" for k, v in state["versions"].items())
        + f"; training version {state['training_version']}.",
    )
    write_text(staged / "README.md", str(card))


def _repos(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(repo_of(CONFIGS[part.name]) for part in recipe.data.parts))


def _hub_base(recipe: Recipe) -> str | list[str] | None:
    """Return the starting model's id on the Hub, or where a model of ours was to be pushed."""
    if isinstance(recipe.model, ModelParts):
        parts = recipe.model.model_dump().values()
        return [part for part in parts if not Path(part).exists()] or None
    folder = Path(recipe.model)
    if not folder.exists():
        return recipe.model
    earlier = folder / "recipe.yaml"
    if not earlier.is_file():
        return None
    hub = (parse_yaml(str(earlier), read_text(earlier)) or {}).get("push_to_hub")
    return str(hub["repo"]) if hub else None


def _base_name(recipe: Recipe) -> str:
    if isinstance(recipe.model, ModelParts):
        return " + ".join(map(_model_name, recipe.model.model_dump().values()))
    return _model_name(recipe.model)


def _model_name(model: str) -> str:
    folder = Path(model)
    return folder.resolve().name if folder.exists() else model


def _about(recipe: Recipe) -> str:
    method = _STAGES[recipe.stage]
    if isinstance(recipe, DpoRecipe):
        method += f" (β {number(recipe.dpo.beta)}, loss {markdown_code(recipe.dpo.loss_type)}"
        if recipe.dpo.sft_weight:
            method += f" and {number(recipe.dpo.sft_weight)} × cross-entropy of the chosen answers"
        method += ")"
    how = " with low-rank adapters" if recipe.lora else ""
    return (
        f"A model that answers questions about videos: {markdown_code(_base_name(recipe))} after "
        f"{method}{how} on {markdown_code(str(recipe.data))}."
    )


def _facts(recipe: Recipe, state: Row, steps: int, seconds: float) -> list[tuple[str, str]]:
    o, sitting = recipe.optimisation, state["sittings"][-1]["environment"]
    source = (
        "the release on the Hub" if recipe.data.data_dir is None else _short(recipe.data.data_dir)
    )
    frozen = [part.replace("_", " ") for part, fixed in recipe.freeze if fixed]
    rows = o.per_device_batch_size * o.gradient_accumulation * sitting["processes"]
    spread = "" if sitting["processes"] == 1 else f" on {sitting['processes']} devices"
    weights, rows_read = state["model_sha256"][:12], state["data_sha256"][:12]
    facts = [
        ("starting model", f"{markdown_code(_base_name(recipe))}, weights `{weights}`"),
        (
            "data",
            f"{markdown_code(str(recipe.data))}, split {markdown_code(recipe.data.split)}, from "
            f"{markdown_cell(source)}",
        ),
        ("rows", f"{number(state['rows'])}, `{rows_read}`"),
        ("steps", f"{number(steps)} of {plural(rows, 'row')}{spread}"),
        (
            "learning rate",
            f"{number(o.learning_rate)}, {o.scheduler}, warm-up {number(o.warmup_ratio)}",
        ),
        ("frozen", ", ".join(["image tower", *frozen])),
        ("precision", "bfloat16" if o.bf16 else "float32"),
        ("frames a clip", str(recipe.frames)),
        ("seed", str(recipe.seed)),
        (
            "trained on",
            f"{max(sitting['processes'], 1)} × {sitting['device']}, {rough_duration(seconds)}",
        ),
    ]
    return [(name, text.replace("|", "\\|")) for name, text in facts]  # within code, too


def _training(log: Sequence[Row]) -> str:
    if not log:
        return "No step was logged."
    first, last = log[0], log[-1]
    text = f"The loss went from {number(first['loss'])} to {number(last['loss'])}"
    if "rewards/accuracies" in last:
        text += (
            f", the share of pairs in which the chosen answer has the higher reward to "
            f"{percent(last['rewards/accuracies'])}, the margin to "
            f"{number(last['rewards/margins'])}"
        )
    return f"{text} (means since the line before). All lines are in `log.jsonl`."


def _log_rows(log: Sequence[Row], keys: Sequence[str]) -> list[list[str]]:
    return [
        [number(entry["step"]), rounded(entry.get("epoch", 0))]
        + [number(entry[key]) if key in entry else "" for key in keys]
        for entry in _some(log)
    ]


def _some(rows: Sequence[Row]) -> list[Row]:
    """At most `_ROWS` of them, evenly, the first and the last included."""
    count = min(_ROWS, len(rows))
    places = sorted({round(n * (len(rows) - 1) / max(count - 1, 1)) for n in range(count)})
    return [rows[at] for at in places]


def _evaluation(row: Row) -> list[str]:
    return [
        f"{row['task']} v{row['task_version']}",
        row["judge"],
        number(row["step"]),
        rounded(row["epoch"]),
        points(row["accuracy"]),
        interval(row["ci95"]),
        rounded(row["score"]),
        f"{number(row['n_scored'])} / {number(row['n'])}",
        points(row["coverage"]),
        rounded(row["words"], 1),
    ]


def _last(rows: Sequence[Row]) -> list[Row]:
    return list({row["task"]: row for row in rows if row["accuracy"] is not None}.values())


def _result(recipe: Recipe, row: Row) -> EvalResult:
    from huggingface_hub import EvalResult

    source = recipe.eval.data_dir if recipe.eval else None
    judged = f"judged by {row['judge']}, coverage {percent(row['coverage'])}"
    public = source is None and not row["task"].startswith("synthetic")
    return EvalResult(
        task_type="video-text-to-text",
        dataset_type=TEST_REPO if public else "sharegptvideo",
        dataset_name=f"{row['task']} v{row['task_version']}, a fixed sample",
        dataset_config=row["task"],
        dataset_args={"questions": row["n"], "seed": recipe.eval.seed if recipe.eval else None},
        metric_type="accuracy",
        metric_name=f"accuracy in %, {judged}",
        metric_value=round(100 * row["accuracy"], 2),
    )


def _shareable(recipe: Recipe) -> Row:
    """Return the recipe's settings; folders by their last name, endpoints left out."""
    settings = recipe.model_dump(mode="json", exclude_none=True, exclude={"output"})
    settings["model"] = (
        {name: _model_name(part) for name, part in settings["model"].items()}
        if isinstance(settings["model"], dict)
        else _base_name(recipe)
    )
    places = {"data": ("data_dir", "media"), "eval": ("data_dir", "media", "task_path")}
    places |= {"features": ("folder",), "dpo": ("reference_cache",)}
    for section, keys in places.items():
        for key in keys:
            if section in settings and key in settings[section]:
                settings[section][key] = _short(settings[section][key])
    settings.get("eval", {}).pop("base_url", None)
    return settings


def _short(place: str) -> str:
    return Path(place).name or place


def _command(name: str, rows: Sequence[Row]) -> str:
    task = rows[-1]["task"] if rows else "synthetic_qa"
    words = ["sharegptvideo", "eval", "run", "--model", f"hf:{name}", "--task", task]
    return shlex.join([*words, "--judge", "answer-match", "--out", "RUN"])


def _code(name: str, recipe: Recipe, *, adapters: bool) -> str:
    if adapters:
        return (
            "from peft import PeftModel\n"
            "from transformers import AutoModelForImageTextToText\n\n"
            f"model = AutoModelForImageTextToText.from_pretrained({dumps(_base_name(recipe))})\n"
            f"model = PeftModel.from_pretrained(model, {dumps(name)})"
        )
    return "\n".join(
        [
            "from sharegptvideo.media import sample_frames",
            "from sharegptvideo.models import Request, SamplingParams, open_model",
            "",
            f"model = open_model({dumps(f'hf:{name}')})",
            f'frames, indices = sample_frames("clip.mp4", {recipe.frames})',
            'requests = [Request("What happens?", frames, indices)]',
            "for answer in model.generate(requests, SamplingParams()):",
            "    print(answer.text)",
        ]
    )


def _limitations(recipe: Recipe, state: Row, rows: Sequence[Row]) -> list[str]:
    lines = [
        f"It has learnt from {recipe.frames} frames a clip: what happens between them, and sound, "
        "it does not know.",
        "It can state with confidence what is not in the video.",
    ]
    if isinstance(recipe, DpoRecipe):
        lines.append(
            "The preferences come from a judge, not from people; what the judge likes without "
            "need, such as length, the model may have learnt too."
        )
    if not rows:
        lines.append("It was not evaluated while it was trained.")
    missing, cut = len(state.get("missing", [])), state.get("cut", 0)
    if missing:
        lines.append(f"{plural(missing, 'row')} without a clip: left out.")
    if cut:
        lines.append(
            f"{plural(cut, 'row was', 'rows were')} cut to "
            f"{plural(recipe.optimisation.max_length, 'position')}."
        )
    warned = [one["text"] for one in state.get("warnings", [])]
    lines += [f"Noted in training: {text}." for text in warned if "evaluation at" not in text]
    return lines


_LOCAL = (".*", "run.json", "recipe.yaml", "checkpoints/*", "evaluations/*", "wandb/*")
"""Not pushed: paths of this machine, answers to test sets. The recipe is in the card."""


def push_model(
    folder: str | Path, repo: str, *, private: bool = True, tensorboard: bool = False
) -> str:
    """Push a finished training's model, card, curves and log; return its address on the Hub.

    Args:
        folder: the `output` of a recipe.
        repo: OWNER/NAME; made where it is not there yet, `private` or not.
        tensorboard: the event files too.

    Raises:
        UserError: the folder holds no finished training; no token; the Hub refuses or is out of
            reach, and shows what it showed before.
    """
    from huggingface_hub import HfApi

    root = Path(folder)
    record = root / "run.json"
    if not record.is_file() or read_json(record).get("status") != "finished":
        raise UserError(f"{root}: holds no finished training, so there is nothing to push")
    check_push(Hub(repo=repo, private=private))
    api = HfApi()
    ignored = [*_LOCAL, *([] if tensorboard else ["tensorboard/*"])]
    base = adapter_base(root)
    if base is not None and Path(base).is_dir():  # a path of this machine: its name is enough
        ignored.append(ADAPTER_CONFIG)
    with hub_errors(repo, None, "the model stays where it is, finished"):
        api.create_repo(repo, private=private, exist_ok=True)
        try:
            api.upload_folder(
                repo_id=repo,
                folder_path=root,
                ignore_patterns=ignored,
                commit_message="Model trained with sharegptvideo",
            )
            if ADAPTER_CONFIG in ignored:
                named = {"base_model_name_or_path": Path(str(base)).name}
                config = dumps(read_json(root / ADAPTER_CONFIG) | named)
                api.upload_file(
                    path_or_fileobj=config.encode(), path_in_repo=ADAPTER_CONFIG, repo_id=repo
                )
        except RuntimeError as error:
            # The client wraps what went wrong with a large file.
            if error.__cause__ is None:
                raise
            raise error.__cause__ from None
    return f"{api.endpoint}/{repo}"


def pushed(run: TrainingDir, result: TrainResult) -> TrainResult:
    """Return the result, its model on the Hub where the recipe wants it there and it is not yet.

    Raises:
        UserError: see `push_model`; says how to push again.
    """
    hub, group = run.recipe.push_to_hub, processes()
    if hub is None or not group.is_first:
        return result
    where = {"repo": hub.repo, "weights_sha256": run.state.get("weights_sha256")}
    if run.state.get("pushed_to") == where:
        return result
    try:
        url = push_model(run.path, hub.repo, private=hub.private, tensorboard=hub.tensorboard)
    except UserError as error:
        raise UserError(
            f"{run.path}: the training is finished, but not pushed: {error}; to push it, run the "
            f"same command again, or sharegptvideo.training.push_model({str(run.path)!r}, "
            f"{hub.repo!r})",
            exit_code=1,
        ) from error
    run.keep(pushed=url, pushed_to=where)
    return replace(result, pushed=url)
