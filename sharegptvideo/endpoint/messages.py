"""Chat messages: the pictures that are sent, and the completion that comes back."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sharegptvideo._io import parse_json
from sharegptvideo._text import and_more
from sharegptvideo.endpoint.server_errors import (
    WORDS,
    CallFailedError,
    NoCompletionError,
    ReplyTooLargeError,
    ServerSaidError,
    shorten,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "LONGEST_SIDE",
    "QUALITY",
    "Message",
    "NoAnswerError",
    "Reply",
    "failure_of",
    "frame_urls",
    "parse_reply",
    "read_reply",
    "split_reasoning",
    "with_pictures",
    "with_video",
]

Message = Mapping[str, Any]
"""One message: `role`, and `content` as a text or a list of text and image parts."""

QUALITY = 90
LONGEST_SIDE = 768


def frame_urls(frames: NDArray[np.uint8], max_pixels: int | None = None) -> list[str]:
    """Encode frames (n×H×W×3, RGB) as JPEG data URLs, the longest side at most 768 pixels.

    Where `max_pixels` says so they are smaller still, of the same shape.
    """
    from PIL import Image

    urls = []
    for frame in frames:
        picture = Image.fromarray(frame)
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        if max_pixels is not None and picture.width * picture.height > max_pixels:
            share = math.sqrt(max_pixels / (picture.width * picture.height))
            size = [max(1, int(side * share)) for side in picture.size]
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=QUALITY)
        urls.append(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    return urls


def with_pictures(text: str, urls: list[str]) -> list[dict[str, Any]]:
    """Return the content of a message: the pictures in order, then the text."""
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [*pictures, {"type": "text", "text": text}]


def with_video(text: str, urls: list[str]) -> list[dict[str, Any]]:
    """Return the content of a message: the frames as one video, then the text.

    The form is vLLM's for frames that were sampled before: the JPEGs in base64, joined by commas.
    """
    frames = ",".join(url.partition(",")[2] for url in urls)
    video = {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{frames}"}}
    return [video, {"type": "text", "text": text}]


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion: the answer, who gave it, and what it took.

    Attributes:
        text: the answer, without the model's reasoning; "" where there is none.
        model: the model that answered.
        finish_reason: why it ended, in the server's word.
        tokens: all that were counted.
        completion_tokens: those of the answer, reasoning included.
        prompt_tokens: those of the prompt, as it was counted; 0 where it was not.
        cached_tokens: those of the prompt that the server had in its prefix cache; None where it
            does not say.
        cached: it was paid for earlier and comes from the cache.
        reasoning: what the model thought, in a field of its own or in the text.
        left_out: parameters of the request that the server refused.
        failure: why this is no answer, and what to change; None where it is one.
        attempts: requests that were sent for it; 1 where an earlier version kept it.
        dollars: US dollars that it cost when it was asked, with those of attempts that broke off;
            None where there is no price.
    """

    text: str
    model: str
    fingerprint: str | None
    finish_reason: str | None
    tokens: int
    completion_tokens: int = 0
    cached: bool = False
    reasoning: str | None = None
    left_out: tuple[str, ...] = ()
    failure: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    attempts: int = 1
    dollars: float | None = None


