"""The page of a study: experiments, their declared contrasts, and what came out."""

from sharegptvideo.reports.study.page import write_study

__all__ = ["write_study"]
