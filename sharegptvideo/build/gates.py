"""Quality gates: what is wrong with the rows of a stage, before anything is published.

`check_rows` reads captions or questions once, and names each row that fails a gate, with a short
reason. Rows are judged by themselves first, then compared with the test sets, and what is left
with one another: of two that say nearly the same the earlier one stays. Nothing is dropped here:
`write_dataset` leaves flagged rows out, or marks them.

The rules are about English. What they rest on: `sharegptvideo.build.texts` (refusals, languages),
`sharegptvideo.build.questions`, `sharegptvideo.data.stats` (near-duplicates, the lexicon's words
of time) and `sharegptvideo.data.validate` (names and fingerprints of clips).
"""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharegptvideo._concurrency import (
    Progress,
    available_cores,
    no_progress,
    pooled_map,
    worker_pool,
)
from sharegptvideo._io import full_disk_errors, write_json, write_jsonl
from sharegptvideo._text import percent, plural
from sharegptvideo.build.questions import QUESTION_GATES, Cause, question_causes, signature
from sharegptvideo.build.texts import language_problem, refusal
from sharegptvideo.data.stats.duplicates import ShingleFile, Shingles, TextIndex, groups, shingles
from sharegptvideo.data.stats.lexicon import matcher
from sharegptvideo.data.stats.tokens import TokenBatch, distinct, hashes, text_hash, tokenise
from sharegptvideo.data.validate.clips import Shelves, described, fingerprints_of
from sharegptvideo.data.validate.copies import Gallery
from sharegptvideo.data.validate.fingerprint import Fingerprint, FingerprintCache
from sharegptvideo.data.validate.reading import test_rows
from sharegptvideo.data.validate.rows import equal_hashes
from sharegptvideo.data.validate.texts import MAX_CHARS
from sharegptvideo.data.validate.videos import NameIndex, Use, Videos, set_of
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.judges.rules.lexicon import words
from sharegptvideo.judges.rules.text import stem
from sharegptvideo.media import MediaError, MediaFolder
from sharegptvideo.media.index import index_media

__all__ = [
    "CAPTION_GATES",
    "GATES_VERSION",
    "MAX_REPETITION",
    "MIN_CAPTION_WORDS",
    "MIN_SHARED_WORDS",
    "QA_GATES",
    "Flagged",
    "GateReport",
    "GateSettings",
    "Kind",
    "check_rows",
    "write_gates",
]

GATES_VERSION = 1
"""Raise it when tests/golden/gates.json changes."""

Kind = Literal["captions", "qa"]
Marks = NDArray[np.bool_]

MIN_CAPTION_WORDS = 8
"""Fewer words are no detailed caption: of people's one-line descriptions of GIFs, of 10.6 words on
average, 7 % have fewer; the shortest caption of the release in miniature has 49."""

MAX_REPETITION = 0.5
"""Share of a caption's runs of four words that it has already had, from which it turns in circles;
of 11,763 captions and descriptions of people and of the synthetic world none has over 0.22."""

MIN_SHARED_WORDS = 15
"""Words of a question and its answer from which nearly the same words about two clips are no
chance. Of questions that people asked (41,263 of TGIF-QA, MSVD-QA and ActivityNet-QA) 4 are flagged
from 15 words on, 175 from 12, and 19 % with no such limit: many clips show a man who does
something."""

_LEAKS = {
    "leak-name": "a clip that a test set has under the same name",
    "leak-sight": "a clip that shows what a test clip shows",
    "leak-text": "a text that is nearly one of a test set",
}

CAPTION_GATES: dict[str, str] = {
    "empty": "a caption without a word",
    "too-short": "fewer words than `min_words`",
    "too-long": "more characters than `max_chars`",
    "refusal": "the model declined",
    "language": "a caption that does not look like English",
    "repeats-itself": "a caption most of whose runs of four words it has had before",
    "no-change": "neither a movement nor a change nor any order in time",
    **_LEAKS,
    "near-duplicate": "nearly the words of an earlier caption",
}
"""The gates of captions by name, in the order of a report."""

