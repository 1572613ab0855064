"""Errors of clips: one where nothing can be read, and a warning where some frames can."""

from __future__ import annotations

from sharegptvideo.errors import UserError

__all__ = ["MediaError", "MediaWarning"]


class MediaError(UserError):
    """A clip that cannot be read, or a stem that cannot be resolved: one line, name and cause."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message, exit_code=exit_code)


class MediaWarning(UserWarning):
    """A clip that is damaged but not useless: the frames that decode were used."""
