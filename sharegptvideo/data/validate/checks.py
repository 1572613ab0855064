"""Every check by its name: what it finds, and whether that is an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sharegptvideo.errors import unknown_name

__all__ = ["CHECKS", "SCHEMA_CHECKS", "Check", "Severity", "known_checks"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Check:
    """A thing looked for. `severity` holds unless a finding says otherwise."""

    name: str
    severity: Severity
    about: str
    needs_media: bool = False


def _table(*checks: Check) -> dict[str, Check]:
    return {check.name: check for check in checks}


CHECKS: dict[str, Check] = _table(
    Check("file", "error", "a file that cannot be read, or not to its end"),
    Check("unread-file", "warning", "a data file that no config or split reads"),
    Check("schema", "error", "a row that breaks the schema of its config"),
    Check("empty-text", "error", "a text that is empty where one belongs"),
    Check("no-words", "warning", "a text without a letter or a digit"),
    Check("long-text", "warning", "a text too long for a model's context beside the frames"),
    Check("odd-characters", "warning", "control characters, or the mark of a failed decoding"),
    Check(
        "tag-left",
        "error",
        "<video> or <image> left in a text; a warning where the reader takes it out",
    ),
    Check(
        "duplicate-id",
        "error",
        "an id used by two rows; a warning in the release layout, where the reader counts them up",
    ),
    Check("repeated-row", "warning", "a row that says the same as an earlier one, id apart"),
    Check("conflicting-answers", "warning", "one question on one video with more than one answer"),
    Check("equal-sides", "error", "a preference pair whose chosen and rejected are the same"),
    Check("reversed-scores", "error", "a preference pair whose rejected has the higher score"),
    Check("equal-scores", "warning", "a preference pair whose two scores are equal"),
    Check("leak-name", "error", "a training video that is a test video too, by its name"),
    Check(
        "leak-validation", "warning", "a training video that is a validation video too, by its name"
    ),
    Check("missing-media", "error", "a video that no media folder has", needs_media=True),
    Check("ambiguous-media", "error", "a video whose name fits two clips", needs_media=True),
    Check("unreadable-media", "error", "a clip that cannot be decoded", needs_media=True),
    Check(
        "leak-sight",
        "error",
        "a training video that shows what a test video of another name shows",
        needs_media=True,
    ),
)
"""All checks in the order of a report."""

SCHEMA_CHECKS = frozenset({"file", "schema", "empty-text", "tag-left", "duplicate-id"})
"""Those whose errors leave rows that cannot be loaded, or not as they are."""


def known_checks(names: Iterable[str]) -> frozenset[str]:
    """The names, if each is a check's.

    Raises:
        UserError: one is not; names the nearest.
    """
    found = frozenset(names)
    for name in sorted(found):
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
    return found
