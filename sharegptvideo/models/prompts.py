"""The conversation format of Video-LLaVA and its token ids: one function for training and use."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "CHAT_TEMPLATE",
    "VICUNA_SYSTEM",
    "VICUNA_V1",
    "Kind",
    "begin_once",
    "check_template",
    "conversation",
    "encode",
    "expand_video",
    "image_token_count",
    "no_system_text",
    "template_errors",
    "template_with_system",
    "video_token_count",
]

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

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
"""The system sentence of Vicuna v1, which LLaVA-Hound was trained with and asked with."""


def template_with_system(system: str) -> str:
    """Return the chat template that begins with `system`, unless a conversation has its own.

    An empty text gives the template without one.
    """
    if not system.strip():
        return CHAT_TEMPLATE
    quoted = system.replace("\\", "\\\\").replace("'", "\\'")
    return (
        "{% if messages[0]['role'] != 'system' %}{{ '" + quoted + " ' }}{% endif %}" + CHAT_TEMPLATE
    )


VICUNA_V1 = template_with_system(VICUNA_SYSTEM)
"""The chat template of `llava_hound` checkpoints."""

Message = dict[str, Any]
Kind = Literal["video", "image", "text"]
"""What a conversation is about: a clip, an image, or (`text`) neither."""


def conversation(
    question: str, answer: str | None = None, *, system: str | None = None
) -> list[Message]:
    """Make the messages of one question on a clip, with its answer and a system text, if any."""
    turns = [] if system is None else [{"role": "system", "content": system}]
    turns.append({"role": "user", "content": question})
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    return turns


def encode(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], about: Kind = "video"
) -> tuple[list[int], list[bool]]:
    """Encode a conversation on one clip: token ids, and which of them the assistant says.

    The clip stands before the first user's text as one `<video>` token (see `expand_video`), an
    image as one `<image>` token. A conversation that ends with the user's turn ends in the prompt
    for an answer. The assistant's ids are those that the text has after its prompt, its closing
    token included, so training sees what generation will produce, whichever way the tokenizer
    treats a leading space. A checkpoint that brings a chat template of its own is prompted by that
    one.

    Args:
        messages: `{"role": "system" | "user" | "assistant", "content": text}`.

    Raises:
        UserError: a text contains `<video>`, or the roles make no conversation.
    """
    _check(messages)
    turns = _with_clip(messages, about)
    if messages[-1]["role"] == "user":
        ids = _ids(tokenizer, turns, generation=True)
    else:
        ids = _ids(tokenizer, turns, generation=False)
    assistant_mask = [False] * len(ids)
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = _shared(_ids(tokenizer, turns[:number], generation=True), ids)
        end = _shared(_ids(tokenizer, turns[: number + 1], generation=False), ids)
        assistant_mask[start:end] = [True] * (end - start)
    return ids, assistant_mask


def check_template(
    path: str,
    tokenizer: PreTrainedTokenizerBase,
    video_token: int,
    ends: Collection[int] | None = None,
) -> None:
    """Make sure that a checkpoint's chat template has one place for a clip, and closes answers.

    Args:
        path: of the checkpoint, for the message.
        tokenizer: with the template.
        video_token: the id that stands for a clip in the model's config.
        ends: ids that end an answer, one of which is to close it; None: not checked.

    Raises:
        UserError: it is not so.
    """
    ids, said = encode(tokenizer, conversation("?", "A."))
    if tokenizer.convert_tokens_to_ids("<video>") != video_token:
        raise UserError(
            f"model {path}: its config has {video_token} for a clip, its tokenizer another number "
            "for <video>; take the tokenizer that was saved with these weights"
        )
    advice = "take the template of the model's makers"
    if ids.count(video_token) != 1:
        raise UserError(f"model {path}: its chat template has no place for a clip; {advice}")
    if ends is not None and not any(
        one and token in ends for token, one in zip(ids, said, strict=True)
    ):
        raise UserError(
            f"model {path}: its chat template closes no answer with an end token, so a training "
            f"would teach the model never to stop; {advice}, and name eos_token in its "
            "tokenizer_config.json"
        )


def no_system_text(path: str) -> UserError:
    """Return the error for a chat template that leaves a system text out."""
    return UserError(
        f"model {path}: its chat template has no place for a system text; leave --system out"
    )


def expand_video(
    ids: list[int], assistant_mask: list[bool], video_token: int, count: int
) -> tuple[list[int], list[bool]]:
    """Give the clip its `count` positions (frames × (patches + 1)) in place of one token."""
    at = ids.index(video_token)
    return (
        ids[:at] + [video_token] * count + ids[at + 1 :],
        assistant_mask[:at] + [False] * count + assistant_mask[at + 1 :],
    )


def video_token_count(config: Any, frames: int) -> int:
    """Count the positions of a clip of `frames` frames.

    A frame has its patches, and in transformers' Video-LLaVA a class token beside them.
    """
    vision = config.vision_config
    class_token = 0 if config.model_type == "llava_hound" else 1
    return int(frames * ((vision.image_size // vision.patch_size) ** 2 + class_token))


def image_token_count(config: Any) -> int:
    """Count the positions of an image: its patches, and a class token where the config keeps it."""
    vision = config.vision_config
    class_token = 0 if config.vision_feature_select_strategy == "default" else 1
    return int((vision.image_size // vision.patch_size) ** 2 + class_token)


def _check(messages: Sequence[Message]) -> None:
    roles = [message["role"] for message in messages]
    known = {"system", "user", "assistant"}
    if not known.issuperset(roles) or "user" not in roles or roles[-1] == "system":
        raise UserError(f"messages: the roles {roles} make no conversation about a clip")
    for message in messages:
        if "<video>" in message["content"] or "<image>" in message["content"]:
            raise UserError(
                f"messages: <video> and <image> may not stand in a text: {message['content']!r}"
            )


def _with_clip(messages: Sequence[Message], about: Kind) -> list[Message]:
    """Put messages into the form of chat templates, the clip in the first user's turn."""
    turns = []
    clip: list[Message] = [] if about == "text" else [{"type": about}]
    for message in messages:
        content: Any = [{"type": "text", "text": message["content"]}]
        if message["role"] == "user":
            content, clip = clip + content, []
        elif message["role"] == "system":
            content = message["content"]
        turns.append({"role": message["role"], "content": content})
    return turns


