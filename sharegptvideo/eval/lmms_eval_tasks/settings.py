"""What lmms-eval has no option for, from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment's part of a run; read when a task is loaded and when it is judged.

    | variable | as the option | default |
    | --- | --- | --- |
    | `SHAREGPTVIDEO_DATA_DIR` | `--data-dir` | the release on the Hub, or the built-in world |
    | `SHAREGPTVIDEO_MEDIA` | `--media` | the data folder |
    | `SHAREGPTVIDEO_JUDGE` | `--judge` | `answer-match` |
    | `SHAREGPTVIDEO_OUT` | `--out`, with a run folder a task in it | in lmms-eval's output path |

    An `openai:` judge finds its endpoint and key in `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
    """

    data_dir: Path | None
    media: Path | None
    judge: str
    out: Path | None

    @classmethod
    def read(cls) -> Settings:
        """The settings as the environment has them now; an empty variable is none."""
        return cls(
            data_dir=_path("SHAREGPTVIDEO_DATA_DIR"),
            media=_path("SHAREGPTVIDEO_MEDIA"),
            judge=os.environ.get("SHAREGPTVIDEO_JUDGE") or "answer-match",
            out=_path("SHAREGPTVIDEO_OUT"),
        )


def _path(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value).expanduser() if value else None
