"""What the stages of a loop will take, before anything is asked: calls, tokens, dollars, time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sharegptvideo._text import plural
from sharegptvideo.build.captions import FRAMES
from sharegptvideo.build.loop_file import (
    Loop,
    ModelStep,
    captions_of,
    check_step,
    clips_of,
    endpoint_of,
    is_finished,
    judge_of,
    questions_of,
)
from sharegptvideo.build.report import StageFigures, stage_figures
from sharegptvideo.build.stage import Row
from sharegptvideo.endpoint import EndpointOptions, Estimate, find_endpoint
from sharegptvideo.endpoint.budget import Size, find_price
from sharegptvideo.judges import Judge, JudgeItem

__all__ = ["PlannedStage", "plan_loop", "typical_estimate", "typical_verdicts"]

# Bytes of the release's texts on average: its files' sizes by their rows, less what is not text.
_CAPTION, _QUESTION, _ANSWER = 700, 70, 100
_BYTES_PER_TOKEN = 4
_JSON_AROUND = 60  # bytes of keys, kind and difficulty around a question and its answer
_ANSWER_FRAMES = 8


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """What a stage will take.

    Attributes:
        stage: its name.
        inputs: rows that it will be given, at the most.
        left: of these, how many are to be made still.
        estimate: of what is left; None where nothing is asked of a server.
        basis: what the estimate rests on, in words.
    """

    stage: str
    inputs: int
    left: int
    estimate: Estimate | None
    basis: str

    def as_dict(self) -> Row:
        """Return the plan as plain JSON values."""
        known = self.estimate
        return {
            "stage": self.stage,
            "inputs": self.inputs,
            "left": self.left,
            "calls": known.requests if known else 0,
            "tokens": round(known.tokens) if known else 0,
            "dollars": known.cost if known else 0.0,
            "hours": round(known.seconds / 3600, 3) if known else None,
            "basis": self.basis,
        }


def plan_loop(loop: Loop) -> list[PlannedStage]:
    """Return what each stage will take; nothing is asked.

    The first stage's inputs are counted. Those of a stage whose inputs are not made yet are as many
    as there can be, and their texts of the release's average length. Where a stage has rows
    already, its tokens and dollars are those of these rows.

    Raises:
        UserError: a mistake in the settings, no inputs, no endpoint for a served model.
    """
    endpoint = endpoint_of(loop)
    plans: list[PlannedStage] = []
    for name in loop.steps:
        check_step(loop, name)
        plans.append(_planned(loop, name, plans[-1] if plans else None, endpoint))
    return plans


def _planned(
    loop: Loop, name: str, before: PlannedStage | None, endpoint: EndpointOptions
) -> PlannedStage:
    made = _inputs_there(loop, name)
    inputs, basis = made, "texts of typical length"
    if inputs is None:
        assert before is not None
        per = loop.qa.n if name == "candidates" and loop.qa else 1
        inputs, basis = before.inputs * per, "texts of typical length, inputs at the most"
    if made is not None and is_finished(loop, name):
        return PlannedStage(name, inputs, 0, Estimate(), "finished")
    notes = loop.folder / f"{name}.json"
    figures = stage_figures(loop.folder, name) if notes.is_file() else None
    done = figures.n_rows - figures.n_failed if figures else 0
    left = max(0, inputs - done)
    if figures is not None and done and figures.tokens("prompt"):
        rows = f"the {plural(figures.n_rows, 'row')} made so far"
        return PlannedStage(name, inputs, left, _measured(figures, left, endpoint), rows)
    return PlannedStage(name, inputs, left, typical_estimate(loop, name, left, endpoint), basis)


def _measured(figures: StageFigures, left: int, endpoint: EndpointOptions) -> Estimate:
    share = left / figures.n_rows
    calls = round(sum(model.attempts for model in figures.models) * share)
    tokens = (figures.tokens("prompt") + figures.tokens("completion")) * share
    cost = None if figures.dollars is None else figures.dollars * share
    return Estimate(calls, 0, tokens, cost, endpoint.seconds_of(calls, tokens))


def _inputs_there(loop: Loop, name: str) -> int | None:
    """Return how many inputs a stage has; None where the stage before has not made them all."""
    names = list(loop.steps)
    is_first = name == names[0]
    if not is_first and not is_finished(loop, names[names.index(name) - 1]):
        return None
    if name == "captions":
        return len(clips_of(loop))
    if name == "qa":
        return sum(1 for _ in captions_of(loop))
    if name == "candidates":
        return len(questions_of(loop))
    log = {"rewards": "candidates", "preferences": "rewards"}[name]
    return stage_figures(loop.before(name), log).n_rows


def typical_estimate(
    loop: Loop, name: str, left: int, endpoint: EndpointOptions
) -> Estimate | None:
    """Return what so many inputs take, by the length of what is asked; None: no server is asked."""
    if name == "captions" and loop.captions:
        step = loop.captions
        asked = step.stage(loop).wording.render()
        size = Size(len(asked.encode()), 1, step.frames or FRAMES, step.max_new_tokens)
        return _calls(loop, step, size, _CAPTION, left, endpoint)
    if name == "qa" and loop.qa:
        qa = loop.qa.stage(loop)
        asked = qa.render("x" * _CAPTION) + str(qa.schema)
        size = Size(len(asked.encode()), 1, 0, loop.qa.max_new_tokens)
        answer = loop.qa.n * (_QUESTION + _ANSWER + _JSON_AROUND)
        return _calls(loop, loop.qa, size, answer, left, endpoint)
    if name == "candidates" and loop.candidates:
        candidates = loop.candidates
        size = Size(_QUESTION, 1, candidates.frames or _ANSWER_FRAMES, candidates.max_new_tokens)
        return _calls(loop, candidates, size, _ANSWER, left * candidates.k, endpoint)
    if name == "rewards":
        answers = round(left * _answers_each(loop))
        judge = judge_of(loop).open(replace(endpoint, cache=False))
        return typical_verdicts(judge, answers, endpoint)
    return None


def typical_verdicts(judge: Judge, answers: int, endpoint: EndpointOptions) -> Estimate | None:
    """Return what verdicts on so many answers take, whose texts have the release's average length.

    None where the judge asks no server. The judge's cache must be off: the texts are made up.
    """
    texts = ("x" * _QUESTION, "x" * _ANSWER, "x" * _ANSWER, "x" * _CAPTION)
    one = judge.estimate([JudgeItem("x", "preferences", "x", *texts)])
    return _times(one, answers, endpoint) if one.requests else None


def _answers_each(loop: Loop) -> float:
    """Return how many answers a question has that are to be scored."""
    if loop.candidates:
        return loop.candidates.k
    report = stage_figures(loop.before("rewards"), "candidates").report or {}
    return float(report.get("n_candidates", 1)) / max(1, int(report.get("n_questions", 1)))


def _calls(
    loop: Loop,
    step: ModelStep,
    size: Size,
    answer: int,
    calls: int,
    endpoint: EndpointOptions,
) -> Estimate | None:
    """Return what calls of a size take whose answers have so many bytes."""
    kind, _, model = step.model.partition(":")
    if kind != "openai":
        return None
    url = find_endpoint(step.base_url or loop.base_url).base_url
    price = find_price(url, model, endpoint.prices)
    prompt, _ = size.typical(price.image_tokens if price else 0)
    said = min(answer / _BYTES_PER_TOKEN, size.allowed)
    cost = price.of(prompt, said) if price else None
    one = Estimate(1, 0, prompt + said, cost, 0.0, price.date if price else None)
    return _times(one, calls, endpoint)


def _times(one: Estimate, calls: int, endpoint: EndpointOptions) -> Estimate:
    calls *= one.requests
    tokens = one.tokens * calls / one.requests
    return Estimate(
        calls,
        0,
        tokens,
        None if one.cost is None else one.cost * calls / one.requests,
        endpoint.seconds_of(calls, tokens),
        one.priced,
    )
