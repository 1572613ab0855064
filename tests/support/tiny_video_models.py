"""Random models of several architectures, small enough for a test, saved as Hub models are.

Their processors need torchvision. Weights are drawn wide and the logits stretched, so that answers
vary with clip and question.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ["ARCHITECTURES", "build"]

_TEXTS = [
    "What colour is the picture? It is red. It is green. Is there a dog? yes no a man a woman",
    "Describe the video. Two people play in the snow. What happens at the end? He falls.",
] * 3

_CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}{{ 'VIDEO\\n' }}"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tokenizer(*marks: str, **named: str) -> Any:
    """A byte-level tokenizer with ChatML's marks and those given."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<|im_start|>", "<|im_end|>", *named.values(), *marks]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        extra_special_tokens=named,
    )


def text(kind: str, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": kind,
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def siglip(size: int, patch: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": size,
        "patch_size": patch,
        **more,
    }


def _llava_onevision() -> tuple[Any, Any]:
    import transformers as t

    words = tokenizer(image_token="<image>", video_token="<video>")
    config = t.LlavaOnevisionConfig(
        vision_config=siglip(32, 8, model_type="siglip_vision_model", vision_use_head=False),
        text_config=text("qwen2", len(words)),
        image_token_index=words.image_token_id,
        video_token_index=words.video_token_id,
        vision_feature_layer=-1,
        image_grid_pinpoints=[[32, 32]],
    )
    size = {"height": 32, "width": 32}
    processor = t.LlavaOnevisionProcessor(
        t.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[32, 32]]),
        words,
        t.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=_CHAT.replace("VIDEO", "<video>"),
    )
    return config, processor


def _llava_next_video() -> tuple[Any, Any]:
    import transformers as t

    words = tokenizer(image_token="<image>", video_token="<video>")
    config = t.LlavaNextVideoConfig(
        vision_config=siglip(32, 8, model_type="clip_vision_model", projection_dim=32),
        text_config=text("llama", len(words)),
        image_token_index=words.image_token_id,
        video_token_index=words.video_token_id,
        image_grid_pinpoints=[[32, 32]],
    )
    size, crop = {"shortest_edge": 32}, {"height": 32, "width": 32}
    processor = t.LlavaNextVideoProcessor(
        t.LlavaNextVideoVideoProcessor(size=size, crop_size=crop),
        t.LlavaNextImageProcessor(size=size, crop_size=crop, image_grid_pinpoints=[[32, 32]]),
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_CHAT.replace("VIDEO", "<video>"),
    )
    return config, processor


_QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def _qwen_words() -> tuple[Any, dict[str, int]]:
    words = tokenizer(*_QWEN)
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    ids = words.convert_tokens_to_ids(list(_QWEN))
    return words, dict(zip(names, ids, strict=True))


_QWEN_CHAT = _CHAT.replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>")


def _qwen2_5_vl() -> tuple[Any, Any]:
    import transformers as t

    words, ids = _qwen_words()
    config = t.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 8,
            "out_hidden_size": 64,
            "window_size": 32,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
        },
        text_config=text(
            "qwen2_5_vl_text",
            len(words),
            rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3]},
        ),
        **ids,
    )
    pixels = {"patch_size": 8, "min_pixels": 32 * 32, "max_pixels": 64 * 64}
    processor = t.Qwen2_5_VLProcessor(
        t.Qwen2VLImageProcessor(**pixels),
        words,
        t.Qwen2VLVideoProcessor(**pixels),
        chat_template=_QWEN_CHAT,
    )
    return config, processor


def _qwen2_vl() -> tuple[Any, Any]:
    import transformers as t

    words, ids = _qwen_words()
    config = t.Qwen2VLConfig(
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "num_heads": 2,
            "patch_size": 8,
            "hidden_size": 64,
            "mlp_ratio": 2,
        },
        text_config=text(
            "qwen2_vl_text",
            len(words),
            rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3]},
        ),
        **ids,
    )
    pixels = {"patch_size": 8, "min_pixels": 32 * 32, "max_pixels": 64 * 64}
    processor = t.Qwen2VLProcessor(
        t.Qwen2VLImageProcessor(**pixels),
        words,
        t.Qwen2VLVideoProcessor(**pixels),
        chat_template=_QWEN_CHAT,
    )
    return config, processor


