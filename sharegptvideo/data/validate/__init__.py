"""Validation of a folder of data, with a report.

`validate` reads every row of a folder in the release layout or of Parquet, notes all that is
amiss without stopping at it, and looks for training videos among the test videos: by name, and
by what they show.
"""

from sharegptvideo.data.validate.report import (
    CHECKS,
    SCHEMA_CHECKS,
    Check,
    Finding,
    Report,
    Severity,
)
from sharegptvideo.data.validate.validator import validate

__all__ = ["CHECKS", "SCHEMA_CHECKS", "Check", "Finding", "Report", "Severity", "validate"]
