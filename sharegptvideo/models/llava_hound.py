"""LLaVA-Hound's architecture (arXiv 2404.01258) on transformers' own layers.

It is Video-LLaVA as its authors trained it, which transformers' Video-LLaVA is near but not equal
to: the video tower attends over time in each layer, and a frame takes no position for its class
token (256 positions a frame, 2,048 for eight frames, and not 2,056).
"""

# mypy: allow-untyped-calls, allow-untyped-decorators
# (constructors, `post_init`, `from_config` and decorators of transformers have no types)

from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer, CLIPVisionModel
from transformers.models.video_llava.configuration_video_llava import VideoLlavaConfig
from transformers.models.video_llava.modeling_video_llava import (
    VideoLlavaForConditionalGeneration,
    VideoLlavaModel,
    VideoLlavaMultiModalProjector,
    VideoLlavaPreTrainedModel,
)
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import select_hidden_states

__all__ = [
    "LlavaHoundConfig",
    "LlavaHoundForConditionalGeneration",
    "LlavaHoundModel",
    "LlavaHoundVideoConfig",
    "LlavaHoundVideoTower",
]


@strict
class LlavaHoundVideoConfig(CLIPVisionConfig):
    """Configure the video tower: CLIP's fields, and the number of frames that a clip has.

    `add_time_attn` is LanguageBind's name for temporal attention in each layer; without it the
    tower is CLIP, frame by frame.
    """

    model_type = "llava_hound_video"
    base_config_key = "video_config"

    num_frames: int = 8
    add_time_attn: bool = True


_CLIP_L = {
    "intermediate_size": 4096,
    "hidden_size": 1024,
    "patch_size": 14,
    "image_size": 224,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "projection_dim": 768,
}