QA_GATES: dict[str, str] = {
    **QUESTION_GATES,
    **_LEAKS,
    "near-duplicate": "nearly the words of an earlier question with its answer, about any clip",
}
"""The gates of questions by name, in the order of a report."""

_GATES: dict[Kind, dict[str, str]] = {"captions": CAPTION_GATES, "qa": QA_GATES}
_NEEDED: dict[Kind, tuple[str, ...]] = {
    "captions": ("id", "video", "caption"),
    "qa": ("id", "video", "question", "answer"),
}

# A caption that has none of these forms, and no word of time or direction of the lexicon, says
# what is there and not what happens: all captions of the release in miniature have some, 99 % of
# the synthetic world's, none of its still pictures', 74 % of one-line descriptions of GIFs. Only
# forms with an ending count: "a slide", "the open door".
_HAPPENING = frozenset(
    map(
        stem,
        words(
            """
    move walk run jump turn lift raise lower open close pick throw catch drop fall rise climb dance
    swim fly drive ride pour stir chop cut push pull shake wave nod spin rotate slide roll swing
    bounce kick hit punch approach enter leave exit arrive follow chase reach grab bend lean kneel
    crouch step crawl hop skip stretch pan zoom tilt shift fade appear disappear grow shrink melt
    explode burst collapse flow drip splash blow flicker blink return put take bring carry remove
    add flip toss drag float drift dive leap march skate ski surf row paddle pedal gallop trot
    sprint jog rush race circle twist whirl sway rock clap applaud hug kiss bow point gesture tap
    press type draw paint write wipe wash scrub brush mix knead peel slice fold unfold wrap unwrap
    tie bite chew lick drink sip eat swallow feed pet stroke scratch dig build break smash crush
    tear rip shoot fire transform change become begin stop pause continue reveal emerge vanish land
    launch accelerate slow speed perform play fight wrestle attack dodge serve sweep glide stroll
    wander advance retreat descend ascend laugh talk speak sing shout cook comb rub celebrate cheer
    chat interact demonstrate assemble prepare adjust clean search examine come go get try make do
    """
        ),
    )
)
_ENDINGS = ("s", "ing", "ed")
_NOT_HAPPENING = frozenset(words("leaves waves falls steps cuts drops rocks this does dress"))