class NoAnswerError(CallFailedError):
    """The model gave no answer that can be used; `reply` is what it gave, and its cost."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.failure)
        self.reply = reply


_COMMENTS = re.compile(r"(?:\s*:[^\n]*\n)+")  # what keeps a connection alive until the answer


def parse_reply(content: bytes) -> Any:
    """Parse the body of a reply, in any Unicode encoding.

    Raises:
        NoCompletionError: it is not JSON; says what it is.
        ReplyTooLargeError: it is nested too deeply.
    """
    try:
        text = content.decode(json.detect_encoding(content))
        return parse_json(text[match.end() :] if (match := _COMMENTS.match(text)) else text)
    except RecursionError as error:
        raise ReplyTooLargeError("the reply is nested too deeply") from error
    except ValueError as error:  # a key twice, an endless number, bytes of no text
        cause = str(error) if "twice" in str(error) else _kind(content)
        raise NoCompletionError(f"the reply is no chat completion ({cause})") from error


def _kind(content: bytes) -> str:
    """Say what a reply is that is not JSON, and what to change."""
    begin = content.lstrip()[:6].lower()
    if not begin:
        return "it is empty"
    if begin.startswith(b"<"):
        return "a web page; check --base-url, which mostly ends in /v1, and proxies on the way"
    if begin.startswith((b"data:", b"event:")):
        return "a stream of events, not asked for; turn streaming off at the server"
    return "no JSON, or cut short"


def read_reply(completion: Any, model: str) -> Reply:
    """Read the first choice of a chat completion, given as parsed JSON.

    Args:
        completion: the server's answer.
        model: the model that was asked, for servers that do not name the one that answered.

    Raises:
        ServerSaidError: it is an error, though it came with status 200.
        NoCompletionError: it is something else.
    """
    if isinstance(completion, list) and completion:  # as Google's servers send errors
        completion = completion[0]
    if not isinstance(completion, Mapping):
        raise NoCompletionError("the reply is no chat completion (no JSON object)")
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    _raise_error(completion)
    _raise_error(choice)
    if choice is None:
        choice = _blocked(completion)
    reason = choice.get("finish_reason") if isinstance(choice, Mapping) else None
    reason = reason if isinstance(reason, str) and reason else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if message is None and reason is not None and _is_withheld(reason):
        message = {}
    if not isinstance(message, Mapping):
        if "choices" in completion:
            raise NoCompletionError("the reply is no chat completion (no message in its choices)")
        raise NoCompletionError(
            f"the reply is no chat completion (it has {and_more(list(completion), 5)}); check that"
            " --base-url is the server's OpenAI-compatible address, which mostly ends in /v1"
        )
    if reason is not None and reason.lower() in _PASSING:
        raise NoCompletionError(f"the server broke off the answer ({shorten(reason)})")
    parts = _Parts()
    parts.add(message.get("content"))
    text, thought = split_reasoning("".join(parts.texts))
    parts.add_reasoning(message)
    refusal = "".join([*parts.refusals, *_strings(message.get("refusal"))]).strip()
    reasoning = "\n".join(each for each in (*parts.thoughts, thought) if each).strip() or None
    failure = failure_of(text, reason, refusal=refusal, thought=bool(reasoning))
    answered_by, fingerprint = completion.get("model"), completion.get("system_fingerprint")
    usage = completion.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    total, answer = _count(usage.get("total_tokens")), _count(usage.get("completion_tokens"))
    return Reply(
        text=text,
        model=answered_by if isinstance(answered_by, str) and answered_by else model,
        fingerprint=fingerprint if isinstance(fingerprint, str) else None,
        finish_reason=reason,
        tokens=total,
        completion_tokens=answer,
        reasoning=reasoning,
        failure=(failure and _is_empty(text) and _other_content(message)) or failure,
        prompt_tokens=_count(usage.get("prompt_tokens")) or max(total - answer, 0),
        cached_tokens=_cached_tokens(usage),
    )


def _cached_tokens(usage: Mapping[str, Any]) -> int | None:
    """Return the tokens from the server's prefix cache, where OpenAI, DeepSeek, Anthropic say."""
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    counts = (
        details.get("cached_tokens"),
        usage.get("prompt_cache_hit_tokens"),
        usage.get("cache_read_input_tokens"),
    )
    return next((_count(count) for count in counts if count is not None), None)


