"""The finished model to the Hub, in one commit; a push that failed is done again by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo.errors import UserError
from sharegptvideo.training.checks import check_push
from sharegptvideo.training.scale import processes

if TYPE_CHECKING:
    from sharegptvideo.training.run_dir import RunFolder, TrainResult

__all__ = ["push_model", "pushed"]

_LOCAL = (".*", "run.json", "recipe.yaml", "checkpoints/*", "evaluations/*", "wandb/*")
"""Not pushed: paths of this machine, answers to test sets. The recipe is in the card."""


def push_model(
    folder: str | Path, repo: str, *, private: bool = True, tensorboard: bool = False
) -> str:
    """Push a finished training's model, card, curves and log; gives its address on the Hub.

    Args:
        folder: the `output` of a recipe.
        repo: OWNER/NAME; made where it is not there yet, `private` or not.
        tensorboard: the event files too.

    Raises:
        UserError: the folder holds no finished training; no token; the Hub refuses or is out of
            reach, and shows what it showed before.
    """
    from huggingface_hub import HfApi

    from sharegptvideo._io import read_json
    from sharegptvideo.data.sources.hub import hub_errors
    from sharegptvideo.training.recipe import Hub

    root = Path(folder)
    record = root / "run.json"
    if not record.is_file() or read_json(record).get("status") != "finished":
        raise UserError(f"{root}: holds no finished training, so there is nothing to push")
    check_push(Hub(repo=repo, private=private))
    api = HfApi()
    ignored = [*_LOCAL, *([] if tensorboard else ["tensorboard/*"])]
    with hub_errors(repo, None, "the model stays where it is, finished"):
        api.create_repo(repo, private=private, exist_ok=True)
        try:
            api.upload_folder(
                repo_id=repo,
                folder_path=root,
                ignore_patterns=ignored,
                commit_message="Model trained with sharegptvideo",
            )
        except RuntimeError as error:
            # The client wraps what went wrong with a large file.
            if error.__cause__ is None:
                raise
            raise error.__cause__ from None
    return f"{api.endpoint}/{repo}"


def pushed(run: RunFolder, result: TrainResult) -> TrainResult:
    """The result, its model on the Hub where the recipe wants it there and it is not yet.

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