@strict
class LlavaHoundConfig(VideoLlavaConfig):
    """Configure the whole model: `vision_config` (images), `video_config`, `text_config`.

    `image_seq_length` and `video_seq_length` follow from the towers' sizes where they are left out.
    """

    model_type = "llava_hound"
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
        "vision_config": SubConfigSpec(
            config_class=AutoConfig, model_type="clip_vision_model", init_kwargs=_CLIP_L
        ),
        "video_config": SubConfigSpec(
            config_class=AutoConfig, model_type="llava_hound_video", init_kwargs=_CLIP_L
        ),
    }

    vision_config: Any = None
    video_config: Any = None
    text_config: Any = None
    image_seq_length: int | None = None  # type: ignore[assignment]  # None until the sizes are known
    video_seq_length: int | None = None  # type: ignore[assignment]

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        vision, video = self.vision_config, self.video_config
        if self.image_seq_length is None:
            self.image_seq_length = (vision.image_size // vision.patch_size) ** 2
        if self.video_seq_length is None:
            patches = (video.image_size // video.patch_size) ** 2
            self.video_seq_length = video.num_frames * patches


class LlavaHoundVideoLayer(CLIPEncoderLayer):
    """One layer of the video tower: attention over a clip's frames, then CLIP's layer a frame.

    Tokens of one place in the frames are a sequence of as many tokens as the clip has frames. To it
    a learned embedding of time is added, which stays in the stream, then its own attention.
    """

    def __init__(self, config: LlavaHoundVideoConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.temporal_embedding = nn.Parameter(torch.zeros(1, config.num_frames, width))
        self.temporal_attn = CLIPAttention(config)
        self.temporal_layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        frames: int = 1,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Return (clips·frames)×positions×width, from the same shape; `frames` of each clip."""
        rows, positions, width = hidden_states.shape
        clips = rows // frames
        across = hidden_states.view(clips, frames, positions, width).transpose(1, 2)
        across = across.reshape(clips * positions, frames, width)
        across = across + self.temporal_embedding[:, :frames]
        attended, _ = self.temporal_attn(self.temporal_layer_norm1(across), **kwargs)
        across = (across + attended).view(clips, positions, frames, width)
        hidden_states = across.transpose(1, 2).reshape(rows, positions, width)
        mask: Any = attention_mask
        return super().forward(hidden_states, mask, **kwargs)


class LlavaHoundVideoTower(CLIPVisionModel):
    """The video tower: CLIP's vision model with `LlavaHoundVideoLayer` in place of its layers."""

    config: LlavaHoundVideoConfig
    _no_split_modules = ["LlavaHoundVideoLayer", "CLIPVisionEmbeddings"]  # noqa: RUF012

    def __init__(self, config: LlavaHoundVideoConfig) -> None:
        super().__init__(config)
        if config.add_time_attn:
            layers = [LlavaHoundVideoLayer(config) for _ in range(config.num_hidden_layers)]
            self.encoder.layers = nn.ModuleList(layers)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LlavaHoundVideoLayer):
            nn.init.normal_(module.temporal_embedding, std=self.config.hidden_size**-0.5)

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> Any:
        """Encode clips.

        Args:
            pixel_values: clips×frames×3×height×width, or (clips·frames)×3×height×width of clips
                with `config.num_frames` frames each.

        Returns:
            CLIP's output with a row a frame.

        Raises:
            ValueError: more frames than the tower has embeddings of time for, or frames that do
                not make whole clips.
        """
        most = self.config.num_frames
        frames = pixel_values.shape[1] if pixel_values.ndim == 5 else most
        if pixel_values.ndim == 5:
            pixel_values = pixel_values.flatten(0, 1)
        if not self.config.add_time_attn:
            return super().forward(pixel_values, **kwargs)
        if frames > most:
            raise ValueError(f"a clip has at most {most} frames, got {frames}")
        if len(pixel_values) % frames:
            raise ValueError(f"{len(pixel_values)} frames are no whole clips of {frames}")
        return super().forward(pixel_values, frames=frames, **kwargs)


class LlavaHoundPreTrainedModel(VideoLlavaPreTrainedModel):
    """What loading and saving need to know."""

    config: LlavaHoundConfig
    _no_split_modules = [  # noqa: RUF012 - an attribute of transformers
        "LlavaHoundVideoLayer",
        "CLIPEncoderLayer",
        "LlamaDecoderLayer",
    ]


class LlavaHoundModel(LlavaHoundPreTrainedModel, VideoLlavaModel):
    """Both towers, the projector that they share, and the language model without its head."""

    def __init__(self, config: LlavaHoundConfig) -> None:
        LlavaHoundPreTrainedModel.__init__(self, config)
        self.video_tower = AutoModel.from_config(config.video_config)
        self.image_tower = AutoModel.from_config(config.vision_config)
        self.multi_modal_projector = VideoLlavaMultiModalProjector(config)
        self.vocab_size = config.text_config.vocab_size
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    @merge_with_config_defaults
    @can_return_tuple
    @select_hidden_states("vision_feature_layer")
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor,
        vision_feature_layer: int | list[int] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Return the video tower's output, `pooler_output` being what the language model reads.

        Args:
            pixel_values_videos: clips×frames×3×height×width.

        Returns:
            `pooler_output`: (clips·frames)×patches×hidden size of the language model.
        """
        output = self.video_tower(pixel_values_videos, return_dict=True, **kwargs)
        layer = vision_feature_layer
        chosen = [layer] if isinstance(layer, int) else layer or ()
        features = torch.cat([output.hidden_states[one][:, 1:] for one in chosen], dim=-1)
        output.pooler_output = self.multi_modal_projector(features)
        return output  # type: ignore[no-any-return]  # AutoModel is untyped


class LlavaHoundForConditionalGeneration(
    LlavaHoundPreTrainedModel, VideoLlavaForConditionalGeneration
):
    """The model with its head.

    `forward` takes `input_ids` with `config.video_token_id` at each position of a clip,
    `pixel_values_videos` clips×frames×3×H×W and `pixel_values_images` images×3×H×W.
    """

    def __init__(self, config: LlavaHoundConfig) -> None:
        LlavaHoundPreTrainedModel.__init__(self, config)
        self.model = LlavaHoundModel(config)
        self.lm_head = nn.Linear(
            config.text_config.hidden_size, config.text_config.vocab_size, bias=False
        )
        self.post_init()


AutoConfig.register("llava_hound_video", LlavaHoundVideoConfig)
AutoConfig.register("llava_hound", LlavaHoundConfig)
AutoModel.register(LlavaHoundVideoConfig, LlavaHoundVideoTower)
AutoModel.register(LlavaHoundConfig, LlavaHoundModel)
AutoModelForImageTextToText.register(LlavaHoundConfig, LlavaHoundForConditionalGeneration)
