"""A leaderboard of runs: one static page, and the same figures as JSON."""

from sharegptvideo.reports.leaderboard.board import Board, collect_runs
from sharegptvideo.reports.leaderboard.page import render_page, write_leaderboard

__all__ = ["Board", "collect_runs", "render_page", "write_leaderboard"]
