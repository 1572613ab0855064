"""Engines: what runs a stage over rows, in this process or on a cluster."""

from sharegptvideo.build.engines.run import ENGINES, Engine, StageReport, run_stage

__all__ = ["ENGINES", "Engine", "StageReport", "run_stage"]