_BATCH = 1000
_AHEAD = 4
_STEP_CLIPS = 100
_LISTED = 20
_RUN = 4  # words
_CLIP_FACTS = ("compared", "without_clip", "unreadable", "showing_too_little")


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Which gates are on, and their marks.

    Attributes:
        only: the gates to apply, by name; None for all. Names of the other kind do nothing.
        without: gates to leave out.
        min_words: of a caption.
        max_chars: of a caption.
        workers: processes; None for one a core. It changes no result.
    """

    only: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    min_words: int = MIN_CAPTION_WORDS
    max_chars: int = MAX_CHARS
    workers: int | None = None

    def gates(self, kind: Kind) -> tuple[str, ...]:
        """Return the names of the gates of a kind that are on, in the order of a report.

        Raises:
            UserError: a name that is no gate's; names the nearest.
        """
        known = CAPTION_GATES | QA_GATES
        for name in (*(self.only or ()), *self.without):
            if name not in known:
                raise unknown_name("gate", name, known)
        return tuple(
            name
            for name in _GATES[kind]
            if (self.only is None or name in self.only) and name not in self.without
        )


class Flagged(NamedTuple):
    """A row that failed: its id, and why."""

    id: str
    causes: tuple[Cause, ...]

    @property
    def gates(self) -> list[str]:
        """The gates that it failed, each once."""
        return list(dict.fromkeys(cause.gate for cause in self.causes))

    def as_dict(self) -> dict[str, Any]:
        """Return a line of `STAGE_gates.jsonl`."""
        return {
            "id": self.id,
            "gates": self.gates,
            "reasons": [cause.reason for cause in self.causes],
        }


@dataclass(slots=True)
class GateReport:
    """The outcome of `check_rows`.

    Attributes:
        kind: "captions" or "qa".
        gates: those that were on.
        marks: the marks of the gates that have some.
        rows: how many rows there were.
        flagged: those that failed, in their order.
        skipped: gates that were on and had nothing to go by, with the reason.
        doubts: alike names that are no proof, so that no row was flagged for them: how many, and
            the first in words.
        facts: figures of the comparison with test sets.
    """

    kind: Kind
    gates: tuple[str, ...]
    marks: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    flagged: list[Flagged] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    doubts: tuple[int, list[str]] = (0, [])
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Rows that failed each gate that was on and could be applied; a row may fail several."""
        failed = Counter(gate for row in self.flagged for gate in row.gates)
        return {name: failed[name] for name in self.gates if name not in self.skipped}

    @property
    def flags(self) -> dict[str, list[str]]:
        """The gates that each flagged row failed, by its id: what `write_dataset` takes."""
        return {row.id: row.gates for row in self.flagged}

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON values, without the rows."""
        return {
            "version": GATES_VERSION,
            "kind": self.kind,
            "rows": self.rows,
            "flagged": len(self.flagged),
            "by_gate": self.counts,
            "off": [name for name in _GATES[self.kind] if name not in self.gates],
            "skipped": self.skipped,
            "marks": self.marks,
            "doubts": self.doubts[0],
            "doubts_listed": self.doubts[1],
            "facts": self.facts,
        }

    def sentence(self) -> str:
        """Return a summary in one line."""
        if not self.flagged:
            return f"gates: all {plural(self.rows, 'row')} pass"
        failed = sorted(
            ((name, count) for name, count in self.counts.items() if count), key=lambda one: -one[1]
        )
        share = percent(len(self.flagged) / self.rows)
        return (
            f"gates: {plural(len(self.flagged), 'row')} of {self.rows:,} flagged ({share}): "
            + ", ".join(f"{name} {count:,}" for name, count in failed)
        )


def write_gates(out: Path, stage: str, report: GateReport) -> None:
    """Write `STAGE_gates.jsonl`, a line a flagged row, and the summary, `STAGE_gates.json`.

    Raises:
        UserError: the folder cannot be written.
    """
    write_jsonl(out / f"{stage}_gates.jsonl", (row.as_dict() for row in report.flagged))
    write_json(out / f"{stage}_gates.json", report.as_dict())


def check_rows(
    kind: Kind,
    rows: Iterable[Mapping[str, Any]],
    *,
    settings: GateSettings | None = None,
    against: Sequence[Path] = (),
    media: Sequence[Path] = (),
    progress: Progress | None = None,
) -> GateReport:
    """Name the rows that fail a gate; the rows are read once and none is changed.

    In memory are about 150 bytes a row, the rows that fail, and the test sets. The words of all
    rows wait in temporary files, about 600 bytes for a caption of 120 words; pages of these are
    mapped while rows are compared, and the system may drop them.

    Args:
        kind: "captions" for rows with `id`, `video`, `caption`; "qa" for rows with `id`, `video`,
            `question`, `answer` and, for the gate that asks whether it holds the answer,
            `caption`. Both may have `source` and `video_path`.
        rows: the rows.
        settings: the gates and their marks.
        against: folders with test sets, in the release layout or of Parquet: rows about their
            clips, or with their texts, leak. Without any, those gates are skipped, and say so.
        media: folders with the clips of rows without `video_path`, and of test sets whose clips do
            not lie in their own folder. Fingerprints are kept in the cache folder, so that a run
            that was stopped goes on where it was.
        progress: called with (done, total, what).

    Raises:
        UserError: an unknown gate; a row without what its kind has; a folder without test rows;
            no room for the temporary files.
    """
    settings = settings or GateSettings()
    gates = settings.gates(kind)
    marks = {"min_words": settings.min_words, "max_chars": settings.max_chars}
    report = GateReport(kind, gates, marks if kind == "captions" else {})
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            full_disk_errors(tempfile.gettempdir(), "free some space there, or set TMPDIR")
        )
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        names = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
        checker = _Checker(
            report, settings, progress or no_progress, ShingleFile(files[0], files[1]), names
        )
        if {*_LEAKS} & {*gates}:
            checker.take_tests(against)
        checker.read(rows)
        checker.compare_clips(media, against)
        checker.compare_rows()
        report.flagged = list(checker.flagged())
    return report


class _Job(NamedTuple):
    """Texts of a batch: (caption,) or (video, question, answer, caption)."""

    first: int
    texts: list[tuple[str, ...]]


@dataclass(slots=True)
class _Checked:
    """A batch's causes by the place in it, its shingles, its questions' signatures."""

    first: int
    causes: list[tuple[int, Cause]]
    shingles: Shingles
    lengths: list[int]
    asked: list[int] = field(default_factory=list)


def _check_captions(settings: GateSettings, job: _Job) -> _Checked:
    texts = [row[0] for row in job.texts]
    tokens = tokenise(texts)
    lengths = tokens.lengths.tolist()
    gates = frozenset(settings.gates("captions"))
    still = ~_happens(tokens, texts)
    repeated = _repetition(tokens)
    causes = []
    for place, text in enumerate(texts):
        for cause in _caption_causes(text, lengths[place], settings):
            if cause.gate in gates:
                causes.append((place, cause))
        if lengths[place] and repeated[place] > MAX_REPETITION and "repeats-itself" in gates:
            share = percent(float(repeated[place]), 0)
            causes.append((place, Cause("repeats-itself", f"{share} of its runs of {_RUN} words")))
    if "no-change" in gates:
        bad = {place for place, _ in causes}
        # Of a text that is no English caption the words of time say nothing.
        quiet = (place for place in np.flatnonzero(still).tolist() if lengths[place])
        causes += [
            (place, Cause("no-change", "no movement, change or order in time"))
            for place in quiet
            if place not in bad
        ]
    return _Checked(job.first, causes, shingles(tokens), lengths)


def _caption_causes(text: str, length: int, settings: GateSettings) -> Iterator[Cause]:
    if not length:
        yield Cause("empty", "no words")
        return
    if length < settings.min_words:
        yield Cause("too-short", plural(length, "word"))
    if len(text) > settings.max_chars:
        yield Cause("too-long", plural(len(text), "character"))
    declined = refusal(text)
    if declined:
        yield Cause("refusal", f"says {declined!r}")
    language = language_problem(text)
    if language:
        yield Cause("language", f"looks like: {language}")


def _happens(tokens: TokenBatch, texts: Sequence[str]) -> Marks:
    """Return whether each caption speaks of time, a direction, or something that happens."""
    columns = [
        column
        for column, (aspect, name) in enumerate(matcher().names)
        if aspect == "time" or name == "direction"
    ]
    happens: Marks = np.asarray(matcher().counts(tokens, texts)[:, columns].any(axis=1), np.bool_)
    verbs = np.array([_is_happening(word) for word in tokens.vocabulary], np.bool_)
    if len(tokens.ids):
        happens[tokens.captions[verbs[tokens.ids]]] = True
    return happens


@functools.lru_cache(maxsize=1 << 18)
def _is_happening(word: str) -> bool:
    return word.endswith(_ENDINGS) and word not in _NOT_HAPPENING and stem(word) in _HAPPENING


def _repetition(tokens: TokenBatch) -> NDArray[np.float64]:
    """Return the share of each caption's runs of four words that it has had before."""
    values, places = hashes(tokens, _RUN)
    captions = tokens.captions[places]
    size = len(tokens.starts) - 1
    runs = np.bincount(captions, minlength=size)
    keys = distinct((captions.astype(np.uint64) << np.uint64(32)) | (values >> np.uint64(32)))
    different = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=size)
    return np.where(runs > 0, 1.0 - different / np.maximum(runs, 1), 0.0)