def _blocked(completion: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the choice that stands for a prompt that was blocked, as Google's servers say it."""
    feedback = completion.get("promptFeedback") or completion.get("prompt_feedback")
    reason = feedback.get("blockReason", "blocked") if isinstance(feedback, Mapping) else None
    return {"finish_reason": f"prompt blocked, {reason}"} if reason else None


def _other_content(message: Mapping[str, Any]) -> str | None:
    """Say what a message has in place of a text."""
    if message.get("tool_calls") or message.get("function_call"):
        return "the model called a tool and gave no answer; turn tools off at the server"
    content = message.get("content")
    if content is None or isinstance(content, str | list):
        return None
    if isinstance(content, Mapping) and "text" in content:
        return None
    return f"the answer is {shorten(repr(content))} and not a text; check the server's settings"


def _raise_error(part: Any) -> None:
    """Raise the error that stands in a completion, or in its choice, in place of an answer."""
    if not isinstance(part, Mapping):
        return
    error = part.get("error") or part.get("errors")
    if error is None and part.get("object") == "error":
        error = part
    if isinstance(error, list):
        error = next(iter(error), None)
    if isinstance(error, Mapping) and not any(error.values()):
        error = None
    if not error and not {"choices", "finish_reason"} & part.keys():
        words = next((part[name] for name in WORDS if isinstance(part.get(name), str)), None)
        error = {**part, "message": words} if words else None
    if error:
        raise ServerSaidError(error if isinstance(error, Mapping) else {"message": str(error)})


# Why an answer ended, in lower case. A plain end, besides what names a stop or an end of sequence:
_PLAIN = frozenset({"end_turn", "complete", "completed", "end", "done", "finished", "normal"})
_CUT = frozenset(
    {
        "length",
        "max_tokens",
        "max_output_tokens",
        "model_length",
        "truncated",
        "context_length_exceeded",
        "model_context_window_exceeded",
    }
)
# The server's own trouble: the same request may go well a moment later.
_PASSING = frozenset(
    {
        "error",
        "abort",
        "aborted",
        "cancelled",
        "insufficient_system_resource",
        "insufficient_resources",
        "insufficient_resource",
        "network_error",
        "unavailable",
        "timeout",
    }
)
_WITHHELD = (
    "filter",
    "safety",
    "prohibited",
    "block",
    "guardrail",
    "recitation",
    "sensitive",
    "spii",
    "refus",
    "moderation",
)


def failure_of(
    text: str, finish_reason: str | None, *, refusal: str = "", thought: bool = False
) -> str | None:
    """Return why a reply is no answer, with what to change; None where it is one.

    Args:
        text: the answer, without reasoning.
        finish_reason: why it ended; None where the server does not say.
        refusal: the words in which the model declined, where they stand by themselves.
        thought: whether it reasoned.
    """
    reason = (finish_reason or "stop").lower()
    if refusal:
        return f"the model refused: {shorten(refusal)}"
    if reason in _CUT:
        what = "while the model still reasoned" if thought and _is_empty(text) else ""
        where = f"cut off at the limit of tokens {what}".strip()
        return f"{where} (finish reason {shorten(str(finish_reason))}); allow more new tokens"
    shown = shorten(str(finish_reason))
    if _is_withheld(reason):
        return (
            f"withheld by the endpoint's content filter (finish reason {shown}); change the prompt"
            " or the clip, or take another model"
        )
    if not (reason in _PLAIN or "stop" in reason or "eos" in reason):
        return (
            f"ended for another reason than a finished answer ({shown}); check the server's"
            " settings and log"
        )
    if _is_empty(text):
        if thought:
            return "reasoning and no answer; allow more new tokens, or turn the reasoning off"
        return "an empty answer; check the model's chat template, or take another model"
    return None


def _is_empty(text: str) -> bool:
    """Return whether a text has nothing that can be seen."""
    return not any(sign.isprintable() and not sign.isspace() for sign in text)


def _is_withheld(reason: str) -> bool:
    return any(word in reason.lower() for word in _WITHHELD)


@dataclass(slots=True)
class _Parts:
    """What a message's content is made of: text, reasoning and refusals, in their order."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def add(self, content: Any) -> None:
        """Add a content: a text, a part, or a list of these."""
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, str):
                self.texts.append(part)
            elif isinstance(part, Mapping):
                self._add_part(part)

    def _add_part(self, part: Mapping[str, Any]) -> None:
        kind = str(part.get("type", "text")).lower()
        if "think" in kind or "reason" in kind:
            self.add_reasoning(part)
        elif kind == "refusal":
            self.refusals += _strings(part.get("refusal") or part.get("text"))
        else:
            self.texts += _strings(part.get("text"))

    def add_reasoning(self, part: Mapping[str, Any]) -> None:
        """Add the reasoning that stands in fields of a part or message."""
        for name in _REASONING:
            texts = _strings(part.get(name))
            if texts:
                self.thoughts.append("".join(texts))
                return
        if "type" in part:
            self.thoughts += _strings(part.get("text"))


# Several of them hold the same where a server has more than one.
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "summary")


def _strings(value: Any, depth: int = 3) -> list[str]:
    """Return the texts in a value: itself, those of its list, or of the `text` of its parts."""
    if isinstance(value, str):
        return [value] if value else []
    if depth and isinstance(value, list):
        return [text for each in value for text in _strings(each, depth - 1)]
    if depth and isinstance(value, Mapping):
        names = ("text", "content", "thinking", "summary", "value")
        return next(
            (texts for name in names if (texts := _strings(value.get(name), depth - 1))), []
        )
    return []


# The marks around reasoning, as models' chat templates have them.
_MARK = re.compile(
    r"<(?P<close>/)?(?:seed:)?(?:think|thinking|thought|thoughts|reasoning)>"
    r"|\[(?P<close2>/)?THINK\]"
    r"|\u25c1(?P<close3>/)?think\u25b7"
    r"|<\|(?:START|(?P<close4>END))_THINKING\|>"
    r"|<\|(?:begin|(?P<close6>end))_of_thought\|>"
    r"|<\|channel>thought|(?P<close7><channel\|>)"
    r"|(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>"
    r"(?:(?:analysis|commentary)|(?P<close5>final))<\|message\|>",
    re.IGNORECASE,
)
_ENDS = re.compile(
    r"(?:<\|(?:return|end|im_end|START_RESPONSE|END_RESPONSE"
    r"|begin_of_solution|end_of_solution)\|>)"
)
# Ends of turns that a server leaves standing at the end of a text.
_LAST = (
    *("<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|return|>"),
    *("<end_of_turn>", "</s>"),
)
_ANSWER = re.compile(r"<answer>(.*)</answer>", re.DOTALL | re.IGNORECASE)


def _without_last_marks(text: str) -> str:
    end = kept = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        mark = next((each for each in _LAST if text.endswith(each, 0, end)), None)
        if mark is None:
            return text[:kept]
        kept = end = end - len(mark)


def split_reasoning(text: str) -> tuple[str, str | None]:
    r"""Return the answer in a text, and the reasoning that stands in it, or None.

    Reasoning is what stands between marks such as `<think>` and `</think>`, before a closing mark
    that none opened, and after an opening one that none closes. A text without marks is returned
    as it is, and one that begins as a JSON object or a fence too: it may quote them. Marks of a
    turn's end are no part of an answer, nor is a pair of `<answer>` around it after reasoning.

    >>> split_reasoning("Red? No, grey.</think>\n\nGrey.")
    ('Grey.', 'Red? No, grey.')
    """
    text = _without_last_marks(text)
    begin = text.lstrip()[:8]
    if begin == "analysis" and "assistantfinal" in text:  # channels whose marks a server left out
        thought, _, answer_text = text.lstrip()[8:].rpartition("assistantfinal")
        return answer_text.strip(), thought.strip() or None
    if begin.startswith(("{", "```", "~~~")) or not _MARK.search(text):
        return text, None
    answer: list[str] = []
    thoughts: list[str] = []
    at, thinks = 0, False
    for mark in _MARK.finditer(text):
        part, at = text[at : mark.start()], mark.end()
        closes = any(mark.groups())
        if thinks:
            thoughts.append(part)
        elif closes:  # what came so far was reasoning
            thoughts += [*answer, part]
            answer = []
        else:
            answer.append(part)
        thinks = not closes
    (thoughts if thinks else answer).append(text[at:])
    left = _ENDS.sub("", "".join(answer)).strip()
    if wrapped := _ANSWER.fullmatch(left):
        left = wrapped[1].strip()
    return left, "\n".join(each.strip() for each in thoughts if each.strip()) or None


def _count(value: Any) -> int:
    is_count = type(value) in (int, float) and 0 <= value < 1e12
    return int(value) if is_count else 0
