"""Conversations as token ids, by a checkpoint's own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sharegptvideo.errors import UserError
from sharegptvideo.models.processor import reserved_marks

__all__ = ["Conversations"]

_ROLES = {"system", "user", "assistant"}
# In place of an answer while the template is filled in: a character that no text has.
_MARK = "\ue0a7"


class Conversations:
    """Turns conversations on one clip into ids, and says which the assistant speaks.

    An answer follows exactly what generation is prompted with, and is learnt with the token that
    ends it. Some templates write finished turns otherwise than they prompt (LLaVA-OneVision puts
    a space before an answer's line); the ids of a whole rendered conversation would then teach
    answers to a prompt that never comes.

    Args:
        name: of the model, for messages.
        processor: of transformers.
        generation: the model's generation config, which says what ends an answer.
    """

    def __init__(self, name: str, processor: Any, generation: Any) -> None:
        self._name = name
        self._processor = processor
        ends = getattr(generation, "eos_token_id", None)
        ends = [ends] if isinstance(ends, int) else list(ends or ())
        self._ends = {*ends, processor.tokenizer.eos_token_id}

    def encode(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[bool]]:
        """Return ids, the clip as one token before the first user's text, and the assistant mask.

        A conversation that ends with the user's turn ends in the prompt for an answer.

        Args:
            messages: `{"role": "system" | "user" | "assistant", "content": text}`.

        Raises:
            UserError: a text holds one of the model's own marks, or the roles make no
                conversation.
        """
        self._check(messages)
        turns = _turns(messages)
        ids: list[int] = []
        assistant_mask: list[bool] = []

        def add(more: list[int], said: int = 0) -> None:
            ids.extend(more)
            assistant_mask.extend([True] * said + [False] * (len(more) - said))

        behind = 0  # tokens of the turn's end that the answer before has brought
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self._render(turns[:number], generation=True)
            add(self._ids(prompt.rpartition(_MARK)[2], begin=not ids)[behind:])
            end = self._end(self._render(turns[: number + 1], generation=False))
            answer = self._ids(message["content"])
            add(answer + end, said=len(answer) + len(end))
            behind = len(end)
        if messages[-1]["role"] == "user":
            prompt = self._render(turns, generation=True)
            add(self._ids(prompt.rpartition(_MARK)[2], begin=not ids)[behind:])
        return ids, assistant_mask

    def _end(self, rendered: str) -> list[int]:
        """What closes an answer, up to the token that ends it; what follows is not generated."""
        closing = self._ids(rendered.rpartition(_MARK)[2])
        for number, token in enumerate(closing, 1):
            if token in self._ends:
                return closing[:number]
        raise UserError(
            f"model {self._name}: its chat template closes an answer with "
            f"{rendered.rpartition(_MARK)[2]!r}, where nothing ends generation; name the closing "
            "token as eos_token_id in generation_config.json"
        )

    def _render(self, turns: Sequence[dict[str, Any]], *, generation: bool) -> str:
        return str(
            self._processor.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=generation
            )
        )

    def _ids(self, text: str, *, begin: bool = False) -> list[int]:
        return list(self._processor.tokenizer(text, add_special_tokens=begin)["input_ids"])

    def _check(self, messages: Sequence[Mapping[str, Any]]) -> None:
        roles = [message["role"] for message in messages]
        if not _ROLES.issuperset(roles) or "user" not in roles or roles[-1] == "system":
            raise UserError(f"messages: the roles {roles} make no conversation about a clip")
        marks = reserved_marks(self._processor) | {_MARK}
        for message in messages:
            found = sorted(mark for mark in marks if mark in message["content"])
            if found:
                raise UserError(
                    f"messages: a text may not hold the model's own mark {found[0]!r}: "
                    f"{message['content']!r}"
                )


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As chat templates take them: the clip in the first user's turn, a mark for each answer."""
    turns = []
    clip: list[dict[str, Any]] = [{"type": "video"}]
    for message in messages:
        is_answer = message["role"] == "assistant"
        content = [{"type": "text", "text": _MARK if is_answer else message["content"]}]
        if message["role"] == "user":
            content, clip = clip + content, []
        turns.append({"role": message["role"], "content": content})
    return turns
