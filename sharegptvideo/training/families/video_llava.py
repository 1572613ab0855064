"""Video-LLaVA and LLaVA-Hound in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from sharegptvideo.errors import UserError
from sharegptvideo.media import read_image, sample_frames
from sharegptvideo.media.facts import read_facts
from sharegptvideo.models import VideoPixels, load_model, video_token_count
from sharegptvideo.models.prompts import (
    check_template,
    encode,
    expand_video,
    image_token_count,
    template_with_system,
)
from sharegptvideo.training.families.base import (
    FEATURES,
    IMAGE_FEATURES,
    IMAGES,
    PIXELS,
    Clip,
    ClipReader,
    TowerFamily,
    VisualKind,
    ends_of,
    filler_of,
)
from sharegptvideo.training.mix import Visual
from sharegptvideo.training.precompute.fingerprints import digest, module_fingerprint

if TYPE_CHECKING:
    from sharegptvideo.models.prompts import Kind
    from sharegptvideo.training.recipes import Freeze, Recipe

__all__ = ["VideoLlavaFamily", "VideoLlavaReader"]

_FRAMES, _DECODED = "frames", "decoded"
_KINDS: tuple[VisualKind, ...] = ("video", "image")


@dataclass(frozen=True)
class VideoLlavaReader(ClipReader):
    """Frames resized and cropped; every clip takes the same number of positions.

    Attributes:
        image_pixels: of images, where they are not made as frames are.
        frames: taken evenly from a clip.
        video_id, image_id: the tokens that stand for a clip and an image.
    """

    pixels: VideoPixels
    frames: int
    pad_id: int
    video_id: int
    video_tokens: int
    image_id: int = -1
    image_tokens: int = 0
    image_pixels: VideoPixels | None = None

    def read(self, path: str) -> Clip:
        """Decode `frames`, frames×3×height×width: uint8, or float32 where those of 0…255 are."""
        return {_FRAMES: self.pixels.resize_and_crop(sample_frames(path, self.frames).frames)}

    def read_image(self, path: str) -> Clip:
        """Decode to one frame, 1×3×height×width, as `read` does."""
        pixels = self._pixels("image")
        return {_FRAMES: pixels.resize_and_crop(np.stack([read_image(path)]))}

    def _pixels(self, kind: VisualKind) -> VideoPixels:
        return (self.image_pixels or self.pixels) if kind == "image" else self.pixels

    def decode(self, visual: Visual) -> Clip:
        """Decode to `frames`; to `decoded`, uint8 n×H×W×3, where they are float32 and larger.

        LLaVA-Hound's pixels are not rounded after resizing.
        """
        pixels = self._pixels(visual.kind)
        if pixels.antialias:
            return self.read_visual(visual)
        if visual.kind == "video":
            frames = sample_frames(visual.path, self.frames).frames
        else:
            frames = np.stack([read_image(visual.path)])
        if frames.nbytes < self._resized_bytes(visual.kind):
            return {_DECODED: torch.from_numpy(np.ascontiguousarray(frames))}
        return {_FRAMES: pixels.resize_and_crop(frames)}

    def finish(self, kind: VisualKind, decoded: Clip) -> Clip:
        """Resize what is kept as it was decoded."""
        if _DECODED not in decoded:
            return decoded
        return {_FRAMES: self._pixels(kind).resize_and_crop(decoded[_DECODED].numpy())}

    def kept_bytes(self, visual: Visual) -> int:
        """Return the bytes of what `decode` gives."""
        resized = self._resized_bytes(visual.kind)
        if self._pixels(visual.kind).antialias:
            return resized
        facts = read_facts(Path(visual.path), is_image=visual.kind == "image")
        if not facts.width or not facts.height:
            return resized
        count = self.frames if visual.kind == "video" else 1
        return min(count * facts.width * facts.height * 3, resized)

    def _resized_bytes(self, kind: VisualKind) -> int:
        pixels = self._pixels(kind)
        count = self.frames if kind == "video" else 1
        return count * 3 * pixels.crop_height * pixels.crop_width * (1 if pixels.antialias else 4)

    def decoding(self) -> str:
        """Return a key of frames, sizes and interpolation."""
        return digest(self.frames, *(asdict(self._pixels(kind)) for kind in _KINDS))

    def expand(
        self,
        ids: list[int],
        assistant_mask: list[bool],
        clip: Clip,  # noqa: ARG002 - all clips are of one length
    ) -> tuple[list[int], list[bool]]:
        """Give the clip or image its positions; see `expand_video`."""
        if self.image_id in ids:
            return expand_video(ids, assistant_mask, self.image_id, self.image_tokens)
        return expand_video(ids, assistant_mask, self.video_id, self.video_tokens)

    def batch(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """Normalise to `pixel_values_videos`, float32 clips×frames×3×height×width."""
        return {PIXELS: self.pixels.normalise(torch.stack([clip[_FRAMES] for clip in clips]))}

    def batch_images(self, images: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """Normalise to `pixel_values_images`, float32 images×3×height×width."""
        pixels = self.image_pixels or self.pixels
        return {IMAGES: pixels.normalise(torch.cat([image[_FRAMES] for image in images]))}

    def blank(self, kind: VisualKind) -> Clip:
        """Return black frames."""
        frames = self.frames if kind == "video" else 1
        size = (frames, 3, self.pixels.crop_height, self.pixels.crop_width)
        return {_FRAMES: torch.zeros(size, dtype=torch.uint8)}


class VideoLlavaFamily(TowerFamily):
    """Video-LLaVA, LLaVA-Hound: towers, projector and language model are modules of their own."""

    reader: VideoLlavaReader

    @classmethod
    def open(cls, recipe: Recipe, *, weights: bool = True) -> Self:
        """Load the recipe's model; its clips take as many positions as `recipe.frames` have."""
        from sharegptvideo.models import VideoLlavaModel  # loader workers do without

        local = VideoLlavaModel(recipe.start)
        if recipe.system is not None:
            local.tokenizer.chat_template = template_with_system(recipe.system)
        most = local.most_frames
        if most is not None and recipe.frames > most:
            raise UserError(
                f"frames {recipe.frames}: model {recipe.model} looks at {most} frames of a clip "
                f"at most; set frames={most}"
            )
        dtype = cls.weights_dtype(recipe)
        family = cls(load_model(recipe.start, dtype=dtype, weights=weights))
        config = family.model.config
        family.tokenizer = local.tokenizer
        ends = ends_of(family.model.generation_config, local.tokenizer)
        check_template(recipe.start, local.tokenizer, config.video_token_id, ends)
        family.reader = VideoLlavaReader(
            pixels=local.pixels,
            frames=recipe.frames,
            pad_id=filler_of(local.tokenizer, config.get_text_config().vocab_size),
            video_id=config.video_token_id,
            video_tokens=video_token_count(config, recipe.frames),
            image_id=config.image_token_id,
            image_tokens=image_token_count(config),
            image_pixels=VideoPixels.from_pretrained(recipe.start, "image"),
        )
        return family

    def encode(
        self, messages: Sequence[Mapping[str, Any]], about: Kind = "video"
    ) -> tuple[list[int], list[bool]]:
        """Encode as `sharegptvideo.models.prompts.encode` does."""
        return encode(self.tokenizer, [dict(message) for message in messages], about)

    def freeze(self, parts: Freeze) -> None:
        """Fix `parts`, and the image tower, which keeps its weights in all trainings."""
        inner = self.model.model
        inner.image_tower.requires_grad_(False)
        inner.video_tower.requires_grad_(not parts.vision_tower)
        for idle in self._idle():
            idle.requires_grad_(False)
        inner.multi_modal_projector.requires_grad_(not parts.projector)
        inner.language_model.requires_grad_(not parts.language_model)
        self.model.lm_head.requires_grad_(not parts.language_model)

    def _idle(self) -> list[torch.nn.Module]:
        """Parts of the video tower after the layer whose outputs are taken.

        They get no gradient. Were they said to learn, processes that share a training would wait
        for one.
        """
        tower, config = self.model.model.video_tower, self.model.config
        layers = tower.encoder.layers
        taken = config.vision_feature_layer
        wanted = [taken] if isinstance(taken, int) else taken
        used = max(range(len(layers) + 1)[place] for place in wanted)
        return [*layers[used:], tower.post_layernorm]

    def _vision_weights(self) -> Iterator[torch.nn.Parameter]:
        inner = self.model.model
        yield from inner.video_tower.parameters()
        yield from inner.multi_modal_projector.parameters()

    def _encode(self, model: Any, clips: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Encode to clips×positions×size and images×positions×size, from pixels or features."""
        inner = model.model
        outputs = {}
        for kind, kept in (("video", FEATURES), ("image", IMAGE_FEATURES)):
            if kept in clips:
                # Clips' features have an axis of frames, which the model counts as rows.
                features = clips[kept].flatten(0, -3)
                projected = inner.multi_modal_projector(features)
                outputs[kind] = BaseModelOutputWithPooling(pooler_output=projected)
        if PIXELS in clips:
            outputs["video"] = inner.get_video_features(
                pixel_values_videos=clips[PIXELS], return_dict=True
            )
        if IMAGES in clips:
            outputs["image"] = inner.get_image_features(
                pixel_values=clips[IMAGES], return_dict=True
            )
        return outputs

    def tower_features(self, clips: dict[str, torch.Tensor]) -> torch.Tensor:
        """Encode clips to clips×frames×positions×size, images to images×positions×size.

        By the layers that the projector takes.
        """
        config = self.model.config
        if IMAGES in clips:
            return self._layers(
                self.model.model.image_tower, clips[IMAGES], self.reader.image_tokens
            )
        pixels, tower = clips[PIXELS], self.model.model.video_tower
        # LLaVA-Hound's tower looks across the frames of a clip, so it has to know the clips.
        frames = pixels if config.model_type == "llava_hound" else pixels.flatten(0, 1)
        features = self._layers(tower, frames, video_token_count(config, 1))
        return features.view(*pixels.shape[:2], *features.shape[1:])

    def _layers(self, tower: Any, pixels: torch.Tensor, positions: int) -> torch.Tensor:
        output = tower(pixels, output_hidden_states=True)
        layers = self.model.config.vision_feature_layer
        chosen = [layers] if isinstance(layers, int) else layers
        # The last of them: without the class token, where it is none of the positions.
        return torch.cat([output.hidden_states[n][:, -positions:] for n in chosen], dim=-1)

    def feature_key(self, kind: VisualKind) -> str:
        """Hash the tower's weights, the layers taken, and how frames are prepared."""
        inner, config = self.model.model, self.model.config
        if kind == "video":
            tower = module_fingerprint(inner.video_tower)
            return digest(tower, config.vision_feature_layer, repr(self.reader.pixels))
        tower = module_fingerprint(inner.image_tower)
        layers = (config.vision_feature_layer, config.vision_feature_select_strategy)
        return digest(tower, *layers, repr(self.reader.image_pixels or self.reader.pixels))
