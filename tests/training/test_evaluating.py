"""Evaluations during a training: they change nothing, are kept, resumed, and may fail."""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import PrivateAttr

from sharegptvideo._io import read_json, read_jsonl, write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.eval import SampleEvaluation, run_evaluation
from sharegptvideo.models import VideoLlavaModel, answering, load_model
from sharegptvideo.training import DpoRecipe, Recipe, SftRecipe, run_recipe
from sharegptvideo.training.curves import draw_accuracy
from sharegptvideo.training.recipes import Lora
from sharegptvideo.training.run_dir import read_evaluations

if TYPE_CHECKING:
    from tests.conftest import ChatServer
    from tests.support.warm_python import WarmPython

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture
def settings(release: Path, tmp_path: Path) -> SampleEvaluation:
    """The task `colours`: three questions about each of the four clips."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "colours.yaml").write_text(
        "name: colours\ninclude: [grounded]\ntitle: Colours\nversion: 2\nconfig: msvd_qa\n"
        "source: made here\ncitation: none\nframes: 4\nannotations:\n  reader: plain\n"
        "  questions: [colours.jsonl]\n"
    )
    rows = [
        {
            "id": f"{name}{n}",
            "video": f"clip_{name}",
            "question": asked,
            "answer": f"It is {name}.",
        }
        for name in COLOURS
        for n, asked in enumerate(("What colour is it?", f"Is it {name}?", "Is it dark?"))
    ]
    write_jsonl(folder / "colours.jsonl", rows)
    return SampleEvaluation(
        tasks=("colours",),
        every=3,
        samples=8,
        media=str(release),
        task_path=str(folder),
        max_new_tokens=12,
    )


@pytest.fixture(params=["sft", "dpo"])
def recipe(request: pytest.FixtureRequest, change: Callable[..., Any]) -> Recipe:
    """Eight steps with a rate at which answers change, a checkpoint after every second."""
    found: Recipe = request.getfixturevalue(f"{request.param}_recipe")
    rate = {"max_steps": 8, "learning_rate": 3e-3}
    return change(found, save_every=2, optimisation=rate)  # type: ignore[no-any-return]


def with_eval(recipe: Recipe, settings: SampleEvaluation, **changes: Any) -> Recipe:
    update = {"eval": settings.model_copy(update=changes)}
    return recipe.model_copy(update=update | {"output": f"{recipe.output}-eval"})


def weights(recipe: Recipe) -> bytes:
    return (Path(recipe.output) / "model.safetensors").read_bytes()


def steps_of(recipe: Recipe) -> list[int]:
    return [row["step"] for row in read_evaluations(Path(recipe.output))]


class Counting(SampleEvaluation):
    """Counts its evaluations, and is cut off in the one of step 6 after the answers."""

    _done: list[str] = PrivateAttr(default_factory=list)
    _cut: int = PrivateAttr(default=6)

    def evaluate(self, model: Any, out: Path, name: str, progress: Any = None) -> list[Any]:
        rows = super().evaluate(model, out, name, progress)
        self._done.append(name.rpartition(" ")[2])
        if name.endswith(f" {self._cut}"):
            self._cut = -1
            (out / "predictions.jsonl").write_text("of other weights")
            raise KeyboardInterrupt
        return rows


def test_training_goes_on_as_if_there_had_been_no_evaluation(
    recipe: Recipe, settings: SampleEvaluation
) -> None:
    """Weights and log to the bit; the last evaluation is that of the finished model."""
    plain = run_recipe(recipe)
    evaluated = with_eval(recipe, settings)
    assert evaluated.eval is not None
    reported: list[str] = []
    result = run_recipe(evaluated, report=reported.append)
    assert weights(evaluated) == weights(recipe)
    assert [(e["step"], e["loss"]) for e in result.log] == [
        (e["step"], e["loss"]) for e in plain.log
    ]
    rows = read_evaluations(Path(evaluated.output))
    assert [row["step"] for row in rows] == [0, 3, 6, 8]
    assert rows[1]["epoch"] == pytest.approx(result.log[2]["epoch"])
    assert sum("(epoch" in text for text in reported) == 4
    # The same questions to what was saved, by the adapter of the harness.
    again = run_evaluation(
        f"hf:{evaluated.output}",
        ["colours"],
        "answer-match",
        Path(f"{evaluated.output}-again"),
        media=settings.media,
        task_path=settings.task_path,
        limit=8,
        draw=0,
        max_new_tokens=12,
    )["tasks"]["colours"]
    last = rows[-1]
    assert last["accuracy"] == again["accuracy"]["value"] == result.accuracy["colours"]
    assert (last["score"], last["coverage"], last["n"]) == (again["score"]["value"], 1.0, 8)
    live, saved = (
        {row["id"]: row["prediction"] for _, row in read_jsonl(folder / "predictions.jsonl")}
        for folder in (
            Path(evaluated.output) / "evaluations" / "step-000008",
            Path(f"{evaluated.output}-again"),
        )
    )
    assert live == saved
    first = Path(evaluated.output) / "evaluations" / "step-000000" / "predictions.jsonl"
    assert live != {row["id"]: row["prediction"] for _, row in read_jsonl(first)}
    assert (Path(evaluated.output) / "accuracy.png").stat().st_size > 10_000


def test_the_sample_is_drawn_by_its_seed(
    settings: SampleEvaluation, tiny: Path, tmp_path: Path
) -> None:
    asked = {}
    for seed in (0, 0, 1):
        out = tmp_path / f"run{len(asked)}{seed}"
        model = VideoLlavaModel(str(tiny))
        chosen = settings.model_copy(update={"seed": seed, "samples": 5, "max_new_tokens": 2})
        chosen.evaluate(model, out, "x")
        ids = [row["id"] for _, row in read_jsonl(out / "predictions.jsonl")]
        assert len(ids) == 5
        assert ids == sorted(ids, key=lambda i: [COLOURS.index(i[:-1]), i]), "in the file's order"
        assert asked.setdefault(seed, ids) == ids
    assert asked[0] != asked[1]
    assert asked[0] != [f"red{n}" for n in range(3)] + ["green0", "green1"]


def test_a_resumed_training_repeats_no_evaluation_but_the_one_cut_off(
    dpo_recipe: DpoRecipe, settings: SampleEvaluation, change: Callable[..., Any]
) -> None:
    """Cut off in the evaluation of step 6; the training goes on from step 4."""
    recipe = change(dpo_recipe, save_every=2, optimisation={"max_steps": 8})
    whole = with_eval(recipe.model_copy(update={"output": f"{recipe.output}-whole"}), settings)
    cut = with_eval(recipe, settings)
    assert whole.eval is not None
    run_recipe(whole)
    counting = Counting(**whole.eval.model_dump())
    cut = cut.model_copy(update={"eval": counting})
    with pytest.raises(KeyboardInterrupt):
        run_recipe(cut)
    assert counting._done == ["0", "3", "6"]
    assert steps_of(cut) == [0, 3]
    assert run_recipe(cut).resumed_from == 4
    assert counting._done == ["0", "3", "6", "6", "8"]

    def figures(of: Recipe) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in read_evaluations(Path(of.output))
        ]

    assert figures(cut) == figures(whole)
    assert weights(cut) == weights(whole)


def test_a_judge_out_of_reach_costs_evaluations_only(
    sft_recipe: SftRecipe, settings: SampleEvaluation, chat_server: ChatServer
) -> None:
    """It answers the first evaluation, then is gone, then is back for the last."""
    verdict = '{"correct": true, "score": 5, "reason": "as it is"}'
    asked = 0

    def answer(_body: dict[str, Any]) -> str | tuple[int, dict[str, str], str]:
        nonlocal asked
        asked += 1
        return verdict if asked <= 8 else (404, {}, '{"error": {"message": "gone"}}')

    chat_server.answer, chat_server.models = answer, ["judge"]
    recipe = with_eval(sft_recipe, settings, judge="openai:judge", base_url=chat_server.url)
    assert recipe.eval is not None
    reported: list[str] = []
    result = run_recipe(recipe, report=reported.append)
    rows = read_evaluations(Path(recipe.output))
    assert [(row["step"], row["status"]) for row in rows] == [
        (0, "ok"), (3, "failed"), (6, "failed"),
    ]  # fmt: skip
    assert result.steps == 6
    assert result.accuracy == {"colours": 1.0}
    assert "judge" in rows[1]["reason"]
    assert reported[-1] == result.notes[-1]
    assert reported[-1].startswith("2 of 3 evaluations failed (at step 3, 6)")
    assert any(text.startswith("evaluation at step 3 failed: ") for text in result.notes)
    assert read_json(Path(recipe.output) / "run.json")["notes"] == result.notes


def test_an_endpoint_that_refuses_connections(
    sft_recipe: SftRecipe, settings: SampleEvaluation
) -> None:
    with socket.socket() as closed:  # bound and not listening: the port stays refused
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        recipe = with_eval(sft_recipe, settings, judge="openai:judge", base_url=url, every=100)
        assert recipe.eval is not None
        result = run_recipe(recipe)
    assert (result.steps, result.accuracy) == (6, {})
    rows = read_evaluations(Path(recipe.output))
    assert [(row["step"], row["status"]) for row in rows] == [(0, "failed"), (6, "failed")]
    assert not (Path(recipe.output) / "accuracy.png").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("colour",)}, "unknown task 'colour'; did you mean colours"),
        ({"judge": "answer-mtach"}, "unknown judge 'answer-mtach'; did you mean answer-match"),
        ({"judge": "openai:x"}, "OPENAI_BASE_URL"),
        ({"media": None}, "give the folder of its clips as eval.media"),
        ({"media": "nowhere"}, "eval.media nowhere: no such folder; fix the path"),
    ],
)
def test_mistakes_are_found_before_the_first_step(
    changes: dict[str, Any],
    message: str,
    sft_recipe: SftRecipe,
    settings: SampleEvaluation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    recipe = with_eval(sft_recipe, settings, **changes)
    assert recipe.eval is not None
    with pytest.raises(UserError, match=message):
        run_recipe(recipe)
    assert not (Path(recipe.output) / "log.jsonl").exists()


def test_clips_that_are_all_missing(
    sft_recipe: SftRecipe, settings: SampleEvaluation, tmp_path: Path
) -> None:
    recipe = with_eval(sft_recipe, settings, media=str(tmp_path / "tasks"))
    assert recipe.eval is not None
    with pytest.raises(UserError, match="none of its clips is in"):
        run_recipe(recipe)


def test_answering_leaves_a_model_as_it_was(tiny: Path) -> None:
    """Modes of modules, a trainer's forward and all generators, also where answering fails."""
    model = load_model(str(tiny), dtype="float32").train()
    model.model.video_tower.eval()
    modes = [module.training for module in model.modules()]
    trainers: Any = lambda: "TRL's"  # noqa: E731 - what an instance has in place of a method
    model.forward = trainers
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    def answer() -> None:
        with answering(model, str(tiny)) as answerer:
            assert isinstance(answerer, VideoLlavaModel)
            assert answerer.model is model, "no copy"
            assert not any(module.training for module in model.modules())
            random.random()
            np.random.rand()
            torch.rand(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer()
    assert [module.training for module in model.modules()] == modes
    assert model.forward is trainers
    now = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert now == states


def test_adapters_answer_too(
    sft_recipe: SftRecipe, settings: SampleEvaluation, change: Callable[..., Any]
) -> None:
    """The last answers are those of the merged model that is saved."""
    rate = {"learning_rate": 1e-2}
    recipe = change(sft_recipe, optimisation=rate, freeze={"vision_tower": True, "projector": True})
    recipe = recipe.model_copy(update={"lora": Lora(rank=4, alpha=16)})
    recipe = with_eval(recipe, settings, every=100)
    run_recipe(recipe)  # type: ignore[arg-type]  # is there
    folder = Path(recipe.output)
    model = VideoLlavaModel(str(folder))
    recipe.eval.evaluate(model, folder / "again", "merged")  # type: ignore[arg-type]
    first, last, merged = (
        [(row["id"], row["prediction"]) for _, row in read_jsonl(place / "predictions.jsonl")]
        for place in (
            folder / "evaluations" / "step-000000",
            folder / "evaluations" / "step-000006",
            folder / "again",
        )
    )
    assert last == merged != first


def test_curve_of_accuracy_by_hand(tmp_path: Path) -> None:
    """Pixels of the first task's colour, at the height that its accuracy has."""
    from PIL import Image

    def row(step: int, accuracy: float) -> dict[str, Any]:
        return {
            "step": step, "epoch": step / 10, "status": "ok", "task": "t", "judge": "j",
            "accuracy": accuracy, "ci95": [accuracy - 0.1, accuracy + 0.1], "words": 4.0,
        }  # fmt: skip

    def height(rows: list[dict[str, Any]]) -> list[float]:
        draw_accuracy(rows, tmp_path / "a.png")
        picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
        left = picture[: picture.shape[0] * 3 // 4, : picture.shape[1] // 2]
        ys, xs = np.where(np.abs(left - np.array([37, 99, 201])).sum(axis=2) < 12)
        order = np.argsort(xs)
        third = max(len(xs) // 3, 1)
        return [float(-ys[order][:third].mean()), float(-ys[order][-third:].mean())]

    rising, falling = (height([row(0, a), row(10, b)]) for a, b in ((0.2, 0.6), (0.6, 0.2)))
    assert rising[0] < rising[1]
    assert falling[0] > falling[1]
    failed = {"step": 0, "epoch": 0.0, "status": "failed", "task": "t", "judge": "j", "reason": "x"}
    draw_accuracy([failed], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.slow
def test_kill_9_in_a_training_with_evaluations(
    sft_recipe: SftRecipe,
    settings: SampleEvaluation,
    change: Callable[..., Any],
    tmp_path: Path,
    warm_python: WarmPython,
) -> None:
    """The command is killed once step 6 is evaluated; run again it repeats none before that."""
    recipe = with_eval(change(sft_recipe, save_every=2, optimisation={"max_steps": 20}), settings)
    file, evals = tmp_path / "recipe.yaml", Path(recipe.output) / "evals.jsonl"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    command = ["-m", "sharegptvideo", "train", "run", str(file)]
    process = warm_python.start(*command)
    while process.poll() is None and (not evals.exists() or '"step": 6' not in evals.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the training ended before it could be killed"
    before = [line for line in evals.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    again = warm_python.run(*command)
    assert again.returncode == 0, again.stderr
    assert evals.read_bytes().startswith(b"".join(before))
    assert steps_of(recipe) == [0, 3, 6, 9, 12, 15, 18, 20]
    assert "step 0 (epoch" not in again.stderr
    assert "step 20 (epoch" in again.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other processes: the number of threads changes sums
    try:
        plain = recipe.model_copy(update={"eval": None, "output": f"{recipe.output}-plain"})
        run_recipe(plain)
    finally:
        torch.set_num_threads(threads)
    assert weights(plain) == weights(recipe)
