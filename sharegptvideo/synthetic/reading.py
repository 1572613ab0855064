"""The claims of an answer about a clip of the synthetic world, each asserted or denied.

An answer is cut into clauses; in each, negation reaches from its word to the end of the clause.
A value that follows a comma without a verb goes on in the polarity of the clause before it ("not
red, blue" denies both): an answer that can be read in two ways is never read in its favour.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sharegptvideo.synthetic.language import INVENTED
from sharegptvideo.synthetic.state import BACKGROUNDS, COLOURS, SHAPES

__all__ = ["THINGS", "Claim", "Mention", "Reading", "read_answer"]

THINGS = tuple(thing for thing, _ in INVENTED.values())


@dataclass(frozen=True, slots=True)
class Claim:
    """One value that is asserted or, with `holds` False, denied.

    `subject` is the shape it is said of; None where that is what was asked about, or the scene.
    """

    attribute: str
    value: str
    holds: bool
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Mention:
    """Something said to be there or, with `holds` False, not to be there.

    `noun` is a shape, a thing that no clip shows, or `object`.
    """

    noun: str
    colours: tuple[str, ...]
    sizes: tuple[str, ...]
    holds: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """All that an answer says, in the order of time that it gives.

    `polarities` holds every yes (True) and no (False) that is said as a word of its own; `bare`
    the same of clauses that repeat nothing ("there is not", "it does"); `in_order` is whether
    words of time (first, then) separate values; `either` whether "or" leaves open which of two
    values holds.
    """

    claims: tuple[Claim, ...] = ()
    mentions: tuple[Mention, ...] = ()
    polarities: frozenset[bool] = frozenset()
    bare: frozenset[bool] = frozenset()
    in_order: bool = False
    either: bool = False


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(groups: dict[str, str]) -> dict[str, str]:
    return {word: value for value, words in groups.items() for word in words.split()}


_DIRECTIONS = _table(
    {
        "left": "left leftward leftwards",
        "right": "right rightward rightwards",
        "up": "up upward upwards",
        "down": "down downward downwards",
    }
)
_STILL = _words("still motionless stationary static unmoving immobile")
_MOVES = _words("move moves moved moving movement motion")
_CHANGES = _words("change changes changed changing happen happens happened")
_SAME = frozenset({"unchanged", "unchanging", "same"})
_VALUES: dict[str, tuple[str, str]] = {
    **{word: ("colour", word) for word in COLOURS},
    **{
        word: ("size", value)
        for word, value in _table({"small": "small little tiny", "large": "large big huge"}).items()
    },
    **{word: ("direction", value) for word, value in _DIRECTIONS.items()},
    **dict.fromkeys(_STILL, ("direction", "still")),
    **{word: ("background", word) for word in BACKGROUNDS},
    **dict.fromkeys(("checked", "chequered", "checkerboard"), ("background", "checkered")),
    **{word: ("tone", word) for word in ("dark", "light")},
    **{
        word: ("change", value)
        for word, value in _table(
            {
                "grows": "grow grows grew growing bigger larger",
                "shrinks": "shrink shrinks shrank shrinking smaller",
                "disappears": "disappear disappears disappeared disappearing vanish vanishes",
                "appears": "appear appears appeared appearing",
                "none": " ".join(_SAME),
            }
        ).items()
    },
}
_NOUNS = {
    **{word: noun for noun in (*SHAPES, *THINGS) for word in (noun, f"{noun}s")},
    "crosses": "cross",
    "object": "object",
    "objects": "object",
    "shape": "object",
    "shapes": "object",
}
_NUMBERS = {"zero": "zero", "one": "one", "single": "one", "two": "two", "both": "two"}
_NUMBERS |= {word: word for word in ("three", "four", "five", "several", "many")}

_YES = _words("yes yeah yep")
_NO = _words("no nope")
_NEGATORS = _words(
    "not no never none nothing nobody nowhere neither nor without lacks lacking isnt arent"
)
# These turn round the whole clause, wherever they stand in it.
_DENIERS = _words("absent missing invisible false untrue incorrect wrong impossible")
_THERE = _words("there present visible shown seen exist exists here video clip")
_APPEAR = frozenset({"appear", "appears"})
_VERBS = _words(
    "is are was were be has have had does do did can could will would stays stay stands remains "
    "remain moves move moved goes go turns turn turned becomes become grows grow shrinks shrink "
    "appears appear disappears disappear vanishes vanish changes change shows show see sees there "
    "it they that this starts start begins begin keeps keep"
)
_BREAKS = _words(
    "and but then while although though however yet nor because whereas until before after "
    "with near beside behind under below above"
)
_TIMES = _words(
    "first then later afterwards after before finally start starts starting end ends halfway until "
    "from becomes become turns turn turned initially next now begins"
)
_EARLY = _words("first initially originally starts begins start beginning")
_LATE = _words("then later afterwards finally eventually end")
# A clause of these alone answers by itself: "there is not", "I do", "it can be seen".
_BARE = _words(
    "there is are was i you we it they can could do does did one see seen be in the video clip a "
    "an any that this such thing not no never none yes really definitely indeed"
)
_GOES_ON = frozenset({"or", "any", "to"})
_SEEMS = frozenset({"to", "as", "like"})
_NOT_UP = _words("ends end slows speeds shows turns")


@dataclass(slots=True)
class _Clause:
    """Words of one clause; `opens` is the word it was split at."""

    words: list[str]
    opens: str = ""
    begins_sentence: bool = False
    rank: int = 0
    claims: list[Claim] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)
    denied: bool = False


def read_answer(answer: str, about: str | None = None) -> Reading:
    """Read what an answer claims.

    Args:
        answer: the text; a sentence that ends in a question mark claims nothing.
        about: the shape that the question is about; what "it" and bare values are said of.
    """
    clauses = list(_clauses(answer))
    polarities: set[bool] = set()
    bare: set[bool] = set()
    before: _Clause | None = None
    subject: str | None = about
    for clause in clauses:
        polarities |= set(_interjections(clause))
        denied = clause.opens == "nor" or (before is not None and _goes_on(clause, before))
        subject = _read(clause, denied, subject, about)
        bare |= set(_bare(clause))
        before = clause
    ordered = _in_time(clauses)
    words = {word for clause in clauses for word in (*clause.words, clause.opens)}
    return Reading(
        claims=tuple(claim for clause in ordered for claim in clause.claims),
        mentions=tuple(mention for clause in ordered for mention in clause.mentions),
        polarities=frozenset(polarities),
        bare=frozenset(bare),
        in_order=bool(words & _TIMES),
        either=any(_leaves_open(clause.words) for clause in clauses),
    )


def _goes_on(clause: _Clause, before: _Clause) -> bool:
    """Return whether a clause is the rest of a list in the denied clause before it."""
    if not before.denied or clause.begins_sentence or not clause.words or clause.opens == "but":
        return False
    starts = clause.words[0] in _VALUES or clause.words[0] in _NOUNS or clause.words[0] in _GOES_ON
    return starts and not _VERBS & set(clause.words)


def _clauses(answer: str) -> Iterator[_Clause]:
    text = answer.lower().replace("\u2019", "'")
    text = re.sub(r"\b(there|it|that|here)'s\b", r"\1 is", text)
    text = re.sub(r"'s\b", "", text)
    text = text.replace("in front of", "behind").replace("next to", "beside")
    text = re.sub(r"\bcan(?:'t|not)\b", "can not", text)
    text = re.sub(r"n't\b", " not", text)
    text = re.sub(r"\bnot only\b", " ", text)
    text = re.sub(r"\b(?:no longer|not any ?more)\b", "not", text)
    text = re.sub(r"\bdoes nothing\b", "does not change", text)
    for sentence, end in re.findall(r"([^.!?;\n]+)([.!?;\n]*)", text):
        if "?" in end:
            continue
        first = True
        for part in re.split(r"[,:()\u2013\u2014]", sentence):
            opens = ""
            words: list[str] = []
            for word in re.findall(r"[a-z]+", part):
                if word in _BREAKS:
                    if words:
                        yield _Clause(words, opens, first)
                        first = False
                    opens, words = word, []
                else:
                    words.append(word)
            if words:
                yield _Clause(words, opens, first)
                first = False


def _interjections(clause: _Clause) -> Iterator[bool]:
    """Yield each leading yes, and no that belongs to no noun, and take it off the clause."""
    words = clause.words
    while words and (words[0] in _YES or words[0] in _NO):
        if words[0] in _NO:
            follows = words[1] if len(words) > 1 else None
            if follows is not None and (follows in _VALUES or follows in _NOUNS or
                                        follows in _CHANGES or follows in _MOVES or
                                        follows in ("such", "other", "one")):  # fmt: skip
                return
        yield words[0] in _YES
        clause.words = words = words[1:]


def _read(clause: _Clause, denied: bool, subject: str | None, about: str | None) -> str | None:
    """Fill in a clause's claims and mentions; return what the next clause is about."""
    reader = _ClauseReader(clause, denied, subject, about)
    for place, word in enumerate(clause.words):
        reader.take(place, word)
    if reader.number is not None and all(w in _NUMBERS or w in _BARE for w in clause.words):
        clause.claims.append(Claim("number", reader.number, not reader.negated))
    clause.denied = reader.negated
    _deny_late(clause)
    return reader.subject


