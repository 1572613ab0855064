"""What must hold of a run folder before a figure of it is shown, as others may have written it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sharegptvideo._io import RowCheck, dumps, read_json, read_jsonl
from sharegptvideo._text import shortened
from sharegptvideo.errors import UserError, field_problems

__all__ = ["check_judgement", "check_prediction", "check_run", "read_results", "read_rows"]

Row = dict[str, Any]

_Count = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_SHOWN_CHARACTERS = 300


class _Checked(BaseModel):
    """A part of a file: types as they are, no infinities, other keys as they come."""

    model_config = ConfigDict(
        extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class _Member(_Checked):
    name: str


class _Judge(_Checked):
    name: str
    members: list[_Member] = []


class _Task(_Checked):
    version: int
    config: str | None = None
    split: str | None = None
    protocol: str
    frames: _Count | None = None
    max_new_tokens: _Count | None = None
    generation: dict[str, float] = {}
    sent_as: str | None = None
    settings_changed: dict[str, Annotated[list[Any], Field(min_length=2, max_length=2)]] = {}
    limit: _Count | None = None
    judge: _Judge


class _Model(_Checked):
    spec: str
    name: str | None = None
    kind: str | None = None
    authors: str | None = None
    link: str | None = None
    weights_hash: str | None = None


class _Data(_Checked):
    data_dir: str | None = None
    media: str | None = None
    task_path: str | None = None
    limit: _Count | None = None


class _Begun(_Checked):
    model: _Model
    judge: str
    tasks: dict[str, dict[str, Any]]


class _Run(_Begun):
    tasks: dict[str, _Task]  # type: ignore[assignment]  # what a task's settings are, in full
    seeds: dict[str, Any] | None = None
    data: _Data | None = None
    packages: dict[str, str] = {}
    started: str | None = None


class _Estimate(_Checked):
    value: float | None
    se: Annotated[float, Field(ge=0)] | None
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    ci95_bootstrap: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None


class _Accuracy(_Estimate):
    value: _Share | None


class _OfType(_Checked):
    n: _Count
    n_unscored: _Count
    clusters: _Count
    accuracy: _Accuracy
    pair_accuracy: _Accuracy | None = None


class _Figures(_Checked):
    n: _Count
    n_predicted: _Count
    n_failed: _Count
    n_scored: _Count
    n_unscored: _Count
    clusters: _Count
    coverage: _Share | None
    accuracy: _Accuracy
    accuracy_bounds: Annotated[list[_Share], Field(min_length=2, max_length=2)] | None
    score: _Estimate
    headline: Literal["accuracy", "pair_accuracy", "f1", "score"] = "accuracy"
    chance: _Share | None = None
    pair_accuracy: _Accuracy | None = None
    f1: _Accuracy | None = None
    claim_precision: _Accuracy | None = None
    claim_recall: _Accuracy | None = None
    yes_rate: _Accuracy | None = None
    right_yes_rate: _Share | None = None
    type_mean: _Share | None = None
    minimum_detectable_difference: float | None = None
    paper_accuracy: _Share | None
    paper_score: float | None = None
    by_question_type: dict[str, _OfType] = {}
    missing_clips: list[str] = []
    failures: dict[str, _Count] = {}
    unscored: dict[str, _Count] = {}

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if (self.n, self.n_predicted) != (
            self.n_predicted + self.n_failed,
            self.n_scored + self.n_unscored,
        ):
            raise ValueError("its counts do not add up")
        if getattr(self, self.headline) is None:
            raise ValueError(f"its headline, {self.headline}, is not in it")
        return self


class _Results(_Checked):
    tasks: dict[str, _Figures]


class _Prediction(_Checked):
    id: str
    task: str
    video: str
    question: str | None = None
    question_type: str | None = None
    prediction: str | None = None
    status: Literal["ok", "failed"]
    error: str | None = None
    frame_indices: list[int] | None = None
    options: list[str] = []
    pair: str | None = None

    @model_validator(mode="after")
    def _has_answer(self) -> Self:
        if self.status == "ok" and self.prediction is None:
            raise ValueError("its status is ok, but it has no prediction")
        return self


class _Answering(_Checked):
    name: str | None = None
    answered_by: str | None = None


class _MemberVerdict(_Checked):
    name: str
    judge: _Answering | None = None


class _JudgeOfRow(_Answering):
    members: list[_MemberVerdict] = []


class _Claims(_Checked):
    claimed: _Count
    supported: _Count
    expected: Annotated[int, Field(ge=1)]
    covered: _Count

    @model_validator(mode="after")
    def _are_parts(self) -> Self:
        if self.supported > self.claimed or self.covered > self.expected:
            raise ValueError("more claims are supported or covered than there are")
        return self


class _Judgement(_Checked):
    id: str
    task: str
    status: Literal["scored", "unscored"]
    correct: bool | None = None
    score: float | None = None
    reason: str | None = None
    reply: str | None = None
    judge: _JudgeOfRow | None = None
    contradiction: bool | None = None
    item_hash: str | None = None
    claims: _Claims | None = None

    @model_validator(mode="after")
    def _says_whether_correct(self) -> Self:
        if self.status == "scored" and self.claims is not None:
            if self.correct is not None or self.score is None:
                raise ValueError("it counts claims, which have a score and are never correct")
        elif self.status == "scored" and self.correct is None:
            raise ValueError("its status is scored, but correct is neither true nor false")
        return self


def _checked(where: str, value: object, kind: type[_Checked]) -> None:
    """Refuse what a file of this kind cannot hold, with the first cause.

    Raises:
        UserError: see above.
    """
    cause = ""
    try:
        kind.model_validate(value)
        dumps(value)  # what is not looked at is passed on as JSON, which has no infinities
    except ValidationError as error:
        cause = field_problems(error)[0]
    except ValueError:
        cause = "holds NaN or an infinity"
    if cause:
        raise UserError(
            f"{where}: {shortened(cause, _SHOWN_CHARACTERS)}; not what `eval run` writes"
        )


def check_run(file: Path, run: Mapping[str, Any], *, finished: bool = True) -> None:
    """Check the contents of run.json; of one to go on with, what is compared.

    Raises:
        UserError: a value that is used is missing or of a wrong kind; names it.
    """
    _checked(str(file), run, _Run if finished else _Begun)


def read_results(file: Path) -> Row:
    """Read a results.json: counts that add up, shares from 0 to 1, no infinities.

    Raises:
        UserError: it cannot be read, or a value is missing or impossible; names it.
    """
    results: Row = read_json(file)
    _checked(str(file), results, _Results)
    return results


def check_prediction(where: str, row: Mapping[str, Any]) -> None:
    """Check a row of predictions.jsonl; `where` names its file and line.

    Raises:
        UserError: a value that is used is missing or of a wrong kind; names it.
    """
    _checked(where, row, _Prediction)


def check_judgement(where: str, row: Mapping[str, Any]) -> None:
    """Check a row of judgements.jsonl; `where` names its file and line.

    Raises:
        UserError: a value that is used is missing or of a wrong kind; names it.
    """
    _checked(where, row, _Judgement)


def read_rows(file: Path, check: RowCheck) -> dict[tuple[str, str], Row]:
    """Read predictions.jsonl or judgements.jsonl by (task, id); the last row of a key counts.

    Raises:
        UserError: the file or a row cannot be read, or `check` refuses one.
    """
    rows: dict[tuple[str, str], Row] = {}
    for number, row in read_jsonl(file):
        check(f"{file}:{number}", row)
        rows[row["task"], row["id"]] = row
    return rows
