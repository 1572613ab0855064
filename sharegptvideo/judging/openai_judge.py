"""`openai:NAME`: a language model behind an OpenAI-compatible endpoint as the judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo.judging.base import JudgeItem, Verdict
from sharegptvideo.judging.protocol import UnreadableError, load_protocol
from sharegptvideo.llm import CallFailedError, ChatClient, Reply, in_parallel

__all__ = ["OpenAIJudge"]

_MAX_TOKENS = 2048


class OpenAIJudge:
    """Asks for one verdict an item; a reply that cannot be read is asked for once more."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        protocol: str = "caption-grounded",
        prompt_file: Path | None = None,
        concurrency: int = 8,
        client: ChatClient | None = None,
    ) -> None:
        """`client` replaces the one made from `model` and `base_url` (other waits, time-outs)."""
        self.name = f"openai:{model}"
        self._protocol = load_protocol(protocol, prompt_file)
        self._client = client or ChatClient(model, base_url=base_url)
        self._concurrency = concurrency

    def describe(self) -> dict[str, Any]:
        """Name, kind, model asked for, prompt version and hash, decoding, endpoint.

        Raises:
            UserError: no endpoint is set.
        """
        return {
            "name": self.name,
            "kind": "openai",
            **self._about(),
            "temperature": 0,
            "max_tokens": _MAX_TOKENS,
            "endpoint": self._client.endpoint.base_url,
        }

    def check(self) -> None:
        """Contact the endpoint; see `ChatClient.check`."""
        self._client.check()

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield verdicts as they come.

        An item is unscored where the call failed (no reply kept: worth asking again) or where the
        second reply could not be read either (both kept, in the order of their coming).

        Raises:
            UserError: the endpoint cannot be used, or is gone; the verdicts so far are out.
        """
        found = in_parallel(
            self._verdict, items, width=self._concurrency, finish=self._client.close
        )
        for _, verdict in found:
            yield verdict

    def _about(self) -> dict[str, Any]:
        return {
            "model": self._client.model,
            "protocol": self._protocol.protocol,
            "prompt_version": self._protocol.version,
            "prompt_hash": self._protocol.hash,
        }

    async def _verdict(self, item: JudgeItem) -> Verdict:
        messages = self._protocol.messages(item)
        replies: list[Reply] = []
        problem = ""
        for _ in range(2):
            try:
                reply = await self._client.complete(
                    messages,
                    response_format=self._protocol.response_format(),
                    max_tokens=_MAX_TOKENS,
                )
            except CallFailedError as error:
                problem = f"the call failed: {error}"
                break
            replies.append(reply)
            try:
                correct, score, reason = self._protocol.read(reply.text)
            except UnreadableError as error:
                problem = f"the reply cannot be read: {error}"
                if reply.finish_reason == "length":
                    problem = f"the reply was cut off at {_MAX_TOKENS} tokens"
                again = self._protocol.ask_again(str(error))
                messages = [
                    *messages,
                    {"role": "assistant", "content": reply.text},
                    {"role": "user", "content": again},
                ]
                continue
            return self._make(item, replies, correct, float(score), reason)
        return self._make(item, replies, None, None, problem)

    def _make(
        self,
        item: JudgeItem,
        replies: Sequence[Reply],
        correct: bool | None,
        score: float | None,
        reason: str | None,
    ) -> Verdict:
        last = replies[-1] if replies else None
        about = self._about() | {
            "answered_by": last.model if last else None,
            "fingerprint": last.fingerprint if last else None,
        }
        if self._client.refused:
            about["left_out"] = sorted(self._client.refused)
        return Verdict(
            id=item.id,
            status="scored" if correct is not None else "unscored",
            correct=correct,
            score=score,
            reason=reason,
            reply="\n---\n".join(reply.text for reply in replies) if replies else None,
            judge=about,
            tokens=sum(reply.tokens for reply in replies),
        )