class _ClauseReader:
    """Reads a clause word by word; `negated` is the polarity at the word that comes next."""

    def __init__(
        self, clause: _Clause, denied: bool, subject: str | None, about: str | None
    ) -> None:
        self.clause, self.words = clause, clause.words
        self.negated = denied
        self.subject, self.about = subject, about
        self.number: str | None = None
        self._pending: list[tuple[str, str]] = []  # colours and sizes of the noun that follows
        self._source = False  # after "from": what held before the last value

    def take(self, place: int, word: str) -> None:
        """Read the word at `place`."""
        if word in _NOUNS:
            self._noun(place, word, _NOUNS[word])
        elif (value := self._value(place, word)) is not None:
            self._claim(place, *value)
        elif word in _MOVES and not any(w in _DIRECTIONS for w in self.words[place:]):
            self._add("direction", "still", holds=self.negated)
        elif word in _CHANGES:
            self._add("change", "none", holds=self.negated)
        elif word in _NEGATORS:
            self.negated = not self.negated
        elif word in _NUMBERS:
            self.number = _NUMBERS[word]
        elif word == "from":
            self._source = True

    def _value(self, place: int, word: str) -> tuple[str, str] | None:
        after = self.words[place + 1] if place + 1 < len(self.words) else ""
        return _value(word, self.words[place - 1] if place else "", after, self.words)

    def _add(self, attribute: str, value: str, *, holds: bool) -> None:
        self.clause.claims.append(Claim(attribute, value, holds, self.subject))

    def _claim(self, place: int, attribute: str, value: str) -> None:
        if attribute in ("colour", "size") and _noun_follows(self.words, place):
            self._pending.append((attribute, value))
            return
        claims = self.clause.claims
        at = len(claims)
        if self._source and claims and "to" not in self.words[place:]:
            at -= 1
        claims.insert(at, Claim(attribute, value, not self.negated, self.subject))
        self._source = False

    def _noun(self, place: int, word: str, noun: str) -> None:
        before = self.words[max(0, place - 2) : place]
        if self.number is not None and noun == "object":
            self.clause.claims.append(Claim("count", self.number, not self.negated))
        elif word in ("objects", "shapes") and before[-1:] == ["no"]:
            self.clause.claims.append(Claim("count", "zero", True))
        elif noun in SHAPES and self.number not in (None, "one"):
            self.clause.claims.append(Claim("copies", f"{self.number} {noun}", not self.negated))
        # "nothing about the ring changes": the ring itself is not denied.
        holds = not self.negated or "about" in before or "of" in before
        colours = tuple(value for kind, value in self._pending if kind == "colour")
        sizes = tuple(value for kind, value in self._pending if kind == "size")
        self.clause.mentions.append(Mention(noun, colours, sizes, holds))
        if noun == "object":
            self.subject = self.about
        elif noun in SHAPES and holds:
            self.subject = noun
        if holds:
            for kind, value in self._pending:
                self._add(kind, value, holds=True)
        self._pending, self.number = [], None


