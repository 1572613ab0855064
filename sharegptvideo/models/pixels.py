"""The pixel path of Video-LLaVA, in torch alone.

The steps and their rounding follow `VideoLlavaVideoProcessor` of transformers 5.23 with its
torchvision backend, which cannot run where torch has no matching torchvision: bicubic resize with
antialiasing on uint8, centre crop, then rescaling and normalising as one float32 operation.
`tests/peers` compares the two to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from sharegptvideo._io import read_json
from sharegptvideo.errors import UserError
from sharegptvideo.models.checkpoints import checkpoint_folder

__all__ = ["CLIP_MEAN", "CLIP_STD", "Frames", "VideoPixels"]

Frames = npt.NDArray[np.uint8]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BICUBIC = 3  # PIL's number, which processor configs carry


@dataclass(frozen=True, slots=True)
class VideoPixels:
    """Frames to `pixel_values_videos`: resize the shortest side, crop the centre, normalise.

    Attributes:
        shortest_edge: side in pixels that the shorter edge is resized to.
        crop_height, crop_width: size in pixels of what comes out.
        mean, std: per RGB channel, of values in 0..1.
        rescale_factor: what a uint8 value is multiplied by before mean and std.
    """

    shortest_edge: int = 224
    crop_height: int = 224
    crop_width: int = 224
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    rescale_factor: float = 1 / 255

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> VideoPixels:
        """Take the settings of the `video_processor` part of a saved processor.

        Raises:
            UserError: the config asks for steps that this path does not have.
        """
        size, crop = config.get("size", {}), config.get("crop_size", {})
        size = size if isinstance(size, dict) else {"shortest_edge": size}
        crop = crop if isinstance(crop, dict) else {"height": crop, "width": crop}
        steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
        off = [step for step in steps if config.get(step) is False]
        if off or config.get("resample", _BICUBIC) != _BICUBIC or "height" in size:
            raise UserError(
                f"processor config: only bicubic resizing of the shortest edge, centre crop, "
                f"rescaling and normalising are supported (got size={size}, "
                f"resample={config.get('resample')}, off: {', '.join(off) or 'nothing'})"
            )
        return cls(
            shortest_edge=int(size.get("shortest_edge", 224)),
            crop_height=int(crop.get("height", 224)),
            crop_width=int(crop.get("width", 224)),
            mean=tuple(config.get("image_mean") or CLIP_MEAN),
            std=tuple(config.get("image_std") or CLIP_STD),
            rescale_factor=float(config.get("rescale_factor", 1 / 255)),
        )

    @classmethod
    def from_pretrained(cls, path: str) -> VideoPixels:
        """Read from a model folder or Hub id: the nested processor config first, as transformers.

        Raises:
            UserError: nothing there, or no processor config.
        """
        folder = checkpoint_folder(path)
        names = {
            "processor_config.json": "video_processor",
            "video_preprocessor_config.json": None,
            "preprocessor_config.json": None,
        }
        for name, part in names.items():
            if not (folder / name).is_file():
                continue
            config = read_json(folder / name)
            if part is None or part in config:
                return cls.from_config(config[part] if part else config)
        raise UserError(f"{path}: no processor config ({', '.join(names)}); is it a whole model?")

    def __call__(self, frames: Frames) -> torch.Tensor:
        """Turn frames, uint8 n×H×W×3 RGB, into float32 n×3×crop_height×crop_width.

        Raises:
            ValueError: another shape or type.
        """
        return self.normalise(self.resize_and_crop(frames))

    def resize_and_crop(self, frames: Frames) -> torch.Tensor:
        """Do the first half, still uint8: what is worth keeping of a clip that is used again."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be uint8 n×H×W×3, not {frames.dtype} {frames.shape}")
        video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).contiguous()
        return self._crop(self._resize(video)).contiguous()

    def normalise(self, video: torch.Tensor) -> torch.Tensor:
        """Do the second half: uint8 …×3×H×W to float32.

        One operation on 0..255, in transformers' order: (x - mean/f) / (std/f).
        """
        scale = 1.0 / self.rescale_factor
        mean = (torch.tensor(self.mean) * scale).view(-1, 1, 1)
        std = (torch.tensor(self.std) * scale).view(-1, 1, 1)
        return video.to(torch.float32).sub_(mean).div_(std)

    def _resize(self, video: torch.Tensor) -> torch.Tensor:
        height, width = video.shape[-2:]
        short, long = min(height, width), max(height, width)
        long = int(self.shortest_edge * long / short)
        size = (long, self.shortest_edge) if width <= height else (self.shortest_edge, long)
        if size == (height, width):
            return video
        # uint8 in, uint8 out: torch's own kernel, which is what torchvision calls on a CPU.
        return functional.interpolate(video, size=size, mode="bicubic", antialias=True)

    def _crop(self, video: torch.Tensor) -> torch.Tensor:
        height, width = video.shape[-2:]
        down, right = max(self.crop_height - height, 0), max(self.crop_width - width, 0)
        if down or right:
            sides = (right // 2, (right + 1) // 2, down // 2, (down + 1) // 2)
            video = functional.pad(video, sides)
            height, width = video.shape[-2:]
        top, left = int((height - self.crop_height) / 2.0), int((width - self.crop_width) / 2.0)
        return video[..., top : top + self.crop_height, left : left + self.crop_width]
