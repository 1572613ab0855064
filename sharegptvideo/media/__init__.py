"""Clips: find one by its stem, sample its frames; images likewise. Nothing heavy until used."""

from sharegptvideo.errors import MediaError, MediaWarning
from sharegptvideo.media.folder import MediaFolder
from sharegptvideo.media.images import ImageFolder, read_image
from sharegptvideo.media.sampling import SampledFrames, sample_frames

__all__ = [
    "ImageFolder",
    "MediaError",
    "MediaFolder",
    "MediaWarning",
    "SampledFrames",
    "read_image",
    "sample_frames",
]
