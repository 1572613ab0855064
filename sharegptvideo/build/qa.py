"""Questions and answers made of captions by a language model, which sees no frames."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import field_validator

from sharegptvideo._text import plural
from sharegptvideo._wording import Wording, braced, fill, places, wording_of
from sharegptvideo.build.model_stage import ModelChoice, OpenModelStage, beside
from sharegptvideo.build.questions import question_problems
from sharegptvideo.build.stage import Context, OpenStage, Row, Stage, stage_file
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.sources import world_folder
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.judges.protocol import UnreadableError, quoted, read_object
from sharegptvideo.models import Answer, Request
from sharegptvideo.models.asking import Turn

__all__ = ["Captions", "QaStage", "QaWording", "qa_wording", "read_captions"]

_PLACES = {
    "user": {"n", "material", "kinds", "difficulties"},
    "repair": {"n", "reply", "problem"},
}
_KEYS = ("question", "answer", "kind", "difficulty")
_QUOTED = 4000  # characters of an unreadable reply that it is shown again
_CAUSE = 80  # of what stands in a reply


class QaWording(Wording):
    """A prompt file for questions.

    `user` holds `{n}` (as "3 questions"), `{material}` (the caption as a JSON object), `{kinds}`
    and `{difficulties}` (a line each); `repair`, which follows it where a reply cannot be read,
    `{reply}` (as a JSON object), `{problem}` and, where it likes, `{n}`. `kinds` and `difficulties`
    are what may be asked for, with what each means.
    """

    user: str
    repair: str
    kinds: dict[str, str]
    difficulties: dict[str, str]

    @field_validator("user", "repair")
    @classmethod
    def _has_its_places(cls, text: str, info: Any) -> str:
        known, held = _PLACES[info.field_name], places(text)
        missing = known - {"n", *held} if info.field_name == "repair" else known - {*held}
        if missing or not known.issuperset(held):
            raise ValueError(
                f"has to hold {braced(sorted(known))}; it holds {braced(held) or 'none'}"
            )
        return text

    @field_validator("kinds", "difficulties")
    @classmethod
    def _has_names(cls, names: dict[str, str]) -> dict[str, str]:
        if not names or not all(name.strip() for name in names):
            raise ValueError("needs at least one name, and what it means")
        return names


def qa_wording(file: Path | None = None) -> QaWording:
    """Return our own wording, or that of a prompt file.

    Raises:
        UserError: the file cannot be used: every fault in one line.
    """
    return wording_of(QaWording, file or "datasets_cards/prompts/qa.yaml")


@dataclass(frozen=True, slots=True)
class Captions:
    """Rows of config `captions`, read anew by each iteration: a million are no list in memory.

    Attributes:
        data_dir: a folder in the release layout or of Parquet.
        split: of its rows.
        limit: the first rows only.
    """

    data_dir: Path
    split: str = "train"
    limit: int | None = None

    def __iter__(self) -> Iterator[Row]:
        return itertools.islice(read_rows("captions", self.data_dir, self.split), self.limit)


def read_captions(
    source: str | Path, *, split: str = "train", limit: int | None = None
) -> Captions:
    """Return the captions that questions are made of.

    Args:
        source: the folder of `build captions`, another in the release layout, or "synthetic".
        split: "train", "validation" or "train+validation".
        limit: take the first rows only.

    Raises:
        UserError: no such folder, no captions in it, captions that are not finished.
    """
    root = world_folder() if str(source) == "synthetic" else Path(source).expanduser()
    if (root / "captions.jsonl").is_file():
        stage_file(root, "captions.jsonl")
    rows = Captions(root, split, limit)
    if next(iter(rows), None) is None:
        raise UserError(f"{source}: no captions in it")
    return rows


@dataclass(frozen=True, slots=True)
class QaStage(Stage):
    """Open questions about each caption, with their answers.

    Its rows are of the config `captions`. Those of its log: id (the caption's), video, source,
    caption, questions [{number, question, answer, kind, difficulty}], dropped [the same, with gate
    and cause], replies (of a failure: those that cannot be read), reasoning and partial (as in the
    log of `captions`), error, made. A number counts from 0 in the reply.

    Attributes:
        model: that writes them.
        n: questions to each caption.
        kinds: of the wording's; empty: any of them.
        difficulty: of the wording's; None: any of them.
        wording: what it is asked.

    Raises:
        UserError: a number below 1, or a kind or difficulty that the wording has not.
    """

    model: ModelChoice
    n: int = 3
    kinds: tuple[str, ...] = ()
    difficulty: str | None = None
    wording: QaWording = field(default_factory=qa_wording)
    name: ClassVar[str] = "qa"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"the number of questions must be at least 1, got {self.n}")
        for kind in self.kinds:
            if kind not in self.wording.kinds:
                raise unknown_name("kind of question", kind, self.wording.kinds)
        if self.difficulty is not None and self.difficulty not in self.wording.difficulties:
            raise unknown_name("difficulty", self.difficulty, self.wording.difficulties)

    @property
    def allowed(self) -> dict[str, Mapping[str, str]]:
        """What a question's `kind` and `difficulty` may be, and what each means."""
        kinds = self.kinds or tuple(self.wording.kinds)
        degrees = (
            tuple(self.wording.difficulties) if self.difficulty is None else (self.difficulty,)
        )
        return {
            "kind": {name: self.wording.kinds[name] for name in dict.fromkeys(kinds)},
            "difficulty": {name: self.wording.difficulties[name] for name in degrees},
        }

    @property
    def schema(self) -> Row:
        """The JSON schema of a reply."""
        texts = {name: {"type": "string"} for name in ("question", "answer")}
        chosen = {
            name: {"type": "string", "enum": [*those]} for name, those in self.allowed.items()
        }
        item = _object(texts | chosen)
        questions = {"type": "array", "items": item, "minItems": self.n, "maxItems": self.n}
        return _object({"questions": questions})

    def render(self, caption: str) -> str:
        """Return what the model is asked about a caption."""
        allowed = self.allowed
        return fill(
            self.wording.user,
            {
                "n": plural(self.n, "question"),
                "material": quoted({"description": caption}),
                "kinds": _listed(allowed["kind"]),
                "difficulties": _listed(allowed["difficulty"]),
            },
        ).strip()

    def render_again(self, caption: str, reply: str, problem: str) -> str:
        """Return what the model is asked after a reply that cannot be read."""
        values = {
            "n": plural(self.n, "question"),
            "reply": quoted({"reply": reply[:_QUOTED]}),
            "problem": problem,
        }
        return f"{self.render(caption)}\n\n{fill(self.wording.repair, values).strip()}"

    def read(self, reply: str) -> list[Row]:
        """Return the questions in a reply, each with its number.

        Raises:
            UnreadableError: it is not what the schema says.
        """
        contents = read_object(reply, "json", ("questions",))
        if set(contents) != {"questions"} or not isinstance(contents["questions"], list):
            raise UnreadableError('it is not {"questions": [...]}')
        if len(contents["questions"]) != self.n:
            count = plural(len(contents["questions"]), "question")
            raise UnreadableError(f"it has {count}, and not {self.n}")
        return [self._question(number, item) for number, item in enumerate(contents["questions"])]

    def _question(self, number: int, item: Any) -> Row:
        where = f"question {number + 1}"
        if not isinstance(item, dict) or set(item) != set(_KEYS):
            raise UnreadableError(f"{where} does not have {', '.join(_KEYS)}, and these alone")
        for name in _KEYS:
            if not isinstance(item[name], str):
                raise UnreadableError(f"{where}: its {name} is no text")
        for name, those in self.allowed.items():
            if item[name] not in those:
                raise UnreadableError(f"{where}: its {name} is none of {', '.join(those)}")
        return {"number": number} | {name: " ".join(item[name].split()) for name in _KEYS}

    def open(self, context: Context) -> OpenStage:
        """Open the model.

        Raises:
            UserError: there is none.
        """
        return _OpenQa(self, context)

    def export(self, row: Row) -> Sequence[Row]:
        """Return rows of config `qa`: `CAPTION-ID_NUMBER`, kind and difficulty in `made`."""
        if row["error"] is not None:
            return ()
        return [
            {
                "id": f"{row['id']}_{each['number']}",
                "video": row["video"],
                "source": row["source"],
                "question": each["question"],
                "answer": each["answer"],
                "caption": row["caption"],
                "made": row["made"] | {"kind": each["kind"], "difficulty": each["difficulty"]},
            }
            for each in row["questions"]
        ]


def _object(properties: Row) -> Row:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [*properties],
        "properties": properties,
    }


