"""Answers from a Video-LLaVA: batched, cached, seeded.

transformers' `generate` spends more time per token around a small model than in it, and runs the
clip through tower and language model for every row. Here a clip's part of the prompt, which is
nearly all of it, runs once for all its questions, and a question once for all its answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sharegptvideo._concurrency import Progress, limit_torch_threads
from sharegptvideo.errors import UserError
from sharegptvideo.models.checkpoints import load_model, load_tokenizer
from sharegptvideo.models.memory import (
    cache_bytes,
    coming_cache_bytes,
    fitting_rows,
    free_bytes,
    in_parts,
)
from sharegptvideo.models.pixels import Frames, VideoPixels
from sharegptvideo.models.prompts import conversation, encode, expand_video, video_token_count
from sharegptvideo.models.sampling import Decoding, choose, uniforms
from sharegptvideo.models.shared_prefix import SharedPrefixCache, attending_to_prefixes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, VideoLlavaForConditionalGeneration

__all__ = ["VideoLanguageModel"]


@dataclass(slots=True)
class _Row:
    """One prompt: ids up to the clip's end and behind it, the clip's key, where answers go.

    `room` is how many tokens an answer may have.
    """

    position: int
    prefix: list[int]
    ids: list[int]
    clip: bytes
    seed_text: str
    room: int


@dataclass(frozen=True, slots=True)
class _State:
    """What decoding starts from, one row per prompt.

    Last hidden state, cache, what is added to products with the tokens behind the clip (rows×1×1×
    tokens, those of the answer included), position of the next token, and tokens held so far.
    """

    hidden: torch.Tensor
    cache: SharedPrefixCache
    mask: torch.Tensor
    next_position: torch.Tensor
    held: int


class VideoLanguageModel:
    """A loaded Video-LLaVA with its tokenizer and pixel path.

    Attributes:
        model: the transformers model, in evaluation mode.
        tokenizer: with the chat template that prompts are built from.
        processor: frames to pixel values.
        frames: how many frames a clip should be given as.
        memory_limit: bytes that the caches of what is decoded at once may take; None: what is
            free on the device.
    """

    def __init__(
        self,
        model: VideoLlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: VideoPixels,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.processor = processor
        self.memory_limit: int | None = None
        self.frames = model.config.video_seq_length // video_token_count(model.config, 1)
        stop = model.generation_config.eos_token_id
        stop = tokenizer.eos_token_id if stop is None else stop
        self._stop = torch.tensor(stop if isinstance(stop, list) else [stop], device=model.device)

    @classmethod
    def from_pretrained(
        cls, path: str, device: str | None = None, dtype: str | torch.dtype | None = None
    ) -> VideoLanguageModel:
        """Load from a folder or a Hub id.

        Args:
            device: default: a CUDA device where there is one, else the CPU.
            dtype: a torch dtype or its name; default: float32 on the CPU, else as saved.

        Raises:
            UserError: nothing there, or another architecture than Video-LLaVA.
        """
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if dtype is None:
            dtype = "float32" if place.type == "cpu" else "auto"
        model = load_model(str(path), dtype=dtype)
        limit_torch_threads(model.num_parameters() if place.type == "cpu" else None)
        return cls(
            model.to(place).eval(),  # type: ignore[arg-type]  # to() is typed for its other forms
            load_tokenizer(str(path)),
            VideoPixels.from_pretrained(str(path)),
        )

    def generate(
        self,
        items: Sequence[tuple[Frames, str]],
        *,
        max_new_tokens: int = 128,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_p: float = 1.0,
        num_return_sequences: int = 1,
        seed: int = 0,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> list[list[str]]:
        """Answer `(frames, question)` pairs; frames are uint8 n×H×W×3 RGB.

        Args:
            do_sample: draw from the distribution, sharpened by `temperature` and cut to the
                smallest set of tokens with `top_p` of the mass; else take the likeliest token.
            num_return_sequences: answers per question.
            seed: with the clip, the question and the answer's number it fixes what is drawn, so
                an answer does not depend on what else is asked in the same call.
            batch_size: how many answers are decoded at once, if memory has room for them; a
                clip's part of the prompt is read once for however many questions about it.

        Returns:
            For each item, `num_return_sequences` answers without special tokens.

        Raises:
            UserError: the prompt leaves no room in the model's positions, or an argument is out
                of range.
        """
        decoding = Decoding(
            max_new_tokens, do_sample, temperature, top_p, num_return_sequences, seed
        )
        decoding.check()
        rows, pixels = self._rows(items, max_new_tokens)
        answers: list[list[str]] = [[] for _ in items]
        most = max(1, batch_size // num_return_sequences)
        done = 0
        with torch.inference_mode():
            for batch in _batches(rows, most, self._fitting_clips(rows)):
                found = in_parts(batch, lambda part: self._answer(part, pixels, decoding, most))
                for row, texts in zip(batch, found, strict=True):
                    answers[row.position] = texts
                done += len(batch)
                if progress:
                    progress(done, len(rows), "answering")
        return answers

    def _rows(
        self, items: Sequence[tuple[Frames, str]], steps: int
    ) -> tuple[list[_Row], dict[bytes, torch.Tensor]]:
        text_config: Any = self.model.config.text_config
        limit = text_config.max_position_embeddings
        rows: list[_Row] = []
        pixels: dict[bytes, torch.Tensor] = {}
        keys: dict[int, bytes] = {}  # by object: rows often share one array
        video = self.model.config.video_token_id
        for position, (frames, question) in enumerate(items):
            key = keys.get(id(frames))
            if key is None:
                key = keys[id(frames)] = _clip_key(frames)
            if key not in pixels:
                pixels[key] = self.processor.resize_and_crop(frames)
            count = video_token_count(self.model.config, len(frames))
            ids, spoken = encode(self.tokenizer, conversation(question))
            ids, _ = expand_video(ids, spoken, video, count)
            end = ids.index(video) + count
            room = min(steps, limit - len(ids))
            if room < 1:
                raise UserError(
                    f"a prompt of {len(ids)} tokens leaves no room in {limit} positions"
                )
            seed_text = f"{key.hex()}\n{question}"
            rows.append(_Row(position, ids[:end], ids[end:], key, seed_text, room))
        return rows, pixels

    def _fitting_clips(self, rows: Sequence[_Row]) -> int | None:
        """How many clips may be held at once: half of memory, the rest for reading and rows."""
        longest = max((len(row.prefix) for row in rows), default=0)
        one = coming_cache_bytes(self.model.config.text_config, longest, self.model.dtype)
        return fitting_rows(2 * one, self.memory_limit or free_bytes(self.model.device))

    def _answer(
        self,
        rows: Sequence[_Row],
        pixels: dict[bytes, torch.Tensor],
        decoding: Decoding,
        most: int,
    ) -> list[list[str]]:
        """Read the clips once, then decode their questions, at most `most` at once."""
        clips = {row.clip: row.prefix for row in rows}
        cache = self._read_clips(clips, pixels)
        number = {clip: index for index, clip in enumerate(clips)}

        def answer(part: Sequence[_Row]) -> list[list[str]]:
            with attending_to_prefixes(self.model.config.text_config):
                state = self._read(part, cache, [number[row.clip] for row in part])
                tokens = self._decode(
                    state,
                    [row.room for row in part for _ in range(decoding.answers)],
                    decoding,
                    uniforms([row.seed_text for row in part], decoding),
                )
            texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            texts = [text.strip() for text in texts]
            k = decoding.answers
            return [texts[start : start + k] for start in range(0, len(texts), k)]

        longest = max(len(row.ids) + row.room for row in rows)
        free = self.memory_limit or free_bytes(self.model.device)
        fitting = fitting_rows(cache_bytes(cache, longest) * decoding.answers, free)
        return in_parts(rows, answer, most=min(most, fitting or most))

    def _read_clips(self, clips: dict[bytes, list[int]], pixels: dict[bytes, torch.Tensor]) -> Any:
        """The cache of the prompts' beginnings up to the clips' ends, a row for each clip."""
        device = self.model.device
        values = torch.stack([pixels[clip] for clip in clips])
        values = self.processor.normalise(values).to(device, self.model.dtype)
        seen = self.model.model.get_video_features(pixel_values_videos=values, return_dict=True)
        ids = torch.tensor(list(clips.values()), device=device)
        embeds = self.model.get_input_embeddings()(ids)
        where = (ids == self.model.config.video_token_id).unsqueeze(-1)
        embeds = embeds.masked_scatter(where, seen.pooler_output.to(embeds.dtype))
        language = self.model.model.language_model
        return language(inputs_embeds=embeds, use_cache=True).past_key_values

    def _read(self, rows: Sequence[_Row], clips: Any, which: list[int]) -> _State:
        """Run the questions behind their clips, padded on the left."""
        device, language = self.model.device, self.model.model.language_model
        room = max(row.room for row in rows)
        cache = SharedPrefixCache(clips, which, ahead=room)
        lengths = torch.tensor([[len(row.ids)] for row in rows], device=device)
        longest = int(lengths.max())
        numbers = torch.arange(longest, device=device) - (longest - lengths)  # under 0: padding
        # Added to the products with what stands behind the clips, answers included.
        mask = torch.zeros(len(rows), 1, 1, longest + room, dtype=self.model.dtype, device=device)
        least = torch.finfo(mask.dtype).min
        mask[:, 0, 0, :longest].masked_fill_(numbers < 0, least)
        later = mask.new_full((longest, longest), least).triu(1)
        output = language(
            input_ids=torch.tensor(
                [[0] * (longest - len(row.ids)) + row.ids for row in rows], device=device
            ),
            attention_mask=torch.minimum(mask[..., :longest], later),
            position_ids=len(rows[0].prefix) + numbers.clamp(min=0),
            past_key_values=cache,
            use_cache=True,
        )
        return _State(
            output.last_hidden_state[:, -1], cache, mask, len(rows[0].prefix) + lengths, longest
        )

    def _decode(
        self,
        state: _State,
        room: list[int],
        decoding: Decoding,
        drawn: torch.Tensor | None,
    ) -> list[list[int]]:
        """Token ids per answer, rows×answers of them, at most `room` each, no closing token."""
        language, head, cache = self.model.model.language_model, self.model.lm_head, state.cache
        hidden, mask, next_position = state.hidden, state.mask, state.next_position
        held = state.held
        if decoding.answers > 1:
            cache.batch_repeat_interleave(decoding.answers)
            hidden, mask, next_position = (
                x.repeat_interleave(decoding.answers, dim=0) for x in (hidden, mask, next_position)
            )
        live = list(range(len(hidden)))  # answers still growing, in the order of the cache's rows
        tokens: list[list[int]] = [[] for _ in live]
        for step in range(max(room)):
            numbers = None if drawn is None else drawn[step, live]
            chosen = choose(head(hidden), decoding, numbers)
            ended = torch.isin(chosen, self._stop)
            keep = [i for i, done in enumerate(ended.tolist()) if not done]
            for i, token in zip(keep, chosen[keep].tolist(), strict=True):
                tokens[live[i]].append(token)
            keep = [i for i in keep if len(tokens[live[i]]) < room[live[i]]]
            if not keep:
                break
            if len(keep) < len(live):
                index = torch.tensor(keep, device=hidden.device)
                cache.batch_select_indices(index)
                chosen, mask, next_position = chosen[index], mask[index], next_position[index]
                live = [live[i] for i in keep]
            held += 1
            output = language(
                input_ids=chosen[:, None],
                attention_mask=mask[..., :held],
                position_ids=next_position,
                past_key_values=cache,
                use_cache=True,
            )
            hidden = output.last_hidden_state[:, -1]
            next_position = next_position + 1
        return tokens


def _batches(rows: list[_Row], size: int, most_clips: int | None) -> Iterator[list[_Row]]:
    """Whole clips, with `size` rows or fewer unless one clip has more; prefixes of one length."""
    clips: dict[bytes, list[_Row]] = {}
    for row in rows:
        clips.setdefault(row.clip, []).append(row)
    batch: list[_Row] = []
    held = 0
    for group in sorted(clips.values(), key=lambda group: len(group[0].prefix)):
        new_length = bool(batch) and len(batch[0].prefix) != len(group[0].prefix)
        if batch and (new_length or len(batch) + len(group) > size or held == most_clips):
            yield batch
            batch, held = [], 0
        batch = batch + sorted(group, key=lambda row: len(row.ids))  # little is padded then
        held += 1
    if batch:
        yield batch


def _clip_key(frames: Frames) -> bytes:
    digest = hashlib.blake2b(np.ascontiguousarray(frames).data, digest_size=16)
    digest.update(str(frames.shape).encode())
    return digest.digest()
