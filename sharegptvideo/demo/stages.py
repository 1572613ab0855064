"""The steps of the loop, each a function from the demo's folder to its findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._text import interval, magnitude, number, percent, points
from sharegptvideo.demo.scales import DemoScale

__all__ = ["STEPS", "Demo", "Display", "Findings", "Step"]

Findings = dict[str, Any]

TASKS = ("synthetic_qa", "synthetic_ood_qa")


@dataclass(frozen=True, slots=True)
class Demo:
    """Where a demo lives and how large it is; every path of it has a name here."""

    folder: Path
    scale: DemoScale
    seed: int

    @property
    def world(self) -> Path:
        """The folder of clips, captions, questions and exact states."""
        return self.folder / "datasets" / "world"

    @property
    def preferences(self) -> Path:
        """The folder of candidates, rewards and pairs."""
        return self.folder / "datasets" / "preferences"

    def model(self, name: str) -> Path:
        """Return the folder of a checkpoint: start, pretrain, sft or dpo."""
        return self.folder / "models" / name

    def run(self, name: str) -> Path:
        """Return an evaluation's run folder."""
        return self.folder / "runs" / name


@dataclass(frozen=True, slots=True)
class Display:
    """Callbacks of a step: its progress, and lines for the user; None where nothing is shown."""

    progress: Progress | None = None
    report: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `work` does it, `describe` puts its findings in a line."""

    name: str
    title: str
    work: Callable[[Demo, Display], Findings]
    describe: Callable[[Findings], str]


def _world(demo: Demo, display: Display) -> Findings:
    from sharegptvideo.synthetic import build_world

    report = build_world(
        demo.world,
        seed=demo.seed,
        sizes=demo.scale.world,
        faults=demo.scale.faults,
        progress=display.progress,
    )
    return {"faults": report["settings"]["faults"], **report["found"]}


def _describe_world(findings: Findings) -> str:
    rates = findings["sft_faults"]
    clips, questions = (sum(findings[name].values()) for name in ("clips", "questions"))
    return (
        f"{clips} clips, {questions} questions; "
        f"SFT answers at fault: {percent(rates['invented'], 0)} with invented details, "
        f"{percent(rates['yes_to_absent'], 0)} yes to absent things, "
        f"{percent(rates['no_to_present'], 0)} no to present ones"
    )


def _start(demo: Demo, display: Display) -> Findings:  # noqa: ARG001 - a step's signature
    from sharegptvideo.data.load import read_rows
    from sharegptvideo.models import build_tiny, load_model, video_token_count

    texts: list[str] = []
    for row in read_rows("captions", data_dir=demo.world):
        texts += [row["prompt"], row["caption"]]
    for row in read_rows("sft", data_dir=demo.world):
        texts += [message["content"] for message in row["messages"]]
    size = demo.scale.model
    path = build_tiny(
        texts, demo.model("start"), seed=demo.seed, size=size, architecture="llava_hound"
    )
    model = load_model(str(path), dtype="float32")
    embeddings: Any = model.get_input_embeddings()  # typed as any module
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "vocabulary": embeddings.weight.shape[0],
        "video_tokens": video_token_count(model.config, size.frames),
    }


def _describe_start(findings: Findings) -> str:
    return (
        f"{magnitude(findings['parameters'], 2)} random parameters, "
        f"{findings['vocabulary']} tokens of text, {findings['video_tokens']} positions a clip"
    )


def _pretrain(demo: Demo, display: Display) -> Findings:
    return _train(demo, "pretrain", "start", demo.world, display)


def _sft(demo: Demo, display: Display) -> Findings:
    return _train(demo, "sft", "pretrain", demo.world, display)


def _dpo(demo: Demo, display: Display) -> Findings:
    return _train(demo, "dpo", "sft", demo.preferences, display)


def _train(demo: Demo, stage: str, model: str, source: Path, display: Display) -> Findings:
    from sharegptvideo.training import DpoRecipe, load_recipe, run_dpo, run_sft

    settings = (
        f"model={demo.model(model)}",
        f"output={demo.model(stage)}",
        f"data.data_dir={source}",
        f"data.media={demo.world}",
        f"seed={demo.seed}",
    )
    recipe = load_recipe(f"demo/{stage}", [*settings, *demo.scale.overrides.get(stage, ())])

    def report(text: str) -> None:
        # Advice about a recipe's options is for those who write one.
        if display.report and not text.startswith("features: "):
            display.report(text)

    if isinstance(recipe, DpoRecipe):
        result = run_dpo(recipe, progress=display.progress, report=report)
    else:
        result = run_sft(recipe, progress=display.progress, report=report)
    last = result.log[-1] if result.log else {}
    return {
        "rows": result.rows,
        "steps": result.steps,
        "loss_first": result.log[0]["loss"] if result.log else None,
        "loss_last": last.get("loss"),
        "reward_accuracy": last.get("rewards/accuracies"),
        "reward_margin": last.get("rewards/margins"),
    }


def _describe_training(findings: Findings) -> str:
    text = (
        f"{findings['rows']} rows, {findings['steps']} steps, "
        f"loss {number(findings['loss_first'])} to {number(findings['loss_last'])}"
    )
    if findings["reward_accuracy"] is not None:
        text += f", reward accuracy {percent(findings['reward_accuracy'], 0)}"
    return text


def _candidates(demo: Demo, display: Display) -> Findings:
    from sharegptvideo.build import sample_candidates
    from sharegptvideo.data.load import read_rows

    rows = read_rows("qa", data_dir=demo.world, split="train", media=demo.world)
    report = sample_candidates(
        rows,
        demo.model("sft"),
        demo.preferences,
        k=demo.scale.candidates,
        seed=demo.seed,
        max_new_tokens=demo.scale.max_new_tokens,
        progress=display.progress,
    )
    return report.as_dict()


def _describe_candidates(findings: Findings) -> str:
    return f"{findings['n_candidates']} answers to {findings['n_questions']} questions"


def _rewards(demo: Demo, display: Display) -> Findings:
    from sharegptvideo.build import score_candidates
    from sharegptvideo.demo.exact_state import agreement_on_rewards
    from sharegptvideo.judges import open_judge

    judge = open_judge("answer-match")
    report = score_candidates(demo.preferences, judge, demo.preferences, progress=display.progress)
    return {**report.as_dict(), "agreement": agreement_on_rewards(demo.preferences, demo.world)}


def _describe_rewards(findings: Findings) -> str:
    agreement = findings["agreement"]
    return (
        f"{findings['n_answers']} answers scored by caption; the judge agrees with the exact state "
        f"on {percent(agreement['share'])} of {agreement['n']}"
    )


def _pairs(demo: Demo, display: Display) -> Findings:  # noqa: ARG001 - a step's signature
    from sharegptvideo.build import make_pairs

    return make_pairs(demo.preferences, demo.preferences, seed=demo.seed).as_dict()


def _describe_pairs(findings: Findings) -> str:
    without = ", ".join(
        f"{count} {cause.replace('_', ' ')}"
        for cause, count in findings["without_pair"].items()
        if count
    )
    pairs, items = findings["n_pairs"], findings["n_items"]
    return f"{pairs} pairs from {items} questions (without: {without or 'none'})"


def _evaluate(demo: Demo, display: Display) -> Findings:
    from sharegptvideo.demo.exact_state import ExactStateJudge, agreement_on_runs
    from sharegptvideo.eval import judge_predictions, run_evaluation
    from sharegptvideo.reports.demo.comparison import compare_models

    exact = ExactStateJudge(demo.world)
    for name in ("sft", "dpo"):
        run_evaluation(
            f"hf:{demo.model(name)}",
            TASKS,
            "answer-match",
            demo.run(name),
            data_dir=demo.world,
            media=demo.world,
            batch_size=demo.scale.batch_size,
            progress=_labelled(display.progress, name.upper()),
        )
        judge_predictions(
            demo.run(name) / "predictions.jsonl",
            TASKS,
            exact,
            demo.run(f"{name}-exact"),
            data_dir=demo.world,
        )
    return {
        **compare_models(demo.folder / "runs", demo.world),
        "agreement": agreement_on_runs([demo.run("sft"), demo.run("dpo")], demo.world),
    }


def _labelled(progress: Progress | None, label: str) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, what: progress(done, total, f"{label}: {what}")


def _describe_evaluation(findings: Findings) -> str:
    test = findings["test"]
    sft, dpo = (percent(test[model]["accuracy"]) for model in ("sft", "dpo"))
    return (
        f"unseen clips: SFT {sft}, DPO {dpo}, difference "
        f"{points(test['delta'], sign=True)} points ({interval(test['delta_ci95'], sign=True)})"
    )


STEPS = (
    Step("world", "Videos and captions", _world, _describe_world),
    Step("model", "A small LLaVA-Hound", _start, _describe_start),
    Step("pretrain", "Pre-training on captions", _pretrain, _describe_training),
    Step("sft", "SFT on distilled answers", _sft, _describe_training),
    Step("candidates", "Six answers a question", _candidates, _describe_candidates),
    Step("rewards", "Rewards from captions", _rewards, _describe_rewards),
    Step("pairs", "Preference pairs", _pairs, _describe_pairs),
    Step("dpo", "DPO on the pairs", _dpo, _describe_training),
    Step("evaluate", "SFT against DPO", _evaluate, _describe_evaluation),
)