def _listed(meanings: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {meaning}" for name, meaning in meanings.items())


class _OpenQa(OpenModelStage):
    def __init__(self, settings: QaStage, context: Context) -> None:
        wording = settings.wording
        prompt = (wording.version, wording.hash)
        super().__init__(settings, settings.model, context, prompt=prompt, sees=False)
        self._stage = settings

    def describe(self) -> Row:
        chosen = {"kinds": [*self._stage.kinds], "difficulty": self._stage.difficulty}
        described = super().describe() | {"n": self._stage.n} | chosen
        unseen = ("send", "send_reason", "jpeg")  # no pictures are sent
        return {name: value for name, value in described.items() if name not in unseen}

    def figures(self, rows: Iterable[Row]) -> Row:
        """Return how many questions were dropped, by the rule that they broke."""
        dropped = Counter(each["gate"] for row in rows for each in row["dropped"])
        return {"dropped": dict(sorted(dropped.items()))}

    async def __call__(self, rows: Sequence[Row], turn: Turn) -> list[Row]:
        (row,) = rows
        answers: list[Answer] = []
        prompt = self._stage.render(row["caption"])
        for _ in range(2):
            request = Request(prompt, schema=self._stage.schema)
            answers += await turn.ask([request], self.params)
            reply, error = answers[-1].text, answers[-1].error
            if reply is None:
                return [self._made(row, answers, error=error)]
            try:
                return [self._made(row, answers, self._stage.read(reply))]
            except UnreadableError as cause:
                error = f"the reply cannot be read: {cause}"
                prompt = self._stage.render_again(row["caption"], reply, str(cause))
        return [self._made(row, answers, error=error)]

    def _made(
        self,
        row: Row,
        answers: Sequence[Answer],
        questions: Sequence[Row] = (),
        *,
        error: str | None = None,
    ) -> Row:
        made: Row = {name: row.get(name) for name in ("id", "video", "source", "caption")}
        pairs = [(each["question"], each["answer"]) for each in questions]
        kept, dropped = [], []
        for each, cause in zip(questions, question_problems(row["caption"], pairs), strict=True):
            if cause is None:
                kept.append(each)
            else:
                dropped.append(each | {"gate": cause.gate, "cause": cause.reason})
        made |= {"questions": kept, "dropped": dropped}
        if error is not None:
            made["replies"] = [answer.text for answer in answers if answer.text is not None]
        return made | beside(answers) | {"error": error, "made": self.made(row, answers)}
