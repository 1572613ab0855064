"""Video-LLaVA and LLaVA-Hound in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.models import VideoLlavaModel, VideoPixels, load_model, video_token_count
from sharegptvideo.models.prompts import encode, expand_video, template_with_system
from sharegptvideo.training.families.base import FEATURES, PIXELS, Clip, ClipReader, TowerFamily
from sharegptvideo.training.precompute.fingerprints import digest, module_fingerprint

if TYPE_CHECKING:
    from sharegptvideo.training.recipes import Freeze, Recipe

__all__ = ["VideoLlavaFamily", "VideoLlavaReader"]

_FRAMES = "frames"


@dataclass(frozen=True)
class VideoLlavaReader(ClipReader):
    """Frames resized and cropped; every clip takes the same number of positions.

    Attributes:
        frames: taken evenly from a clip.
        video_id: the token that stands for a clip.
    """

    pixels: VideoPixels
    frames: int
    pad_id: int
    video_id: int
    video_tokens: int

    def read(self, path: str) -> Clip:
        """Decode `frames`, uint8 frames×3×height×width."""
        return {_FRAMES: self.pixels.resize_and_crop(sample_frames(path, self.frames).frames)}

    def expand(
        self,
        ids: list[int],
        assistant_mask: list[bool],
        clip: Clip,  # noqa: ARG002 - all clips are of one length
    ) -> tuple[list[int], list[bool]]:
        """Give the clip its positions; see `expand_video`."""
        return expand_video(ids, assistant_mask, self.video_id, self.video_tokens)

    def batch(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """Normalise to `pixel_values_videos`, float32 clips×frames×3×height×width."""
        return {PIXELS: self.pixels.normalise(torch.stack([clip[_FRAMES] for clip in clips]))}


class VideoLlavaFamily(TowerFamily):
    """Video-LLaVA, LLaVA-Hound: towers, projector and language model are modules of their own."""

    local = VideoLlavaModel
    reader: VideoLlavaReader

    @classmethod
    def open(cls, recipe: Recipe, *, weights: bool = True) -> Self:
        """Load the recipe's model; its clips take as many positions as `recipe.frames` have."""
        local = VideoLlavaModel(recipe.model)
        if recipe.system is not None:
            local.tokenizer.chat_template = template_with_system(recipe.system)
        most = local.most_frames
        if most is not None and recipe.frames > most:
            raise UserError(
                f"frames {recipe.frames}: model {recipe.model} looks at {most} frames of a clip "
                f"at most; set frames={most}"
            )
        dtype = cls.weights_dtype(recipe)
        family = cls(load_model(recipe.model, dtype=dtype, weights=weights))
        config = family.model.config
        family.tokenizer = local.tokenizer
        family.reader = VideoLlavaReader(
            pixels=local.pixels,
            frames=recipe.frames,
            pad_id=local.tokenizer.pad_token_id,
            video_id=config.video_token_id,
            video_tokens=video_token_count(config, recipe.frames),
        )
        return family

    def encode(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[bool]]:
        """Encode as `sharegptvideo.models.prompts.encode` does."""
        return encode(self.tokenizer, [dict(message) for message in messages])

    def freeze(self, parts: Freeze) -> None:
        """Fix `parts`, and the image tower, which no clip goes through."""
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

    def _encode(self, model: Any, clips: dict[str, torch.Tensor]) -> Any:
        """Encode to clips×positions×size, from pixels or from the tower's features."""
        inner = model.model
        if FEATURES in clips:
            features = clips[FEATURES].flatten(0, 1)
            return BaseModelOutputWithPooling(pooler_output=inner.multi_modal_projector(features))
        return inner.get_video_features(pixel_values_videos=clips[PIXELS], return_dict=True)

    def tower_features(self, clips: dict[str, torch.Tensor]) -> torch.Tensor:
        """Encode to clips×frames×positions×size, by the layers that the projector takes."""
        config, pixels = self.model.config, clips[PIXELS]
        tower = self.model.model.video_tower
        # LLaVA-Hound's tower looks across the frames of a clip, so it has to know the clips.
        frames = pixels if config.model_type == "llava_hound" else pixels.flatten(0, 1)
        output = tower(frames, output_hidden_states=True)
        layers = config.vision_feature_layer
        chosen = [layers] if isinstance(layers, int) else layers
        positions = video_token_count(config, 1)  # without the class token, where it is none
        features = torch.cat([output.hidden_states[n][:, -positions:] for n in chosen], dim=-1)
        return features.view(*pixels.shape[:2], *features.shape[1:])

    def feature_key(self) -> str:
        """Hash the tower's weights, the layers taken, and how frames are prepared."""
        tower = module_fingerprint(self.model.model.video_tower)
        return digest(tower, self.model.config.vision_feature_layer, repr(self.reader.pixels))
