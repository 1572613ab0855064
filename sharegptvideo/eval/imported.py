"""Answers and verdicts of other programs as run folders: the paper's released results.

Its pipeline writes, for each test set:

SET/inference_test/MODEL.jsonl                    answers under caption-grounded
SET/inference_test_official/MODEL.jsonl           answers under official
SET/eval_test/MODEL.jsonl                         replies of the judge, likewise
SET/eval_test_official_JUDGE/MODEL.jsonl

An answer is `{id, modal_path, query, answer, model_prediction: {status, message}}`, a reply
`{id, response}`; while a program was at work, both lie in pieces in a folder MODEL/ instead. A row
may hold both, as those of the paper's frame judge do (`gpt4v_response`). Files in another layout
are taken by the names of test set, judge and model in their paths. What fits none of this is left
out, and counted by its reason.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import (
    KeyedLog,
    numbered_lines,
    open_lines,
    os_errors,
    parse_json,
    parse_row,
    sha256_file,
    write_json,
)
from sharegptvideo._text import rounded, shortened
from sharegptvideo.data.download.unpack import Limits, unpack
from sharegptvideo.errors import UserError
from sharegptvideo.eval.judge import item_of
from sharegptvideo.eval.run_dir import EvalRunDir, package_versions
from sharegptvideo.eval.score import score_answers
from sharegptvideo.eval.tasks import Task, load_questions, load_task
from sharegptvideo.judges.base import judge_items, verdict_row
from sharegptvideo.judges.protocol import ProtocolName
from sharegptvideo.judges.recorded import RecordedJudge, RecordedReply
from sharegptvideo.models.base import Question
from sharegptvideo.models.predictions import read_answer, read_id

__all__ = ["import_results"]

Row = dict[str, Any]

_SETS = {
    "msvd": "msvd_qa",
    "msrvtt": "msrvtt_qa",
    "tgif": "tgif_qa",
    "ssv2": "ssv2_qa",
    "webvid": "webvid_qa",
    "vidal": "vidal_qa",
    "actnet": "activitynet_qa",
    "activitynet": "activitynet_qa",
}
_STAGE = re.compile(r"(?:inference|eval)_test(?P<official>_official)?(?:_(?P<judge>.+))?")
_JUDGE = re.compile(r"gpt-?[0-9][a-z0-9.]*(?:-[a-z0-9.]+)*")
_PRED = re.compile(r"""(['"])pred\1\s*:""")
_PIECE = re.compile(r"[0-9_]+")  # 8_0: one of the pieces of a model's answers
# What else the paths of such files are made of: no name of a model.
_PLAIN = frozenset(
    {
        "answer",
        "answers",
        "compile",
        "eval",
        "evaluation",
        "inference",
        "judge",
        "official",
        "output",
        "outputs",
        "pred",
        "prediction",
        "predictions",
        "qa",
        "reply",
        "replies",
        "response",
        "responses",
        "result",
        "results",
        "test",
        "video",
        "verdicts",
    }
)
_ARCHIVES = (".tar.gz", ".tgz", ".tar")
_ROWS = (".jsonl", ".json", ".jsonl.gz")
_SHOWN = 200  # characters of a line that is left out


@dataclass(frozen=True, slots=True)
class _File:
    """A file of rows: where it lies, what it is called in messages, and what its path says."""

    path: Path
    label: str
    task: str | None = None
    model: str | None = None
    judge: str | None = None
    protocol: ProtocolName = "caption-grounded"
    answers: bool = False
    replies: bool = False


class _LeftOut:
    """What is not imported: by reason, how many rows and the first of them.

    `figures` are the rows `{result, name_or_path}` that the paper's programs add up: with the file
    and the line, as they are checked when all is imported.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, Row] = {}
        self.figures: list[tuple[_File, int, Row]] = []

    def add(self, reason: str, file: _File, line: int, content: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        first = {"file": file.label, "line": line, "text": shortened(text.strip(), _SHOWN)}
        entry = self.reasons.setdefault(reason, {"reason": reason, "count": 0, "first": first})
        entry["count"] += 1


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer: what was asked, and what was answered or why nothing was."""

    id: str
    video: str
    question: str
    reference: str
    text: str | None
    error: str | None = None


@dataclass(slots=True)
class _Group:
    """The files of one task and model: those with answers, and by judge those with replies."""

    answers: list[_File] = field(default_factory=list)
    replies: dict[tuple[str | None, ProtocolName], list[_File]] = field(default_factory=dict)


def import_results(
    sources: Sequence[Path | str],
    to: Path | str,
    *,
    task: str | None = None,
    model: str | None = None,
    judge: str | None = None,
    data_dir: Path | str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make run folders of recorded answers and verdicts, one for each model, judge and protocol.

    No judge is asked; the runs' is `recorded:NAME`. The same import again finishes what is missing.

    Args:
        sources: archives (.tar.gz, .tar), folders, or files of rows (.jsonl, .json).
        to: the folder that the run folders are made in, as MODEL.PROTOCOL.JUDGE.
        task, model, judge: names for the files that are not in the layout of the paper's programs
            and whose paths do not say them.
        data_dir: where the questions are. Each one without an answer then counts as failed, and
            captions and clips are known. None: the questions are those that were answered.
        limits: where unpacking an archive stops; names that lead out of it are refused always.
        progress: called as `progress(done, total, what)`.

    Returns:
        `runs` [{run, model, judge, protocol, tasks {name: figures of results.json}}]; `files`,
        how many were read; `checked` [{run, task, recorded, counted}], where the results have
        figures that the authors' programs computed, these and ours by their counting (accuracy in
        per cent/score); `left_out` [{reason, count, first {file, line, text}}].

    Raises:
        UserError: no such file, an archive that cannot or must not be unpacked, no answer that
            can be read, or a run folder that holds something else.
    """
    to, left_out = Path(to), _LeftOut()
    named = _File(Path(), "", task, model, judge)
    if task is not None:
        load_task(task)
    with contextlib.ExitStack() as opened:
        listed = [file for each in sources for file in _listed(Path(each), to, opened, limits)]
        groups: dict[tuple[str, str], _Group] = {}
        for number, each in enumerate(listed, start=1):
            file = _placed(each, named, left_out)
            if file is not None:
                _add(file, groups)
            if progress:
                progress(number, len(listed), "files looked at")
        # Before anything is written, since the data may be wrong or absent.
        questions = {name: _questions(name, data_dir) for name, _ in groups}
        origin = {"sources": [_source(Path(source)) for source in sources], "data_dir": data_dir}
        runs: dict[str, Row] = {}
        for number, ((name, answered_by), group) in enumerate(groups.items(), start=1):
            answers = _read_answers(group.answers, questions[name], left_out)
            judged = group.replies or {(None, load_task(name).protocol): []}
            for (judge_model, protocol), held in judged.items():
                replies = _read_replies(held, answers, left_out)
                part = _Part(
                    load_task(name), answered_by, judge_model, protocol, answers, replies,
                    questions[name],
                )  # fmt: skip
                if answers:
                    _write(part, to, origin, runs)
            if progress:
                progress(number, len(groups), "answers of a model to a test set imported")
    if not runs:
        raise _nothing(sources, left_out)
    files = sum(len(g.answers) + sum(map(len, g.replies.values())) for g in groups.values())
    report = {
        "runs": list(runs.values()),
        "files": files,
        "checked": _checked(left_out, runs),
        "left_out": list(left_out.reasons.values()),
    }
    write_json(to / "import.json", report)
    return report


def _listed(
    source: Path, to: Path, opened: contextlib.ExitStack, limits: Limits | None
) -> list[tuple[Path, str, tuple[str, ...]]]:
    """List the files of a source: path, label, and the parts of the path that may hold names."""
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if source.is_file() and source.name.endswith(_ARCHIVES):
        hint = "free some space, or name another folder as TMPDIR"
        with os_errors(tempfile.gettempdir(), hint):
            held = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="results-")))
            folder = unpack(source, held / "0", limits, label=str(source)).folder
        above: tuple[str, ...] = ()
    elif source.is_dir():
        if to.resolve().is_relative_to(source.resolve()):
            raise UserError(f"{to}: lies in {source}, which is read; give --to another folder")
        folder, above = source, (source.resolve().name,)
    elif source.name.endswith(_ROWS):
        return [(source, str(source), (_stem(source.name),))]
    else:
        kinds = ", ".join((*_ARCHIVES, *_ROWS))
        raise UserError(f"{source}: neither a folder nor one of {kinds}")
    files = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") for part in parts):
            names = (*above, *parts[:-1], _stem(parts[-1]))
            files.append((path, f"{source}/{'/'.join(parts)}", names))
    return files


def _stem(name: str) -> str:
    for suffix in _ROWS:
        name = name.removesuffix(suffix)
    return name


def _placed(
    listed: tuple[Path, str, tuple[str, ...]], named: _File, left_out: _LeftOut
) -> _File | None:
    """Return the file with what it holds and what it is of; None where it holds nothing of use."""
    path, label, names = listed
    file = _File(path, label)
    if not path.name.endswith(_ROWS):
        left_out.add("a file of another kind, not read", file, 0, path.name)
        return None
    held = next(((row, kinds) for _, row, _ in _rows(file) if row and (kinds := _holds(row))), None)
    if held is None:
        for line, row, text in _rows(file):
            if row and _text(row, "result") and _text(row, "name_or_path"):
                left_out.figures.append((file, line, row))
                continue
            reason = _NOT_JSON if row is None else "neither an answer nor a reply"
            left_out.add(reason, file, line, row or text)
        return None
    row, (answers, replies) = held
    file = replace(_named(file, names, named, row), answers=answers, replies=replies)
    missing = [
        what for what, value in (("test set", file.task), ("model", file.model)) if value is None
    ]
    if missing:
        reason = f"its path does not name the {' or the '.join(missing)}; say --task and --model"
        for line, each, text in _rows(file):
            left_out.add(reason, file, line, each or text)
        return None
    return file


def _holds(row: Row) -> tuple[bool, bool] | None:
    """Return whether a row holds an answer, and whether a reply; None where neither."""
    answer = "model_prediction" in row or isinstance(row.get("prediction"), str)
    reply = "response" in row or "gpt4v_response" in row
    return (answer, reply) if answer or reply else None


def _rows(file: _File) -> Iterator[tuple[int, Row | None, str]]:
    """Yield line, row and text of a file; the row is None where the line is no JSON object.

    A .json file holds a row, or a list of them, whose places count as lines.
    """
    if not file.path.name.endswith(".json"):
        with open_lines(file.path) as lines:
            for number, line in numbered_lines(file.label, lines):
                try:
                    yield number, parse_row(file.label, number, line), ""
                except UserError:
                    yield number, None, line.decode("utf-8", "replace")
        return
    with os_errors(file.path, action="read"):
        content = file.path.read_bytes()
    try:
        value = parse_json(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        yield 1, None, content.decode("utf-8", "replace")
        return
    for number, row in enumerate(value if isinstance(value, list) else [value], start=1):
        fits = isinstance(row, dict)
        yield number, row if fits else None, "" if fits else json.dumps(row)


def _named(file: _File, names: tuple[str, ...], named: _File, row: Row) -> _File:
    """Return the file with task, model, judge and protocol, as far as they are known."""
    frames = "gpt4v_response" in row
    for place, name in enumerate(names):
        stage = _STAGE.fullmatch(name)
        if stage and place + 1 < len(names):
            judge = stage["judge"] or named.judge
            model: str | None = names[place + 1]
            official = bool(stage["official"])
            test_set = _set_of(names)
            break
    else:
        tokens = {token for name in names for token in _tokens(name)}
        # A reply of that form shows the protocol where the path does not.
        official = "official" in tokens or bool(_PRED.search(_text(row, "response") or ""))
        test_set = _set_of(names)
        judge = named.judge or next(iter(_JUDGE.findall(" ".join(names).lower())), None)
        model = named.model or _model_of(names)
        if named.task is not None:
            return replace(
                file,
                task=named.task,
                model=model,
                judge=judge,
                protocol="frames" if frames else load_task(named.task).protocol,
            )
    task = None if test_set is None else _SETS[test_set] + ("_official" if official else "")
    return replace(
        file,
        task=task,
        model=model,
        judge=judge or ("gpt-4v" if frames else None),
        protocol="frames" if frames else "official" if official else "caption-grounded",
    )


def _tokens(name: str) -> list[str]:
    return [token for token in re.split(r"[^a-z0-9]+", name.lower()) if token]


def _set_of(names: Sequence[str]) -> str | None:
    """Return the test set that the parts of a path name; a part of that name goes first."""
    exact = [name.lower() for name in names if name.lower() in _SETS]
    if exact:
        return exact[-1]
    for name in reversed(names):
        among = {token for token in _tokens(name) if token in _SETS}
        if among:
            return among.pop() if len(among) == 1 else None
    return None


def _model_of(names: Sequence[str]) -> str | None:
    """Return the last part of a path that is made of more than plain words, sets and judges."""
    for name in reversed(names):
        rest = _JUDGE.sub(" ", name.lower())
        words = [token for token in _tokens(rest) if token not in _SETS and token not in _PLAIN]
        if words and not _PIECE.fullmatch(name):
            return name
    return None


def _add(file: _File, groups: dict[tuple[str, str], _Group]) -> None:
    assert file.task is not None, "others are left out"
    assert file.model is not None, "others are left out"
    group = groups.setdefault((file.task, file.model), _Group())
    if file.answers:
        group.answers.append(file)
    if file.replies:
        group.replies.setdefault((file.judge, file.protocol), []).append(file)


def _questions(task: str, data_dir: Path | str | None) -> list[Question] | None:
    return None if data_dir is None else load_questions(load_task(task), Path(data_dir))


def _read_answers(
    files: Sequence[_File], questions: Sequence[Question] | None, left_out: _LeftOut
) -> dict[str, _Answer]:
    """Read the answers by id. Of two to one id the last counts, but no failure after an answer."""
    asked = {question.id: question.question.split() for question in questions or ()}
    answers: dict[str, _Answer] = {}
    for file in files:
        for line, row, text in _rows(file):
            answer = _NOT_JSON if row is None else _answer(row)
            if isinstance(answer, str):
                left_out.add(answer, file, line, row or text)
                continue
            if asked.get(answer.id, answer.question.split()) != answer.question.split():
                left_out.add(_OTHER_QUESTION, file, line, row)
                continue
            earlier = answers.get(answer.id)
            if earlier is not None:
                again = "the same answer again" if answer == earlier else _SECOND_ANSWER
                left_out.add(again, file, line, row)
                if answer.text is None:
                    continue
            answers[answer.id] = answer
    return answers


_NOT_JSON = "not a JSON object"
_OTHER_QUESTION = "an answer to another question than that of its id in --data-dir"
_SECOND_ANSWER = "a second answer to the same id (the last one counts)"
_SECOND_REPLY = "a second reply to the same id (the last one counts)"


def _answer(row: Row) -> _Answer | str:
    """Return the answer that a row holds, or why it is left out."""
    key = read_id(row)
    question = _text(row, "query", "question", "prompt")
    clip = _text(row, "modal_path", "video", "video_id")
    if not key:
        return "an answer without an id"
    if not question:
        return "an answer without a question (query)"
    if not clip:
        return "an answer without a clip (modal_path)"
    answered, error = read_answer(row.get("model_prediction", row.get("prediction")))
    if error is None and answered is None:
        return "no text as the answer (model_prediction.message)"
    return _Answer(
        key,
        clip.rstrip("/").rpartition("/")[2],
        question.strip(),
        _text(row, "answer", "anwer", "reference") or "",
        answered,
        error,
    )


def _text(row: Row, *names: str) -> str | None:
    return next((row[name] for name in names if isinstance(row.get(name), str)), None)


def _read_replies(
    files: Sequence[_File], answers: Mapping[str, _Answer], left_out: _LeftOut
) -> dict[str, RecordedReply]:
    """Read the replies by the ids of the answers that they are on."""
    replies: dict[str, RecordedReply] = {}
    for file in files:
        for line, row, text in _rows(file):
            reply = _NOT_JSON if row is None else _reply(row)
            key = read_id(row) if row else None
            if isinstance(reply, str):
                reason = reply
            elif key is None:
                reason = "a reply without an id"
            elif key not in answers:
                reason = "a reply to an answer that is not there"
            elif answers[key].text is None:
                reason = "a reply to an answer that failed"
            else:
                reason = ""
                if key in replies:
                    reason = "the same reply again" if reply == replies[key] else _SECOND_REPLY
                replies[key] = reply
            if reason:
                left_out.add(reason, file, line, row or text)
    return replies


def _reply(row: Row) -> RecordedReply | str:
    """Return the reply that a row holds, or why it is left out."""
    text = _text(row, "response", "gpt4v_response")
    if text is not None:
        return RecordedReply(text)
    if isinstance(row.get("error"), str) and "response" not in row:
        error = " ".join(row["error"].split())
        return RecordedReply(error=f"failed when recorded: {shortened(error, _SHOWN)}")
    return "no text as the reply (response)"


@dataclass(frozen=True, slots=True)
class _Part:
    """One task of one run."""

    task: Task
    model: str
    judge: str | None
    protocol: ProtocolName
    answers: Mapping[str, _Answer]
    replies: Mapping[str, RecordedReply]
    questions: Sequence[Question] | None
    """Those of the data, where they are there."""

    def asked(self) -> tuple[Sequence[Question], Row]:
        """Return what was asked, and the ids that answers and data do not share."""
        if self.questions is None:
            return [
                Question(each.id, self.task.name, each.video, each.question, each.reference)
                for each in self.answers.values()
            ], {}
        known = {question.id for question in self.questions}
        missing = [key for key in known if key not in self.answers]
        foreign = [key for key in self.answers if key not in known]
        remarks = {"missing_predictions": sorted(missing), "foreign_predictions": foreign}
        return self.questions, {name: ids for name, ids in remarks.items() if ids}

    @property
    def folder(self) -> str:
        """The run folder's name."""
        name = f"{self.model}.{self.protocol}.{self.judge or 'unknown-judge'}"
        return re.sub(r"[^\w.+-]", "_", name)


def _write(part: _Part, to: Path, origin: Row, runs: dict[str, Row]) -> None:
    """Write one task into its run folder, and add its figures to `runs`."""
    asked, remarks = part.asked()
    judge = RecordedJudge(part.judge, part.protocol, part.replies)
    path = to / part.folder
    with EvalRunDir(path, _settings(part, judge, origin)) as run:
        answered = []
        for question in asked:
            answer = part.answers.get(question.id)
            _append(run.predictions, _prediction(question, answer))
            if answer is not None and answer.text is not None:
                answered.append(item_of(question, answer.text))
        for item, verdict in judge_items(judge, answered):
            row = verdict_row(item, verdict)
            # Without the data the caption is not known, and so not the hash of all texts.
            _append(run.judgements, row if part.questions else row | {"item_hash": None})
        name = part.task.name
        figures = score_answers(asked, run.predictions.rows, run.judgements.rows, judge)
        run.write_results({name: figures | remarks})
    entry = {"run": str(path), "model": part.model, "judge": judge.name, "protocol": part.protocol}
    runs.setdefault(part.folder, entry | {"tasks": {}})["tasks"][name] = figures | remarks


def _prediction(question: Question, answer: _Answer | None) -> Row:
    row: Row = {
        "id": question.id,
        "task": question.task,
        "video": question.video,
        "question": question.question,
        "prediction": answer.text if answer else None,
        "status": "ok" if answer and answer.text is not None else "failed",
    }
    if row["status"] == "failed":
        row["error"] = answer.error if answer else "no answer is recorded"
    return row | {"frame_indices": None, "prompt_hash": None}


def _append(log: KeyedLog, row: Row) -> None:
    if log.rows.get(log.key_of(row)) != row:
        log.append(row)


def _settings(part: _Part, judge: RecordedJudge, origin: Row) -> Row:
    """Return the contents of run.json; null is what was not recorded."""
    task = part.task
    about = {
        "version": task.version,
        "config": task.config,
        "split": task.split,
        "protocol": part.protocol,
        "prompt_hash": None,
        "task_hash": None,
        "frames": None,
        "max_new_tokens": None,
        "judge": judge.describe(),
    }
    data_dir = origin["data_dir"]
    return {
        "model": {"spec": f"recorded:{part.model}", "kind": "recorded", "name": part.model},
        "judge": judge.name,
        "tasks": {task.name: about},
        "seeds": {},
        "data": {
            "data_dir": None if data_dir is None else str(data_dir),
            "media": None,
            "task_path": None,
            "limit": None,
        },
        "imported": origin["sources"],
        "packages": package_versions(),
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _source(path: Path) -> Row:
    return {"path": str(path), "sha256": sha256_file(path) if path.is_file() else None}


def _checked(left_out: _LeftOut, runs: Mapping[str, Row]) -> list[Row]:
    """Return recorded figures beside ours; of several on the same replies the last counts."""
    by_name = {(run["model"], run["judge"], run["protocol"]): run for run in runs.values()}
    checked: dict[tuple[str, str], Row] = {}
    for file, line, row in left_out.figures:
        names = tuple(_stem(part) for part in row["name_or_path"].split("/") if part)
        named = _named(file, names, _File(Path(), ""), {})
        run = by_name.get((named.model, f"recorded:{named.judge or 'unknown'}", named.protocol))
        figures = run["tasks"].get(named.task) if run else None
        if run is None or figures is None:
            left_out.add("a figure of replies that are not there", file, line, row)
            continue
        accuracy, score = figures["paper_accuracy"], figures["paper_score"]
        counted = (
            None if None in (accuracy, score) else f"{rounded(100 * accuracy)}/{rounded(score)}"
        )
        checked[run["run"], named.task or ""] = {
            "run": run["run"],
            "task": named.task,
            "recorded": row["result"],
            "counted": counted,
        }
    return list(checked.values())


def _nothing(sources: Sequence[Path | str], left_out: _LeftOut) -> UserError:
    reasons = [
        f"{entry['reason']} ({entry['count']}, first {entry['first']['file']}"
        f":{entry['first']['line']})"
        for entry in left_out.reasons.values()
    ]
    names = ", ".join(map(str, sources))
    return UserError(
        f"{names}: no answers that can be imported: {'; '.join(reasons) or 'no file of rows'}",
        exit_code=1,
    )
