"""What was found: all of it counted, the first of each kind listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from sharegptvideo._text import plural
from sharegptvideo.data.validate.checks import CHECKS, Severity

__all__ = ["LISTED", "Finding", "Report"]

LISTED = 20
"""Findings that are listed for each check, config and split; the others are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

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
        skipped: checks that did not run, with the reason.
        facts: figures of the checks that have some, such as clips looked at.
        counts: findings by (check, config, split) and severity.
        findings: those listed, in the order of checks.
    """

    folder: str
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    videos: int = 0
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
        """How many more findings of a check would be listed."""
        counter = self.counts.get((check, config, split))
        return max(0, LISTED - (counter.total() if counter else 0))

    def count(self, check: str, severity: Severity | None = None) -> int:
        """Findings of a check, in all or of one severity."""
        found = [counter for key, counter in self.counts.items() if key[0] == check]
        return sum(counter.total() if severity is None else counter[severity] for counter in found)

    def errors(self, checks: Iterable[str] = CHECKS) -> int:
        """How many errors there are, in all or of some checks."""
        return sum(self.count(check, "error") for check in checks)

    @property
    def warnings(self) -> int:
        """How many warnings there are."""
        return sum(self.count(check, "warning") for check in CHECKS)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors()

    def sentence(self) -> str:
        """All of it in one line."""
        rows = sum(sum(splits.values()) for splits in self.rows.values())
        return (
            f"{plural(self.errors(), 'error')}, {plural(self.warnings, 'warning')}; "
            f"{plural(rows, 'good row')} of {plural(len(self.rows), 'dataset')}, "
            f"{plural(self.videos, 'video')}"
        )

    def sorted_findings(self) -> list[Finding]:
        """Those listed, by check in its order; within a check as they were found."""
        order = {name: place for place, name in enumerate(CHECKS)}
        return sorted(self.findings, key=lambda finding: order[finding.check])

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "folder": self.folder,
            "ok": self.ok,
            "errors": self.errors(),
            "warnings": self.warnings,
            "rows": self.rows,
            "videos": self.videos,
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
