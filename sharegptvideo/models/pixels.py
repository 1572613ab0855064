"""The pixel path of Video-LLaVA, in torch alone.

The steps and their rounding follow `VideoLlavaVideoProcessor` of transformers 5.23 with its
torchvision backend, which cannot run where torch has no matching torchvision: bicubic resize with
antialiasing on uint8, centre crop, then rescaling and normalising as one float32 operation.
`tests/peers` compares the two to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from sharegptvideo._io import read_json_object
from sharegptvideo.errors import UserError
from sharegptvideo.models.checkpoints import checkpoint_folder

__all__ = ["CLIP_MEAN", "CLIP_STD", "Frames", "VideoPixels", "authors_processor"]

Frames = npt.NDArray[np.uint8]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BILINEAR, _BICUBIC = 2, 3  # PIL's numbers, which processor configs carry
_FILES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class VideoPixels:
    """Frames to `pixel_values_videos`: resize the shortest side, crop the centre, normalise.

    Attributes:
        shortest_edge: side in pixels that the shorter edge is resized to.
        crop_height, crop_width: size in pixels of what comes out.
        mean, std: per RGB channel, of values in 0..1.
        rescale_factor: what a uint8 value is multiplied by before mean and std.
        bilinear, antialias: how it is resized. LLaVA-Hound's authors did so without antialiasing
            and without rounding back to uint8, clips linearly, images by bicubic interpolation;
            transformers' Video-LLaVA takes the latter with both.
        pad: put an image in the middle of a square of the mean colour first, as they did.
    """

    shortest_edge: int = 224
    crop_height: int = 224
    crop_width: int = 224
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    rescale_factor: float = 1 / 255
    bilinear: bool = False
    antialias: bool = True
    pad: bool = False

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> VideoPixels:
        """Take the settings of a part of a saved processor, for clips or for images.

        Raises:
            UserError: the config asks for steps that this path does not have.
        """
        size, crop = config.get("size", {}), config.get("crop_size", {})
        size = size if isinstance(size, dict) else {"shortest_edge": size}
        crop = crop if isinstance(crop, dict) else {"height": crop, "width": crop}
        steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
        off = [step for step in steps if config.get(step) is False]
        antialias = bool(config.get("antialias", True))
        bilinear = config.get("resample", _BICUBIC) == _BILINEAR
        known = bilinear or config.get("resample", _BICUBIC) == _BICUBIC
        if off or not known or (bilinear and antialias) or "height" in size:
            raise UserError(
                "processor config: only bicubic resizing of the shortest edge (or bilinear without "
                "antialiasing), centre crop, rescaling and normalising are supported (got "
                f"size={size}, resample={config.get('resample')}, antialias={antialias}, "
                f"off: {', '.join(off) or 'nothing'})"
            )
        return cls(
            shortest_edge=int(size.get("shortest_edge", 224)),
            crop_height=int(crop.get("height", 224)),
            crop_width=int(crop.get("width", 224)),
            mean=tuple(config.get("image_mean") or CLIP_MEAN),
            std=tuple(config.get("image_std") or CLIP_STD),
            rescale_factor=float(config.get("rescale_factor", 1 / 255)),
            bilinear=bilinear,
            antialias=antialias,
            pad=config.get("do_pad") is True,
        )

    @classmethod
    def from_pretrained(cls, path: str, kind: Literal["video", "image"] = "video") -> VideoPixels:
        """Read from a model folder or Hub id: the nested processor config first, as transformers.

        Args:
            kind: what is read, clips or images; images are as clips where nothing else is said.

        Raises:
            UserError: nothing there, or no processor config.
        """
        folder = checkpoint_folder(path)
        nested, *flat = _FILES
        if (folder / nested).is_file():
            config = read_json_object(folder / nested)
            for part in (f"{kind}_processor", "video_processor"):
                if part in config:
                    return cls.from_config(config[part])
        for name in flat if kind == "video" else reversed(flat):
            if (folder / name).is_file():
                return cls.from_config(read_json_object(folder / name))
        raise UserError(f"{path}: no processor config ({', '.join(_FILES)}); is it a whole model?")

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
        video = self._squared(video) if self.pad else video
        return self._crop(self._resize(video)).contiguous()

    def normalise(self, video: torch.Tensor) -> torch.Tensor:
        """Do the second half: uint8 …×3×H×W to float32.

        One operation on 0..255, in transformers' order: (x - mean/f) / (std/f).
        """
        scale = 1.0 / self.rescale_factor
        mean = (torch.tensor(self.mean) * scale).view(-1, 1, 1)
        std = (torch.tensor(self.std) * scale).view(-1, 1, 1)
        return video.to(torch.float32).sub_(mean).div_(std)

    def _squared(self, video: torch.Tensor) -> torch.Tensor:
        height, width = video.shape[-2:]
        side = max(height, width)
        colour = [int(value / self.rescale_factor) for value in self.mean]
        square = torch.tensor(colour, dtype=torch.uint8).view(-1, 1, 1)
        square = square.repeat(len(video), 1, side, side)
        top, left = (side - height) // 2, (side - width) // 2
        square[..., top : top + height, left : left + width] = video
        return square

    def _resize(self, video: torch.Tensor) -> torch.Tensor:
        height, width = video.shape[-2:]
        short, long = min(height, width), max(height, width)
        long = int(self.shortest_edge * long / short)
        size = (long, self.shortest_edge) if width <= height else (self.shortest_edge, long)
        if size == (height, width):
            return video if self.antialias else video.float()
        if not self.antialias:
            mode = "bilinear" if self.bilinear else "bicubic"
            return functional.interpolate(video.float(), size=size, mode=mode)
        # uint8 in, uint8 out: torch's own kernel, which is what torchvision calls on a CPU.
        return functional.interpolate(video, size=size, mode="bicubic", antialias=True)

    def _crop(self, video: torch.Tensor) -> torch.Tensor:
        height, width = video.shape[-2:]
        down, right = max(self.crop_height - height, 0), max(self.crop_width - width, 0)
        if down or right:
            sides = (right // 2, (right + 1) // 2, down // 2, (down + 1) // 2)
            video = functional.pad(video, sides)
            height, width = video.shape[-2:]
        nearest = round if self.bilinear else int
        top = nearest((height - self.crop_height) / 2.0)
        left = nearest((width - self.crop_width) / 2.0)
        return video[..., top : top + self.crop_height, left : left + self.crop_width]


def authors_processor(image: int, patch: int) -> dict[str, Any]:
    """Return the processor config of LLaVA-Hound: bilinear, no antialiasing.

    The authors normalise first and resize then. Both are linear and a pixel's weights add up to
    one, so the order changes no value beyond rounding.

    Args:
        image, patch: sides in pixels.
    """
    common: dict[str, Any] = {
        "antialias": False,
        "crop_size": {"height": image, "width": image},
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
        "resample": _BILINEAR,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": image},
    }
    return {
        "image_processor": common | {"resample": _BICUBIC, "do_pad": True},
        "image_token": "<image>",
        "patch_size": patch,
        "video_processor": dict(common),
        "video_token": "<video>",
    }