def _check_questions(settings: GateSettings, job: _Job) -> _Checked:
    gates = frozenset(settings.gates("qa"))
    causes = []
    asked = []
    for place, (video, question, answer, caption) in enumerate(job.texts):
        failed = [
            cause
            for cause in question_causes(caption or None, question, answer)
            if cause.gate in gates
        ]
        causes += [(place, cause) for cause in failed]
        kind, stems = signature(question, answer) if question.strip() else ("", frozenset())
        asked.append(text_hash("\n".join((video, kind, *sorted(stems)))))
    tokens = tokenise([f"{question} {answer}" for _, question, answer, _ in job.texts])
    return _Checked(job.first, causes, shingles(tokens), tokens.lengths.tolist(), asked)


@dataclass(slots=True)
class _Tests:
    """The test sets that rows are compared with."""

    videos: Videos = field(default_factory=Videos)
    names: NameIndex = field(default_factory=lambda: NameIndex(()))
    texts: TextIndex | None = None
    places: list[str] = field(default_factory=list)  # of the texts
    rows: int = 0

    @classmethod
    def of(cls, kind: Kind, folders: Sequence[Path]) -> _Tests:
        """Read the test sets of folders; the texts to compare are those of the rows' kind."""
        tests = cls()
        seen: set[str] = set()
        batch: list[str] = []
        parts: list[Shingles] = []
        for folder in folders:
            for config, read in test_rows(folder):
                row, name = read.row, config.name
                label = f"{name} in {folder}"
                tests.videos.add("test", row["video"], label, name.split("_")[0], tests.rows)
                tests.rows += 1
                text = (
                    row["caption"] if kind == "captions" else f"{row['question']} {row['answer']}"
                )
                if not text or text in seen:
                    continue
                seen.add(text)
                if kind == "qa" and len(text.split()) < MIN_SHARED_WORDS:
                    continue
                tests.places.append(f"{name}, {read.where}")
                batch.append(text)
                if len(batch) == _BATCH:
                    parts.append(shingles(tokenise(batch)))
                    batch.clear()
        if batch:
            parts.append(shingles(tokenise(batch)))
        tests.names = NameIndex(tests.videos.of("test"))
        if parts:
            tests.texts = TextIndex(Shingles.joined(parts))
        return tests


