"""Plain words: names, docstrings, comments and messages are free of the project's own idiom."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sharegptvideo"

NAMES = {
    "found": "what was found, such as `rows` or `paths`",
    "told": "`reported`, or what it is",
    "tell": "`report`",
    "look": "`fingerprint`, `copy`, or what it is",
    "looks": "`fingerprints`, `copies`, or what they are",
    "sight": "`fingerprint`",
    "mend": "`fix`",
    "spoken": "`assistant_mask`, or what it is",
    "patiently": "`retry`",
    "whoever": "`caller`",
    "forgotten": "`removed`",
}
"""Words that no name has as a part, and what to write instead."""

NOT_A_RIDDLE = re.compile(r"not_found|look_?up|look_?ahead")
"""Names of the field that have such a part."""

MODULES = re.compile(
    r"block|caption_study|choosing|coverage|during|gate|live|loading|look_store|looks|meter|pace"
    r"|planning|running|sending|sight|survey|totals|views|watching"
)
"""Names of modules that said what a module does, not what it is."""

WORDS = {
    r"mend(s|ed|ing)?": "fix",
    r"told|tells?|telling": "report, say, show",
    r"whoever": "the caller",
    r"in vain": "without a result",
    r"nobody": "no one, or what is missing",
    r"vouch\w*": "guarantee",
    r"for good": "permanently",
    r"looks? on|looking on": "watch",
    r"sight": "fingerprint, view",
    r"at hand": "available",
    r"behind": "after, served by, of",
    r"what comes of": "the result of",
    r"hopeless\w*": "permanent",
    r"(im)?patien(t|tly|ce)": "retry",
}
"""Words of docstrings, comments and messages, as patterns, and what to write instead."""

DATA: Mapping[str, frozenset[str]] = {
    "build/gates.py": frozenset({"sight"}),  # the name of a gate
    "data/validate/report.py": frozenset({"sight"}),  # the name of a check
    "data/validate/validator.py": frozenset({"sight"}),  # that check, and a key of the report
    "cli/doctor.py": frozenset({"mend"}),  # a key of `doctor --json`
    "judges/rules/answer_match.py": frozenset({"nobody", "tells"}),  # a word of answers; a reason
    "judges/rules/claims.py": frozenset({"behind"}),  # a word of answers
    "judges/rules/lexicon.py": frozenset({"tell", "told"}),  # words of answers
    "reports/validation.py": frozenset({"sight"}),  # a key of report.json
    "synthetic/reading.py": frozenset({"behind", "nobody"}),  # words of answers
    "synthetic/world.py": frozenset({"tell"}),  # a prompt
}
"""By file, the words of its strings that are data: texts to read, columns, keys of a contract."""


def rooms() -> list[str]:
    """Every package with its own modules, by its path in ours; "." is the ground."""
    return sorted(path.parent.relative_to(PACKAGE).as_posix() for path in _PACKAGES)


_PACKAGES = sorted(PACKAGE.rglob("__init__.py"))


def files_of(room: str) -> list[Path]:
    return sorted((PACKAGE / room).glob("*.py"))


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that a source gives to something, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)) | ast.MatchAs(name=str(name)):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case _:
                pass


def riddle(name: str) -> str | None:
    """What to write in place of a name, where a part of it is no plain word."""
    bare = NOT_A_RIDDLE.sub("", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return next((NAMES[part] for part in bare.split("_") if part in NAMES), None)


def texts_in(source: str) -> Iterator[tuple[int, str, bool]]:
    """Every comment and text of a source: its line, what it says, whether it is a string.

    Strings that stand next to each other are one text, since a message is often cut into several;
    docstrings count as comments, which are never data.
    """
    tree = ast.parse(source)
    bare = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value, id(node) not in bare
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False


@functools.cache
def _words() -> re.Pattern[str]:
    forms = "|".join(WORDS).replace(" ", r"\s+")
    return re.compile(rf"\b(?:{forms})\b", re.IGNORECASE)


def problems(source: str, data: frozenset[str] = frozenset()) -> list[tuple[int, str]]:
    """The lines of a source that use such a name or word, with what to write instead."""
    lines = [
        (line, f"name {name!r}: say {better}")
        for line, name in names_in(ast.parse(source))
        if (better := riddle(name)) is not None
    ]
    for first, text, is_string in texts_in(source):
        for match in _words().finditer(text):
            word = " ".join(match[0].lower().split())
            if is_string and word in data:
                continue
            line = first + text.count("\n", 0, match.start())
            better = next(better for form, better in WORDS.items() if re.fullmatch(form, word))
            lines.append((line, f"{word!r}: say {better}"))
    return sorted(lines)


def problems_of(room: str) -> list[str]:
    """The same for all files of a room, each with the file before it."""
    lines = []
    for path in files_of(room):
        name = path.relative_to(PACKAGE).as_posix()
        if MODULES.fullmatch(path.stem):
            lines.append(f"sharegptvideo/{name}: name the module for what it is")
        lines += [
            f"sharegptvideo/{name}:{line}: {problem}"
            for line, problem in problems(path.read_text("utf-8"), DATA.get(name, frozenset()))
        ]
    return lines


@pytest.mark.parametrize("room", rooms())
def test_words_are_plain(room: str) -> None:
    assert "\n".join(problems_of(room)) == ""


def test_data_is_still_there() -> None:
    """An exception goes with the text that it was made for."""
    for name, words in DATA.items():
        used = {
            match[0].lower()
            for _, text, is_string in texts_in((PACKAGE / name).read_text("utf-8"))
            if is_string
            for match in _words().finditer(text)
        }
        assert words <= used, f"{name}: no {words - used}"


SMALL = '''
"""Mend a file, whoever wrote it; for
good."""

from here import found as told, seen


class Look:
    """A fine word: behaviour, foretold, insight."""

    sight: int = 0  # the caller's view, behind it


def lookup(path, file_not_found, tell=None):
    self.mended_rows = f"{path} cannot be told, nor {tell}: impatience"
    data = ["behind", found]
    for look_ahead in data:
        yield look_ahead.tell()
'''


def test_names_and_words_are_named_with_their_lines() -> None:
    lines = [(line, problem.split(":")[0]) for line, problem in problems(SMALL)]
    assert lines == [
        (2, "'for good'"),
        (2, "'mend'"),
        (2, "'whoever'"),
        (5, "name 'told'"),
        (8, "name 'Look'"),
        (11, "'behind'"),
        (11, "name 'sight'"),
        (14, "name 'tell'"),
        (15, "'impatience'"),
        (15, "'told'"),
        (16, "'behind'"),
    ]
    data = problems(SMALL, frozenset({"behind", "mend"}))
    assert (16, "'behind': say after, served by, of") not in data
    assert (11, "'behind': say after, served by, of") in data, "a comment is no data"
    assert len(data) == len(lines) - 1