def prompt_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], about: Kind = "video"
) -> str:
    """Return the text that `encode` makes ids of, up to where the model's answer begins.

    Raises:
        UserError: see `encode`.
    """
    _check(messages)
    return _text(tokenizer, _with_clip(messages, about), generation=True)


def option_ids(tokenizer: PreTrainedTokenizerBase, text: str, option: str) -> list[int]:
    """Return the ids that an answer adds to a prompt's text, without the token that closes it.

    Raises:
        UserError: the tokenizer joins the two, so that the prompt would be another one.
    """
    before = _encoded(tokenizer, text)
    joint = "" if text[-1:].isspace() or before[-1] in tokenizer.all_special_ids else " "
    after = _encoded(tokenizer, text + joint + option)
    if after[: len(before)] != before or len(after) == len(before):
        raise UserError(
            f"the model's tokenizer joins the prompt's end and {option!r}; take a task by letter"
        )
    return after[len(before) :]


def _text(tokenizer: PreTrainedTokenizerBase, turns: list[Message], *, generation: bool) -> str:
    with template_errors():
        return str(
            tokenizer.apply_chat_template(
                turns,
                chat_template=tokenizer.chat_template or CHAT_TEMPLATE,
                tokenize=False,
                add_generation_prompt=generation,
            )
        )


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, **begin_once(tokenizer, text))["input_ids"])


def _ids(
    tokenizer: PreTrainedTokenizerBase, turns: list[Message], *, generation: bool
) -> list[int]:
    return _encoded(tokenizer, _text(tokenizer, turns, generation=generation))


@contextlib.contextmanager
def template_errors() -> Iterator[None]:
    """Turn what a checkpoint's chat template raises into one line.

    Raises:
        UserError: it cannot be used, or refuses a conversation.
    """
    from jinja2 import TemplateError

    try:
        yield
    except (TemplateError, TypeError, KeyError, IndexError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"the model's chat template cannot be used ({cause}); take that of the model's makers"
        ) from error


def begin_once(tokenizer: PreTrainedTokenizerBase, text: str) -> dict[str, bool]:
    """Return the tokenizer's setting for `text` to have one beginning-of-text mark, not two.

    Some chat templates write the mark themselves, and most tokenizers add it to what they encode.
    """
    mark = str(tokenizer.bos_token or "")
    return {"add_special_tokens": False} if mark and text.lstrip().startswith(mark) else {}


def _shared(left: list[int], right: list[int]) -> int:
    """Count the ids that the two begin with in common."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count