def _value(word: str, before: str, after: str, words: Sequence[str]) -> tuple[str, str] | None:
    """Return a word's attribute and value; None where it means something else in its place."""
    value = _VALUES.get(word)
    if value is None:
        return None
    if word == "still" and (after in _VALUES or after in _MOVES or after in _VERBS):
        return None  # "is still red"
    if word == "appears" and (
        after in _SEEMS or _VALUES.get(after, ("",))[0] in ("colour", "size")
    ):
        return None  # "appears to be red"
    if word in ("up", "down") and before in _NOT_UP:
        return None
    if word == "right" and before in ("is", "all", "are") and not set(words) & _MOVES:
        return None  # "that is right"
    if word in ("bigger", "larger", "smaller") and "than" in words:
        return None
    return value


def _noun_follows(words: Sequence[str], place: int) -> bool:
    """Return whether a noun comes next, with at most colours and sizes in between."""
    for word in words[place + 1 :]:
        if word in _NOUNS:
            return True
        if _VALUES.get(word, ("",))[0] not in ("colour", "size"):
            return False
    return False


def _deny_late(clause: _Clause) -> None:
    """Read what is denied after its noun: "the square is not in the video", "... is missing"."""
    negators = [place for place, word in enumerate(clause.words) if word in _NEGATORS]
    deniers = sum(word in _DENIERS for word in clause.words)
    if deniers:
        holds = not (len(negators) + deniers) % 2
        clause.mentions = [replace(mention, holds=holds) for mention in clause.mentions]
        clause.claims = [replace(claim, holds=holds) for claim in clause.claims]
        return
    nouns = [place for place, word in enumerate(clause.words) if word in _NOUNS]
    if not negators or not nouns or negators[-1] < nouns[-1]:
        return
    rest = set(clause.words[negators[-1] + 1 :])
    if rest & (_THERE | _APPEAR) and not any(w in _VALUES and w not in _APPEAR for w in rest):
        holds = not len(negators) % 2
        clause.mentions = [replace(mention, holds=holds) for mention in clause.mentions]
        named = {value for item in clause.mentions for value in (*item.colours, *item.sizes)}
        clause.claims = [claim for claim in clause.claims if holds or claim.value not in named]


