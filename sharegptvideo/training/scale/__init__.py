"""Several processes: how they are launched, and what only one of them does."""

from __future__ import annotations

from sharegptvideo.training.scale.configs import config_about, config_names, config_path
from sharegptvideo.training.scale.processes import (
    Processes,
    processes,
    rank_of_environment,
    rows_for_all,
)

__all__ = [
    "Processes",
    "config_about",
    "config_names",
    "config_path",
    "processes",
    "rank_of_environment",
    "rows_for_all",
]
