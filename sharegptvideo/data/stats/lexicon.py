"""The lexicon: what captions speak of, by the words and rules of `lexicon.yaml`."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from sharegptvideo._io import parse_yaml
from sharegptvideo._strict import StrictModel
from sharegptvideo.data.stats.tokens import Ints, TokenBatch

__all__ = ["Aspect", "Group", "Lexicon", "Matcher", "built_in", "matcher"]

_QUOTED = re.compile(r'"[^"“”]{1,200}"|“[^"“”]{1,200}”')
# Of more than this share of capitals among the words that open no sentence, a caption is a
# headline, and its capitals name nothing.
_HEADLINE = 0.4
# Digits that stand for a number of things; 1900-2099 are years.
_COUNT = re.compile(r"(?!(?:19|20)\d\d$)\d{1,6}")


class Group(StrictModel):
    """Words that show one thing; see the head of `lexicon.yaml`."""

    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    except_: tuple[str, ...] = Field((), alias="except")
    rule: Literal["digits", "capital", "quoted"] | None = None
    examples: tuple[str, ...]
    counterexamples: tuple[str, ...]

    @field_validator("words", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _written_plainly(self) -> Group:
        if not (self.words or self.phrases or self.rule):
            raise ValueError("neither words nor phrases nor a rule")
        for text in (*self.words, *self.phrases, *self.except_):
            if text != " ".join(text.lower().split()):
                raise ValueError(f"{text!r} is not in lower case, or has too many blanks")
        twice = sorted({word for word in self.words if self.words.count(word) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: written twice")
        return self


class Aspect(StrictModel):
    """Groups under one heading."""

    about: str
    groups: dict[str, Group]


class Lexicon(StrictModel):
    """All aspects, by name."""

    version: int
    aspects: dict[str, Aspect]


@functools.cache
def built_in() -> Lexicon:
    """Return the lexicon that ships with the package."""
    text = (resources.files(__package__) / "lexicon.yaml").read_text(encoding="utf-8")
    return Lexicon.model_validate(parse_yaml("lexicon.yaml", text))


@functools.cache
def matcher() -> Matcher:
    """Return the matcher of the built-in lexicon, made once a process."""
    return Matcher(built_in())


@dataclass(frozen=True, slots=True)
class _Runs:
    """Word runs that set a group's mark, or take it away again."""

    column: int
    words: tuple[str, ...]


class Matcher:
    """Counts, for each caption of a batch, the marks of each group.

    Attributes:
        names: `(aspect, group)` of each column, in the order of the lexicon.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        columns = [
            (aspect, name, group)
            for aspect, held in lexicon.aspects.items()
            for name, group in held.groups.items()
        ]
        self.names = [(aspect, name) for aspect, name, _ in columns]
        self._words: dict[str, int] = {}
        prefixes: list[tuple[str, int]] = []
        self._phrases: list[_Runs] = []
        self._excepted: list[_Runs] = []
        self._rules: dict[str, int] = {}
        for column, (_, _, group) in enumerate(columns):
            for word in group.words:
                if word.endswith("*"):
                    prefixes.append((word[:-1], column))
                else:
                    self._words[word] = self._words.get(word, 0) | 1 << column
            self._phrases += [_Runs(column, tuple(run.split())) for run in group.phrases]
            self._excepted += [_Runs(column, tuple(run.split())) for run in group.except_]
            if group.rule:
                self._rules[group.rule] = column
        self._prefixes = tuple(prefixes)
        self._known: dict[str, int] = {}

    def counts(self, batch: TokenBatch, texts: Sequence[str]) -> NDArray[np.int32]:
        """Count each group's marks in each caption, int32 (captions, groups); texts tokenised."""
        bits = np.array([self._bits(word) for word in batch.vocabulary], np.int64)
        marks = bits[batch.ids] if len(batch.ids) else np.empty(0, np.int64)
        if "capital" in self._rules:
            marks |= _capitals(batch).astype(np.int64) << self._rules["capital"]
        places = _Places(batch)
        for run in self._phrases:
            marks[places.of(run.words)] |= 1 << run.column
        for run in self._excepted:
            starts = places.of(run.words)
            for step in range(len(run.words)):
                marks[starts + step] &= ~(1 << run.column)
        table = np.empty((len(texts), len(self.names)), np.int32)
        captions = batch.captions
        for column in range(len(self.names)):
            held = captions[(marks >> column & 1).astype(np.bool_)]
            table[:, column] = np.bincount(held, minlength=len(texts))
        if "quoted" in self._rules:
            table[:, self._rules["quoted"]] = [
                len(_QUOTED.findall(text)) if '"' in text or "“" in text else 0 for text in texts
            ]
        return table

    def _bits(self, word: str) -> int:
        known = self._known.get(word)
        if known is None:
            known = self._words.get(word, 0)
            for prefix, column in self._prefixes:
                if word.startswith(prefix):
                    known |= 1 << column
            if "digits" in self._rules and _COUNT.fullmatch(word):
                known |= 1 << self._rules["digits"]
            if len(self._known) < 1 << 20:
                self._known[word] = known
        return known


class _Places:
    """Places where runs of words begin in a batch; words are looked up once."""

    def __init__(self, batch: TokenBatch) -> None:
        self._index = {word: number for number, word in enumerate(batch.vocabulary)}
        self._ids = batch.ids
        # A run neither leaves its caption nor goes on into the next sentence.
        self._opens = batch.opens
        order = np.argsort(batch.ids, kind="stable")
        self._order = order
        self._edges = np.searchsorted(batch.ids[order], np.arange(len(batch.vocabulary) + 1))

    def of(self, words: tuple[str, ...]) -> Ints:
        """Return the places of the first word of each run, int64, rising."""
        numbers = [self._index.get(word, -1) for word in words]
        if min(numbers) < 0:
            return np.empty(0, np.int64)
        first = numbers[0]
        starts = self._order[self._edges[first] : self._edges[first + 1]]
        for step, number in enumerate(numbers[1:], start=1):
            starts = starts[starts + step < len(self._ids)]
            starts = starts[(self._ids[starts + step] == number) & ~self._opens[starts + step]]
        return starts


def _capitals(batch: TokenBatch) -> NDArray[np.bool_]:
    """Return the words written with a capital that open nothing, headlines apart."""
    inner = ~batch.opens
    held = batch.capital & inner
    captions = batch.captions
    size = len(batch.starts) - 1
    capitals = np.bincount(captions[held], minlength=size)
    words = np.bincount(captions[inner], minlength=size)
    # "A man visits Rome." is no headline: of few words, one may well be a name.
    headline = (capitals > 2) & (capitals > _HEADLINE * words)
    return np.asarray(held & ~headline[captions], np.bool_)