def _bare(clause: _Clause) -> Iterator[bool]:
    words = clause.words
    if not words or clause.claims or clause.mentions or not set(words) <= _BARE:
        return
    if len(words) > 1 or words[0] in ("not", "never", "none"):
        yield not sum(word in _NEGATORS for word in words) % 2


def _in_time(clauses: Sequence[_Clause]) -> Iterable[_Clause]:
    """Return the clauses in the order of time that their words give, else of the text."""
    ordered = list(clauses)
    for place in range(1, len(ordered)):
        if ordered[place].opens == "after" and not ordered[place].begins_sentence:
            ordered[place - 1], ordered[place] = ordered[place], ordered[place - 1]
    for place in range(len(ordered) - 1):
        if ordered[place].opens == "before" and ordered[place].begins_sentence:
            ordered[place], ordered[place + 1] = ordered[place + 1], ordered[place]
    rank = 0
    for clause in ordered:
        words = {*clause.words, clause.opens}
        marked = bool(words & _LATE) - bool(words & _EARLY)
        rank = clause.rank = marked or rank  # one without a mark belongs to the one before it
    return sorted(ordered, key=lambda clause: clause.rank)


def _leaves_open(words: Sequence[str]) -> bool:
    """Return whether "or" stands between two values, so that neither is claimed to hold."""
    for place, word in enumerate(words):
        denied = any(w in _NEGATORS for w in words[:place])
        if word == "or" and not denied and _kinds(words[:place]) & _kinds(words[place:]):
            return True
    return False


def _kinds(words: Sequence[str]) -> set[str]:
    kinds = {_VALUES[word][0] for word in words if word in _VALUES}
    kinds |= {"noun" for word in words if word in _NOUNS}
    return kinds | {"number" for word in words if word in _NUMBERS}
