"""The report of one run: its figures as tables, and a page with every sample."""

from sharegptvideo.reports.run.page import write_report

__all__ = ["write_report"]
