"""Clips: find one by its stem, open it, sample its frames. Imports nothing heavy until used."""

from sharegptvideo.errors import MediaError, MediaWarning
from sharegptvideo.media.folder import MediaFolder
from sharegptvideo.media.sampling import SampledFrames, sample_frames

__all__ = ["MediaError", "MediaFolder", "MediaWarning", "SampledFrames", "sample_frames"]