def _video_llama_3() -> tuple[Any, Any]:
    import transformers as t

    words = tokenizer("<image>", "<video>", image_token="<image>", video_token="<video>")
    config = t.VideoLlama3Config(
        vision_config=siglip(32, 8, model_type="video_llama_3_vision"),
        text_config=text("qwen2", len(words)),
        image_token_id=words.image_token_id,
        video_token_id=words.video_token_id,
    )
    pixels = {"patch_size": 8, "min_pixels": 32 * 32, "max_pixels": 64 * 64}
    processor = t.VideoLlama3Processor(
        t.VideoLlama3ImageProcessor(**pixels),
        words,
        t.VideoLlama3VideoProcessor(**pixels),
        chat_template=_CHAT.replace("VIDEO", "<video>"),
    )
    return config, processor


def _qwen3_vl() -> tuple[Any, Any]:
    import transformers as t

    words, ids = _qwen_words()
    config = t.Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 8,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        text_config=text(
            "qwen3_vl_text",
            len(words),
            head_dim=16,
            rope_parameters={
                "rope_type": "default",
                "mrope_section": [2, 3, 3],
                "mrope_interleaved": True,
            },
        ),
        **ids,
    )
    size = {"shortest_edge": 32 * 32, "longest_edge": 8 * 64 * 64}
    processor = t.Qwen3VLProcessor(
        t.Qwen2VLImageProcessor(patch_size=8, size=size),
        words,
        t.Qwen3VLVideoProcessor(patch_size=8, size=size),
        chat_template=_QWEN_CHAT.replace(
            "<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>"
        ),
    )
    return config, processor


def _internvl() -> tuple[Any, Any]:
    import transformers as t

    words = tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = t.InternVLConfig(
        vision_config=siglip(32, 8, model_type="internvl_vision", image_size=[32, 32])
        | {"patch_size": [8, 8]},
        text_config=text("qwen2", len(words)),
        image_token_id=words.context_image_token_id,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    size = {"height": 32, "width": 32}
    processor = t.InternVLProcessor(
        t.GotOcr2ImageProcessor(size=size),
        words,
        t.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=_CHAT.replace("VIDEO", "<video>"),
    )
    return config, processor


def _smolvlm() -> tuple[Any, Any]:
    import transformers as t

    words = tokenizer(
        fake_image_token="<fake_token_around_image>",
        image_token="<image>",
        end_of_utterance_token="<end_of_utterance>",
        global_image_token="<global-img>",
        video_token="<video>",
    )
    config = t.SmolVLMConfig(
        vision_config=siglip(32, 8, model_type="smolvlm_vision"),
        text_config=text("llama", len(words)),
        image_token_id=words.image_token_id,
        scale_factor=2,
        pad_token_id=0,
    )
    processor = t.SmolVLMProcessor(
        t.SmolVLMImageProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 32}),
        words,
        t.SmolVLMVideoProcessor(
            size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, num_frames=8, fps=1
        ),
        image_seq_len=4,
    )
    return config, processor


ARCHITECTURES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "internvl": _internvl,
    "llava_next_video": _llava_next_video,
    "llava_onevision": _llava_onevision,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen2_vl": _qwen2_vl,
    "qwen3_vl": _qwen3_vl,
    "smolvlm": _smolvlm,
    "video_llama_3": _video_llama_3,
}


def build(
    name: str, folder: Path, *, window: int | None = None, seed: int = 0, **generation: Any
) -> Path:
    """Save a random model of an architecture with its processor; `generation` are its rules.

    With a `window`, attention in the language model goes back so many tokens only (Qwen2's).
    """
    from transformers import AutoModelForImageTextToText

    config, processor = ARCHITECTURES[name]()
    if window is not None:
        config.text_config.use_sliding_window = True
        config.text_config.sliding_window = window
        config.text_config.layer_types = ["sliding_attention"] * 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=1.5 / parameter[0].numel() ** 0.5)
            model.get_output_embeddings().weight.mul_(8)
    for key, value in {"pad_token_id": 0, "eos_token_id": 2, **generation}.items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
