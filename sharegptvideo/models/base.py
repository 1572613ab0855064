"""The one interface of models that answer questions about clips, and what goes in and out of it."""

from __future__ import annotations

import abc
import hashlib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sharegptvideo.endpoint import Estimate

__all__ = [
    "FRAME_BYTES",
    "Answer",
    "Model",
    "Question",
    "Request",
    "SamplingParams",
    "other_questions",
    "short_hash",
]

# An option that names others by their place, or all of them.
_OF_OTHERS = re.compile(
    r"\b(?:of the above|above options?|of these|[A-H](?:, [A-H])* (?:and|&|or) [A-H])\b"
)

FRAME_BYTES = 1 << 30
"""How much the frames of a batch of requests may take, where more would only wait their turn."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a task.

    `video` is its cluster; `video_path` is None where the clip is missing. `options` are the
    answers to choose from, as its file lists them, one of them `answer`; empty where none are
    given. `pair` names the two questions that count together.
    """

    id: str
    task: str
    video: str
    question: str
    answer: str
    caption: str | None = None
    question_type: str | None = None
    video_path: str | None = None
    options: tuple[str, ...] = ()
    pair: str | None = None

    @property
    def key(self) -> str:
        """The question's key in the logs of a run folder: ids are unique within a task only."""
        return f"{self.task}/{self.id}"

    @property
    def shown_options(self) -> tuple[str, ...]:
        """The options as a model is shown them: turned so that the right one stands anywhere.

        Its place depends on the id alone, so it is the same in every run and for every model, and
        all places come equally often in the long run. Options that speak of one another ("All of
        the above") stay as they are.
        """
        if self.answer not in self.options or any(map(_OF_OTHERS.search, self.options)):
            return self.options
        place = int(short_hash(self.id), 16) % len(self.options)
        turn = (self.options.index(self.answer) - place) % len(self.options)
        return self.options[turn:] + self.options[:turn]


