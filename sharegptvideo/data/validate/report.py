"""Checks and the report of their findings: all of them counted, the first of each kind listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sharegptvideo._text import plural
from sharegptvideo.errors import unknown_name

__all__ = [
    "CHECKS",
    "LISTED",
    "SCHEMA_CHECKS",
    "Check",
    "Finding",
    "Report",
    "Severity",
    "known_checks",
]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Check:
    """A check by name, and what it is about. A finding may have another severity than it."""

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
    Check("missing-media", "error", "a video or image that no media folder has", needs_media=True),
    Check(
        "ambiguous-media", "error", "a video or image whose name fits two files", needs_media=True
    ),
    Check("unreadable-media", "error", "a clip or image that cannot be decoded", needs_media=True),
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
    """Return the names, if each is a check's.

    Raises:
        UserError: one is not; names the nearest.
    """
    checks = frozenset(names)
    for name in sorted(checks):
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
    return checks


LISTED = 20
"""Findings that are listed for each check, config and split; the others are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a check.

    `where` is FILE:LINE in JSONL and "FILE: row N" in Parquet, both counted from 1. What is not
    known of `config`, `split`, `id`, `where` is None.
    """

    check: str
    severity: Severity
    message: str
    config: str | None = None
    split: str | None = None
    id: str | None = None
    where: str | None = None


_Key = tuple[str, str | None, str | None]


@dataclass(slots=True)
class Report:
    """The outcome of `validate`.

    Attributes:
        folder: what was checked, as it was given.
        rows: by config and split, the rows that keep to the schema.
        videos: how many different ones these name.
        images: how many different images.
        skipped: checks that did not run, with the reason.
        facts: figures of the checks that have some, such as clips looked at.
        counts: findings by (check, config, split) and severity.
        findings: those listed, in the order of checks.
    """

    folder: str
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    videos: int = 0
    images: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    counts: dict[_Key, Counter[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(
        self,
        check: str,
        message: str,
        *,
        severity: Severity | None = None,
        config: str | None = None,
        split: str | None = None,
        id: str | None = None,
        where: str | None = None,
        listed: bool | None = None,
    ) -> None:
        """Count a finding, unless its check is skipped, and list it while there is room."""
        if check in self.skipped:
            return
        severity = severity or CHECKS[check].severity
        counter = self.counts.setdefault((check, config, split), Counter())
        counter[severity] += 1
        if counter.total() <= LISTED if listed is None else listed:
            self.findings.append(Finding(check, severity, message, config, split, id, where))

    def room(self, check: str, config: str | None, split: str | None) -> int:
        """Return how many more findings of a check would be listed."""
        counter = self.counts.get((check, config, split))
        return max(0, LISTED - (counter.total() if counter else 0))

    def count(self, check: str, severity: Severity | None = None) -> int:
        """Count the findings of a check, in all or of one severity."""
        counters = [counter for key, counter in self.counts.items() if key[0] == check]
        return sum(
            counter.total() if severity is None else counter[severity] for counter in counters
        )

    def errors(self, checks: Iterable[str] = CHECKS) -> int:
        """Count the errors, in all or of some checks."""
        return sum(self.count(check, "error") for check in checks)

    @property
    def warnings(self) -> int:
        """The number of warnings."""
        return sum(self.count(check, "warning") for check in CHECKS)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors()

    def sentence(self) -> str:
        """Return a summary in one line."""
        rows = sum(sum(splits.values()) for splits in self.rows.values())
        return (
            f"{plural(self.errors(), 'error')}, {plural(self.warnings, 'warning')}; "
            f"{plural(rows, 'good row')} of {plural(len(self.rows), 'dataset')}, "
            f"{plural(self.videos, 'video')}"
            + (f", {plural(self.images, 'image')}" if self.images else "")
        )

    def sorted_findings(self) -> list[Finding]:
        """Return the listed findings, by check in its order; within a check as they came."""
        order = {name: place for place, name in enumerate(CHECKS)}
        return sorted(self.findings, key=lambda finding: order[finding.check])

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "folder": self.folder,
            "ok": self.ok,
            "errors": self.errors(),
            "warnings": self.warnings,
            "rows": self.rows,
            "videos": self.videos,
            "images": self.images,
            "checks": {
                name: {
                    "about": check.about,
                    "errors": self.count(name, "error"),
                    "warnings": self.count(name, "warning"),
                    "skipped": self.skipped.get(name),
                }
                for name, check in CHECKS.items()
            },
            "counts": [
                {"check": check, "config": config, "split": split, **counter}
                for (check, config, split), counter in self.counts.items()
            ],
            "facts": self.facts,
            "listed_of_each": LISTED,
            "findings": [asdict(finding) for finding in self.sorted_findings()],
        }
