"""The conversation format of Video-LLaVA and its token ids: one function for training and use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CHAT_TEMPLATE", "Encoded", "encode", "prompt_text", "video_token_count"]

# Saved with the tokenizer. "USER: <video>\nquestion ASSISTANT: answer</s>", with nothing between
# turns but a space, as Vicuna-based Video-LLaVA was trained.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + ' ' }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' }}"
    "{% if message['content'] is string %}{{ message['content'] + ' ' }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}{{ '<video>\\n' }}"
    "{% elif part['type'] == 'image' %}{{ '<image>\\n' }}"
    "{% else %}{{ part['text'] + ' ' }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% elif message['role'] == 'assistant' %}"
    "{% if message['content'] is string %}{{ 'ASSISTANT: ' + message['content'] + eos_token }}"
    "{% else %}{{ 'ASSISTANT: ' }}{% for part in message['content'] %}{{ part['text'] }}"
    "{% endfor %}{{ eos_token }}{% endif %}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

# Prompt token ids (video token expanded) and answer token ids (closing token included).
Encoded = tuple[list[int], list[int]]


def prompt_text(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """The text a model continues with its answer: one `<video>`, the question, "ASSISTANT:".

    A checkpoint that brings a chat template of its own is prompted by that one.
    """
    return _render(tokenizer, [_user(question)], generation=True)


def encode(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str | None, *, video_tokens: int
) -> Encoded:
    """Token ids of the prompt and of the answer.

    Args:
        answer: None for generation; the answer's ids are then empty.
        video_tokens: how many positions the clip takes: frames × (patches + 1).

    The answer's ids are those it has behind the prompt, so that training sees what generation
    will produce, whichever way the tokenizer treats a leading space.
    """
    prompt = prompt_text(tokenizer, question)
    prompt_ids = _ids(tokenizer, prompt)
    if answer is None:
        return _expand(tokenizer, prompt_ids, video_tokens), []
    assistant = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    full_ids = _ids(tokenizer, _render(tokenizer, [_user(question), assistant], generation=False))
    shared = 0
    for left, right in zip(prompt_ids, full_ids, strict=False):
        if left != right:
            break
        shared += 1
    return _expand(tokenizer, full_ids[:shared], video_tokens), full_ids[shared:]


def video_token_count(config: Any, frames: int) -> int:
    """Positions of a clip of `frames` frames: each gives its patches and one class token."""
    vision = config.vision_config
    return frames * ((vision.image_size // vision.patch_size) ** 2 + 1)


def _user(question: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], *, generation: bool
) -> str:
    template = tokenizer.chat_template or CHAT_TEMPLATE
    return str(
        tokenizer.apply_chat_template(
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=generation,
        )
    )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def _expand(tokenizer: PreTrainedTokenizerBase, ids: list[int], count: int) -> list[int]:
    video = tokenizer.convert_tokens_to_ids("<video>")
    if ids.count(video) != 1:
        raise ValueError(f"the prompt has {ids.count(video)} video tokens; it must have one")
    at = ids.index(video)
    return ids[:at] + [video] * count + ids[at + 1 :]
