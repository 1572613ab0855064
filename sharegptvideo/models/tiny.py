"""A small Video-LLaVA or LLaVA-Hound to train from scratch on a CPU, saved as any Hub model is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sharegptvideo._io import follow_umask, write_json
from sharegptvideo.errors import unknown_name
from sharegptvideo.models.checkpoints import quiet_transformers
from sharegptvideo.models.prompts import CHAT_TEMPLATE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["SIZES", "ModelSize", "build_tiny"]

_SPECIAL = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "image": "<image>", "video": "<video>"}


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Every size of a small Video-LLaVA or LLaVA-Hound.

    `image` and `patch` are sides in pixels; `vocabulary` is a limit (256 bytes and the special
    tokens included) that the tokenizer stays under when the texts have fewer words; `positions`
    limits prompt and answer together, the clip's positions included. The last five are standard
    deviations of weights drawn at random: of the language model's matrices, the towers' embeddings
    of place, their patch projections, the video tower's embeddings of time, and the language
    model's embeddings of words; None is what transformers draws.
    """

    frames: int = 8
    image: int = 32
    patch: int = 8
    vision_hidden: int = 96
    vision_layers: int = 4
    vision_heads: int = 4
    vision_mlp: int = 256
    text_hidden: int = 128
    text_layers: int = 4
    text_heads: int = 4
    text_mlp: int = 384
    vocabulary: int = 2048
    positions: int = 1024
    init_std: float = 0.02
    position_std: float = 0.02
    patch_std: float | None = None
    time_std: float | None = None
    word_std: float | None = None

    @property
    def video_tokens(self) -> int:
        """Positions that a clip takes in the prompt."""
        return self.frames * ((self.image // self.patch) ** 2 + 1)


SIZES = {
    "demo": ModelSize(),
    "tiny": ModelSize(
        frames=4,
        image=16,
        vision_hidden=32,
        vision_layers=2,
        vision_heads=2,
        vision_mlp=64,
        text_hidden=48,
        text_layers=2,
        text_heads=2,
        text_mlp=96,
        vocabulary=1024,
        positions=512,
    ),
}


def build_tiny(
    texts: Iterable[str],
    out: Path,
    *,
    seed: int,
    size: str | ModelSize = "demo",
    architecture: Literal["video_llava", "llava_hound"] = "video_llava",
) -> Path:
    """Train a tokenizer on `texts`, draw a random model of `size` and save both to `out`.

    Returns `out`, a folder that `from_pretrained` of transformers and of this package load:
    config.json, model.safetensors, the tokenizer with its chat template, processor_config.json.
    The same texts, seed and size give the same bytes.

    Raises:
        UserError: an unknown size.
    """
    import torch
    import transformers
    from transformers import VideoLlavaForConditionalGeneration

    from sharegptvideo.models.pixels import authors_processor

    sizes = _look_up(size)
    new_tokenizer: Any = transformers.PreTrainedTokenizerFast  # its constructor is untyped
    tokenizer = new_tokenizer(
        tokenizer_object=_train_tokenizer(texts, sizes.vocabulary),
        pad_token=_SPECIAL["pad"],
        bos_token=_SPECIAL["bos"],
        eos_token=_SPECIAL["eos"],
        extra_special_tokens={"image_token": _SPECIAL["image"], "video_token": _SPECIAL["video"]},
        chat_template=CHAT_TEMPLATE,
        model_max_length=sizes.positions,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _config(sizes, tokenizer)
        kind: Any = VideoLlavaForConditionalGeneration
        if architecture == "llava_hound":
            from sharegptvideo.models.llava_hound import LlavaHoundForConditionalGeneration

            kind, config = LlavaHoundForConditionalGeneration, _with_time(config, sizes)
        model = kind(config)
        _draw_embeddings(model, sizes)
    out.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        tokenizer.save_pretrained(out)
        model.save_pretrained(out)
    follow_umask(out.glob("*.safetensors"))
    processor = (
        authors_processor(sizes.image, sizes.patch)
        if architecture == "llava_hound"
        else _processor_config(sizes)
    )
    write_json(out / "processor_config.json", processor)
    return out


def _draw_embeddings(model: Any, sizes: ModelSize) -> None:
    """Draw embeddings anew by the deviations that `sizes` gives."""
    from torch import nn

    inner = model.model
    # CLIP draws positions far smaller than patches; from nothing, a tower then learns late where
    # things are.
    deviations = {"embeddings.position_embedding.weight": sizes.position_std}
    if sizes.patch_std is not None:
        deviations["embeddings.patch_embedding.weight"] = sizes.patch_std
    for tower in (inner.image_tower, inner.video_tower):
        for name, std in deviations.items():
            nn.init.normal_(tower.get_parameter(name), std=std)
    if sizes.time_std is not None:
        for name, weight in inner.video_tower.named_parameters():
            if name.endswith("temporal_embedding"):
                nn.init.normal_(weight, std=sizes.time_std)
    if sizes.word_std is not None:
        nn.init.normal_(inner.language_model.embed_tokens.weight, std=sizes.word_std)


def _look_up(size: str | ModelSize) -> ModelSize:
    if isinstance(size, ModelSize):
        return size
    if size not in SIZES:
        raise unknown_name("model size", size, SIZES)
    return SIZES[size]


def _train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE: frequent words become one token, and any text can still be written."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_with_roles(texts), trainer)
    bos = _SPECIAL["bos"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return tokenizer


def _with_roles(texts: Iterable[str]) -> Iterable[str]:
    """Yield the texts as they stand in the format: at a line's start, and after a space."""
    for text in texts:
        yield f"USER: \n{text} ASSISTANT: {text}"


def _config(sizes: ModelSize, tokenizer: Any) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, VideoLlavaConfig

    vision = CLIPVisionConfig(
        hidden_size=sizes.vision_hidden,
        intermediate_size=sizes.vision_mlp,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        image_size=sizes.image,
        patch_size=sizes.patch,
        projection_dim=sizes.vision_hidden,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.text_hidden,
        intermediate_size=sizes.text_mlp,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_heads,
        max_position_embeddings=sizes.positions,
        initializer_range=sizes.init_std,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    ids = tokenizer.convert_tokens_to_ids
    # The last layer's features, not the last but one's: a small tower has no layer to spare.
    return VideoLlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids(_SPECIAL["image"]),
        video_token_index=ids(_SPECIAL["video"]),
        vision_feature_layer=-1,
        image_seq_length=sizes.video_tokens // sizes.frames - 1,
        video_seq_length=sizes.video_tokens,
    )


def _with_time(config: Any, sizes: ModelSize) -> Any:
    """Return the same sizes as LLaVA-Hound's configuration."""
    from sharegptvideo.models.llava_hound import LlavaHoundConfig

    vision = config.vision_config.to_dict()
    kind: Any = LlavaHoundConfig
    return kind(
        vision_config=vision,
        video_config=vision | {"model_type": "llava_hound_video", "num_frames": sizes.frames},
        text_config=config.text_config.to_dict(),
        image_token_index=config.image_token_index,
        video_token_index=config.video_token_index,
        vision_feature_layer=config.vision_feature_layer,
    )


def _processor_config(sizes: ModelSize) -> dict[str, Any]:
    """Write what `VideoLlavaProcessor.save_pretrained` of transformers 5.23 does.

    Written by hand because building that processor needs torchvision; `tests/peers` loads it.
    """
    from sharegptvideo.models.pixels import CLIP_MEAN, CLIP_STD

    common: dict[str, Any] = {
        "crop_size": {"height": sizes.image, "width": sizes.image},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": sizes.image},
    }
    return {
        "image_processor": {**common, "image_processor_type": "VideoLlavaImageProcessor"},
        "image_token": _SPECIAL["image"],
        "num_additional_image_tokens": 1,
        "patch_size": sizes.patch,
        "processor_class": "VideoLlavaProcessor",
        "video_processor": {
            **common,
            "do_sample_frames": False,
            "return_metadata": False,
            "video_processor_type": "VideoLlavaVideoProcessor",
        },
        "video_token": _SPECIAL["video"],
        "vision_feature_select_strategy": "default",
    }