def _resolved(folders: Iterable[MediaFolder], video: str) -> Path | None:
    """Return the clip of a video in the first folder that has one and no two that fit."""
    for folder in folders:
        with contextlib.suppress(MediaError):
            if path := folder.resolve(video):
                return path
    return None


@dataclass(slots=True)
class _Checker:
    """One pass over the rows, then what only shows in all of them.

    Attributes:
        store: the shingles of all rows.
        names: a file with the id, video and path of the clip of each row.
        causes: by the row's number.
        like: rows that repeat another: the gate, and the number of the other.
    """

    report: GateReport
    settings: GateSettings
    progress: Progress
    store: ShingleFile
    names: IO[str]
    tests: _Tests = field(default_factory=_Tests)
    causes: dict[int, list[Cause]] = field(default_factory=dict)
    like: dict[int, tuple[str, int]] = field(default_factory=dict)
    lengths: array[int] = field(default_factory=lambda: array("I"))
    asked: array[int] = field(default_factory=lambda: array("Q"))

    def take_tests(self, against: Sequence[Path]) -> None:
        """Read the test sets, or note which gates have nothing to go by."""
        skipped = self.report.skipped
        if not against:
            skipped |= {
                name: "no test sets were given (--against FOLDER)"
                for name in _LEAKS
                if name in self.report.gates
            }
            return
        self.tests = _Tests.of(self.report.kind, against)
        self.report.facts["test_rows"] = self.tests.rows
        self.report.facts["test_videos"] = len(self.tests.videos.names())
        if "leak-text" in self.report.gates and self.tests.texts is None:
            what = "captions" if self.report.kind == "captions" else "questions long enough"
            skipped["leak-text"] = f"the test sets have no {what} to compare with"

    def read(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Judge each row by itself, its video by name, its text beside those of the test sets."""
        check = _check_captions if self.report.kind == "captions" else _check_questions
        workers = self.settings.workers or available_cores()
        compare = "leak-text" in self.report.gates and self.tests.texts is not None
        with worker_pool(workers) if workers > 1 else contextlib.nullcontext() as pool:
            jobs = self._jobs(rows)
            results = pooled_map(
                functools.partial(check, self.settings), jobs, pool=pool, ahead=_AHEAD
            )
            for batch in results:
                for place, cause in batch.causes:
                    self._add(batch.first + place, cause)
                if compare:
                    self._compare_texts(batch)
                self.store.add(batch.shingles)
                self.lengths.extend(batch.lengths)
                self.asked.extend(batch.asked)
                self.progress(batch.first + len(batch.lengths), 0, "rows checked")
        self.progress(self.report.rows, self.report.rows, "rows checked")

    def _jobs(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[_Job]:
        kind, by_name = self.report.kind, "leak-name" in self.report.gates
        columns = ("caption",) if kind == "captions" else ("video", "question", "answer", "caption")
        job = _Job(0, [])
        for number, row in enumerate(rows):
            for name in _NEEDED[kind]:
                if not isinstance(row.get(name), str):
                    what = f"no {name!r}" if row.get(name) is None else f"{name!r} is no text"
                    raise UserError(f"row {number + 1} ({row.get('id')}): {what}")
            self.report.rows += 1
            path = row.get("video_path")
            self.names.write(json.dumps([row["id"], row["video"], path and str(path)]) + "\n")
            if by_name and len(self.tests.names):
                self._compare_name(number, row["video"], row.get("source"))
            job.texts.append(tuple(row.get(name) or "" for name in columns))
            if len(job.texts) == _BATCH:
                yield job
                job = _Job(number + 1, [])
        if job.texts:
            yield job

    def _add(self, number: int, cause: Cause) -> None:
        self.causes.setdefault(number, []).append(cause)

    def _compare_name(self, number: int, video: str, source: str | None) -> None:
        match = self.tests.names.find(video, set_of(video, source))
        if match is None:
            return
        use, sure = match
        if sure:
            self._add(number, Cause("leak-name", f"same clip name as {use.video} of {use.config}"))
            return
        count, listed = self.report.doubts
        words = f"{video}: a bare number, as {use.video} of {use.config}, which several sets use"
        if words not in listed and len(listed) < _LISTED:
            listed.append(words)
        self.report.doubts = (count + 1, listed)

    def _compare_texts(self, batch: _Checked) -> None:
        assert self.tests.texts is not None
        nearest = self.tests.texts.find(batch.shingles)
        least = MIN_SHARED_WORDS if self.report.kind == "qa" else 1
        for place in np.flatnonzero(nearest >= 0).tolist():
            if batch.lengths[place] >= least:
                where = self.tests.places[nearest[place]]
                self._add(batch.first + place, Cause("leak-text", f"nearly the text of {where}"))

    def compare_clips(self, media: Sequence[Path], against: Sequence[Path]) -> None:
        """Flag rows whose clip shows what a test clip shows; each clip is decoded once."""
        gate = "leak-sight"
        if gate not in self.report.gates or gate in self.report.skipped:
            return
        workers = self.settings.workers
        shelves = Shelves(
            [index_media(root, workers=workers, progress=self.progress) for root in media]
        )
        # Not indexed, since that would open all training clips which lie there too.
        folders = [MediaFolder(root) for root in against]
        with FingerprintCache(workers) as cache:
            clips = (
                (use, path)
                for use in self.tests.videos.of("test")
                if (path := shelves.find(use.video) or _resolved(folders, use.video)) is not None
            )
            with contextlib.closing(fingerprints_of(cache, clips)) as taken:
                tests = [(use, one) for use, _, one in taken if one.readable]
            if not tests:
                self.report.skipped[gate] = (
                    "no test clip that can be read is in the media folders or beside the test sets"
                )
                return
            leaks = self._leaking(tests, cache, shelves)
            if cache.problem:
                self.report.facts["cache"] = cache.problem
        if not self.report.facts["clips"]["compared"]:
            self.report.skipped[gate] = "no clip of the rows is in the media folders"
        for number, _, video, _ in self._named() if leaks else ():
            if video in leaks:
                self._add(number, Cause(gate, leaks[video]))

    def _leaking(
        self, tests: list[tuple[Use, Fingerprint]], cache: FingerprintCache, shelves: Shelves
    ) -> dict[str, str]:
        """Return the videos whose clip shows what a test clip shows, each with the reason."""
        gallery = Gallery([fingerprint for _, fingerprint in tests])
        facts = Counter[str]()
        leaks: dict[str, str] = {}
        with contextlib.closing(fingerprints_of(cache, self._clips(shelves, facts))) as taken:
            for video, _, fingerprint in taken:
                facts["compared"] += 1
                facts["unreadable"] += not fingerprint.readable
                facts["showing_too_little"] += fingerprint.readable and len(fingerprint.ticks) < 2
                matches = gallery.find(fingerprint)
                if matches:
                    use = tests[matches[0].place][0]
                    doubt = "" if matches[0].sure else "; view both to be sure"
                    leaks[video] = (
                        f"looks like {use.video} of {use.config}: {described(matches[0])}{doubt}"
                    )
                if facts["compared"] % _STEP_CLIPS == 0:
                    self.progress(facts["compared"], 0, "clips compared")
        self.progress(facts["compared"], facts["compared"], "clips compared")
        self.report.facts["clips"] = {
            "test_clips": len(tests),
            "test_clips_showing_too_little": gallery.blank,
            **{name: facts[name] for name in _CLIP_FACTS},
            "fingerprints_taken": cache.taken,
            "fingerprints_kept": cache.kept,
        }
        return leaks

    def _clips(self, shelves: Shelves, facts: Counter[str]) -> Iterator[tuple[str, Path]]:
        """Yield (video, path) of each video that has a clip, once."""
        seen: set[int] = set()
        for _, _, video, given in self._named():
            key = text_hash(video)
            if key in seen:
                continue
            seen.add(key)
            path = Path(given) if given else shelves.find(video)
            if path is None:
                facts["without_clip"] += 1
            else:
                yield video, path

    def compare_rows(self) -> None:
        """Flag rows that repeat an earlier one, both of which pass all other gates."""
        size = self.report.rows
        passing = np.ones(size, np.bool_)
        passing[list(self.causes)] = False
        if "repeats" in self.report.gates:
            places = np.flatnonzero(passing)
            asked = np.frombuffer(self.asked, np.uint64)[places] if size else np.empty(0, np.uint64)
            for first, later in equal_hashes(array("Q", asked.tobytes())):
                self.like[int(places[later])] = ("repeats", int(places[first]))
                passing[places[later]] = False
        if "near-duplicate" in self.report.gates:
            if self.report.kind == "qa" and size:
                passing &= np.frombuffer(self.lengths, np.uint32) >= MIN_SHARED_WORDS
            group = groups(self.store.joined(), self.progress, among=np.flatnonzero(passing))
            for later in np.flatnonzero(group != np.arange(size)).tolist():
                self.like[later] = ("near-duplicate", int(group[later]))

    def flagged(self) -> Iterator[Flagged]:
        """Yield the rows that failed, in their order."""
        wanted = {other for _, other in self.like.values()}
        ids = {number: id for number, id, _, _ in self._named() if number in wanted}
        for number, id, _, _ in self._named() if self.causes or self.like else ():
            causes = list(self.causes.get(number, ()))
            if number in self.like:
                gate, other = self.like[number]
                says = "asks what {} asks" if gate == "repeats" else "nearly the text of {}"
                causes.append(Cause(gate, says.format(ids[other])))
            if causes:
                yield Flagged(id, tuple(causes))

    def _named(self) -> Iterator[tuple[int, str, str, str | None]]:
        """Yield (number, id, video, path of its clip where the row has one) of every row."""
        self.names.seek(0)
        for number, line in enumerate(self.names):
            id, video, path = json.loads(line)
            yield number, str(id), video, path