def other_questions(questions: Iterable[Question]) -> dict[str, Question]:
    """Return, by a question's key, the other one of its pair; nothing for one that is alone."""
    pairs: dict[str, list[Question]] = {}
    for question in questions:
        if question.pair is not None:
            pairs.setdefault(question.pair, []).append(question)
    both = [pair for pair in pairs.values() if len(pair) == 2]
    return {one.key: other for pair in both for one, other in (pair, pair[::-1])}


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt about one clip, as a model gets it.

    Attributes:
        prompt: the question, in the wording of its task.
        frames: uint8, n×H×W×3, RGB; the same object for all requests about a clip. None for a
            model that needs no frames.
        indices: numbers of the frames in the clip, from 0; None: unknown, taken for 0, 1, 2, ...
        question: where the prompt comes from; None for a prompt of no task.
        fps: frames a second of the clip; None: that of the question's clip, where a model needs
            it, else that of the release's folders of frames.
        schema: a JSON schema that the answer must follow, for servers that take one; the prompt
            asks for it in words too.
        sent: what a served model sends of the frames, see `Model.packed`; then it needs no frames.
        options: the likeliest of them is the answer, for models that `scores_options`; nothing is
            generated.
    """

    prompt: str
    frames: NDArray[np.uint8] | None = None
    indices: Sequence[int] | None = None
    question: Question | None = None
    fps: float | None = None
    schema: Mapping[str, Any] | None = None
    sent: object | None = None
    options: tuple[str, ...] = ()

    @property
    def bare(self) -> Request:
        """A copy without frames, known by its question; the same one where it has none."""
        return self if self.question is None else replace(self, frames=None)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How answers are generated.

    Attributes:
        n: answers to each request.
        temperature: divides the logits before a token is drawn; 0: take the likeliest token.
        top_p: draw from the smallest set of tokens that has this share of the probability.
        max_new_tokens: length at which an answer is cut.
        seed: with the clip, the prompt and the answer's number, it determines what is drawn.
        top_k: draw from so many of the likeliest tokens; None: from all.
        repetition_penalty: divides the logits above 0 of tokens that are there already, prompt
            included, and multiplies those below; None: as the model's own settings say.

    Raises:
        UserError: a value out of range.
    """

    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 128
    seed: int = 0
    top_k: int | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        counts = {"n": self.n, "max_new_tokens": self.max_new_tokens, "top_k": self.top_k}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise UserError(f"{name} must be at least 1, got {count}")
        if self.repetition_penalty is not None and not 0 < self.repetition_penalty < math.inf:
            raise UserError(f"repetition_penalty must be above 0, got {self.repetition_penalty}")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature must be at least 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, got {self.top_p}")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken at every step."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model returned for one request: its `n` texts, or the cause of its failure.

    Attributes:
        request: the one that was given, or the `bare` one.
        texts: the answers, in the order of their numbers; empty for a failure.
        error: why there are none.
        reasoning: what it thought before each text, no part of it; empty where it did not.
        partial: of a failure, what was said in place of each text (cut off, withheld, refused) and
            is no answer; empty where nothing was.
        usage: `prompt_tokens`, `cached_tokens` (of these, from a server's prefix cache; None where
            it does not say) and `completion_tokens`, of all texts together as a server counted
            them when it gave them; None where none did.
        answered_by: the model that a server says answered; None where none did.
        attempts: calls of a server that it took, those that failed included; 0 without a server.
        dollars: what these cost, in US dollars, when they were made; None where no price is known.
        options: of an answer from elsewhere, the options in the order in which they were shown;
            empty: in that of `Question.shown_options`.
        option_scores: for each option of the request, the mean log-probability of its tokens after
            the prompt; empty where none were to be scored.
    """

    request: Request = field(repr=False, compare=False)
    texts: tuple[str, ...] = ()
    error: str | None = None
    reasoning: tuple[str | None, ...] = ()
    partial: tuple[str | None, ...] = ()
    usage: Mapping[str, int | None] | None = None
    answered_by: str | None = None
    attempts: int = 0
    dollars: float | None = None
    options: tuple[str, ...] = ()
    option_scores: tuple[float, ...] = ()

    @property
    def text(self) -> str | None:
        """The first text; None for a failure."""
        return self.texts[0] if self.texts else None


class Model(abc.ABC):
    """Answers questions about clips.

    Opening a model is cheap and finds the user's mistakes. Weights are loaded, and endpoints asked
    for answers, by the first `generate`.
    """

    spec: str
    """What the user typed, as `hf:PATH`."""

    needs_frames: bool = True
    """Whether requests have to carry frames; if not, the answers lie in a file, no clip is opened,
    and they are read again each time the run goes on."""

    answers_texts: bool = True
    """Whether it answers requests without a clip, whose frames are None."""

    frames: int | None = None
    """How many frames the model was made for; None: any number."""

    most_frames: int | None = None
    """How many frames of a clip it takes at most; None: any number."""

    obeys: frozenset[str] = frozenset({"frames", "max_new_tokens", "seed", "temperature", "top_p"})
    """Which of `AnswerSettings`, by name, change how it answers."""

    gives_samples: bool = True
    """Whether several answers to one question can differ."""

    scores_options: bool = False
    """Whether it answers requests with `options` by the likeliest of them."""

    workers: int = 1
    """In how many threads at once `generate` may be called."""

    width: int = 1
    """How many requests it has under way at once; a smaller batch leaves it idle in part."""

    refused: Collection[str] = ()
    """Names of sampling parameters that an endpoint does not take, and that were left out."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what run.json records and a resumed run has to match: kind, name, hash of weights.

        Raises:
            UserError: no endpoint is set.
        """

    @abc.abstractmethod
    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        """Yield an answer for each request: in their order, or, from an endpoint, as they come.

        A request that fails has its cause in the answer's `error`. What is yielded can be kept,
        whatever happens afterwards.

        Raises:
            UserError: nothing more can be answered (an endpoint is gone, memory is too small).
        """

    def stream(
        self, batches: Iterable[Sequence[Request]], params: SamplingParams
    ) -> Iterator[Answer]:
        """Yield an answer for each request of all batches, which are taken as they are needed.

        Raises:
            UserError: see `generate`.
        """
        for batch in batches:
            yield from self.generate(batch, params)

    def go_on(self, recorded: Mapping[str, Any]) -> None:  # noqa: B027 - most have nothing to do
        """Take over from what `describe` returned in an earlier sitting what only asking shows."""

    def check(
        self,
        questions: Sequence[Question],  # noqa: ARG002 - for models that know their questions
        every: Iterable[Question],  # noqa: ARG002
    ) -> dict[str, dict[str, Any]]:
        """Find out, before anything is written, whether the questions can be answered.

        Args:
            questions: those that are to be answered.
            every: all questions of their tasks, a `limit` left aside.

        Returns:
            By task, what to add to results.json; empty where there is nothing to report.

        Raises:
            UserError: the model cannot answer these questions at all.
        """
        return {}

    def shown(self, task: str, asked: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - for models that answered another time
        """Return the settings that answers to a task are given with.

        Args:
            task: its name.
            asked: `frames`, how many of a clip the model is sent; `max_new_tokens`, where an answer
                is cut; and what else was asked for.

        Returns:
            These; or what is known of answers that are there already, None for what is not.
        """
        return dict(asked)

    def packed(self, request: Request) -> Request:
        """Return a request as it is best kept until it is asked: with frames, or with `sent`."""
        return request

    def render(self, prompt: str) -> str:
        """Return the text that the model receives for a prompt, marks of turns included."""
        return prompt

    def estimate(
        self,
        prompts: Iterable[str],  # noqa: ARG002 - for models that cost money
        *,
        frames: int,  # noqa: ARG002
        params: SamplingParams,  # noqa: ARG002
    ) -> Estimate:
        """Estimate what answers to prompts about clips of so many frames will cost; ask nothing."""
        from sharegptvideo.endpoint import Estimate

        return Estimate()


def short_hash(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
