"""Video-LLaVA: answers batched, cached, seeded, the same that transformers gives.

transformers' `generate` spends more time per token around a small model than in it, and runs the
clip through tower and language model for every row. Here a clip's part of the prompt, which is
nearly all of it, runs once for all its questions, and a question once for all its answers. No
torchvision is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from sharegptvideo.errors import UserError
from sharegptvideo.models.base import Answer, Request, SamplingParams
from sharegptvideo.models.checkpoints import check_tokens, load_tokenizer
from sharegptvideo.models.local import LocalModel
from sharegptvideo.models.memory import (
    cache_bytes,
    coming_cache_bytes,
    fitting_rows,
    free_bytes,
    in_parts,
)
from sharegptvideo.models.pixels import VideoPixels
from sharegptvideo.models.prompts import (
    check_template,
    conversation,
    encode,
    expand_video,
    video_token_count,
)
from sharegptvideo.models.sampling import choose, clip_key, uniforms
from sharegptvideo.models.shared_prefix import SharedPrefixCache, attending_to_prefixes

__all__ = ["VideoLlavaModel"]


@dataclass(slots=True)
class _Row:
    """One prompt: ids up to the clip's end and after it, the clip's key, the request's place.

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

    Last hidden state, cache, what is added to products with the tokens after the clip (rows×1×1×
    tokens, those of the answer included), position of the next token, and tokens held so far.
    """

    hidden: torch.Tensor
    cache: SharedPrefixCache
    mask: torch.Tensor
    next_position: torch.Tensor
    held: int


class VideoLlavaModel(LocalModel):
    """A Video-LLaVA with its tokenizer and pixel path.

    Attributes:
        pixels: frames to pixel values.
        most_frames: frames of a clip that the tower has embeddings of time for; None: it sees each
            frame by itself, and takes any number.
    """

    def __init__(self, path: str, **settings: Any) -> None:
        """Read configuration and tokenizer; for `settings` see `LocalModel`.

        Raises:
            UserError: no checkpoint there, or a part of it is missing.
        """
        super().__init__(path, **settings)
        folder = str(self._folder)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        self.frames = config.video_seq_length // video_token_count(config, 1)
        self.most_frames: int | None = None
        if config.model_type == "llava_hound" and config.video_config.add_time_attn:
            self.most_frames = config.video_config.num_frames
        self.tokenizer = load_tokenizer(folder)
        check_tokens(path, self.tokenizer, config.get_text_config().vocab_size)
        check_template(path, self.tokenizer, config.video_token_id)
        self.pixels = VideoPixels.from_pretrained(folder)

    def _render(self, prompt: str) -> str:
        ids, _ = encode(self.tokenizer, conversation(prompt))
        return str(self.tokenizer.decode(ids))

    def _answers(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        answers: dict[int, Answer] = {}
        rows: list[_Row] = []
        keys: dict[int, bytes] = {}  # by object: requests about a clip share one array
        pixels: dict[bytes, torch.Tensor] = {}
        for position, request in enumerate(requests):
            assert request.frames is not None, "the caller gives frames to models that need them"
            key = keys.get(id(request.frames))
            if key is None:
                key = keys[id(request.frames)] = clip_key(request.frames)
            if key not in pixels:
                pixels[key] = self.pixels.resize_and_crop(request.frames)
            try:
                rows.append(self._row(position, request, key, params.max_new_tokens))
            except UserError as error:
                answers[position] = Answer(request, error=str(error))
        most = max(1, self.batch_size // params.n)
        for batch in _batches(rows, most, self._fitting_clips(rows)):
            texts = in_parts(batch, lambda part: self._generate(part, pixels, params, most))
            for row, of_row in zip(batch, texts, strict=True):
                answers[row.position] = Answer(requests[row.position], tuple(of_row))
        return [answers[position] for position in range(len(requests))]

    def _row(self, position: int, request: Request, key: bytes, steps: int) -> _Row:
        assert request.frames is not None
        config = self.model.config
        video, limit = config.video_token_id, config.text_config.max_position_embeddings
        shown, most = len(request.frames), self.most_frames
        if most is not None and shown > most:
            raise UserError(f"{shown} frames, and the model looks at {most} of a clip at most")
        count = video_token_count(config, len(request.frames))
        ids, mask = encode(self.tokenizer, conversation(request.prompt))
        ids, _ = expand_video(ids, mask, video, count)
        end = ids.index(video) + count
        room = min(steps, limit - len(ids))
        if room < 1:
            raise UserError(f"a prompt of {len(ids)} tokens leaves no room in {limit} positions")
        seed_text = f"{key.hex()}\n{request.prompt}"
        return _Row(position, ids[:end], ids[end:], key, seed_text, room)

    def _fitting_clips(self, rows: Sequence[_Row]) -> int | None:
        """Return how many clips may be held at once: half of memory; rows and reading need some."""
        longest = max((len(row.prefix) for row in rows), default=0)
        one = coming_cache_bytes(self.model.config.text_config, longest, self.model.dtype)
        return fitting_rows(2 * one, self.memory_limit or free_bytes(self.model.device))

    def _generate(
        self,
        rows: Sequence[_Row],
        pixels: dict[bytes, torch.Tensor],
        params: SamplingParams,
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
                    [row.room for row in part for _ in range(params.n)],
                    params,
                    uniforms([row.seed_text for row in part], params),
                )
            texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            texts = [text.strip() for text in texts]
            n = params.n
            return [texts[start : start + n] for start in range(0, len(texts), n)]

        longest = max(len(row.ids) + row.room for row in rows)
        free = self.memory_limit or free_bytes(self.model.device)
        fitting = fitting_rows(cache_bytes(cache, longest) * params.n, free)
        return in_parts(rows, answer, most=min(most, fitting or most))

    def _read_clips(self, clips: dict[bytes, list[int]], pixels: dict[bytes, torch.Tensor]) -> Any:
        """Fill the cache of the prompts' beginnings up to the clips' ends, a row for each clip."""
        device = self.model.device
        values = torch.stack([pixels[clip] for clip in clips])
        values = self.pixels.normalise(values).to(device, self.model.dtype)
        seen = self.model.model.get_video_features(pixel_values_videos=values, return_dict=True)
        ids = torch.tensor(list(clips.values()), device=device)
        embeds = self.model.get_input_embeddings()(ids)
        where = (ids == self.model.config.video_token_id).unsqueeze(-1)
        embeds = embeds.masked_scatter(where, seen.pooler_output.to(embeds.dtype))
        language = self.model.model.language_model
        return language(inputs_embeds=embeds, use_cache=True).past_key_values

    def _read(self, rows: Sequence[_Row], clips: Any, which: list[int]) -> _State:
        """Run the questions after their clips, padded on the left."""
        device, language = self.model.device, self.model.model.language_model
        room = max(row.room for row in rows)
        cache = SharedPrefixCache(clips, which, ahead=room)
        lengths = torch.tensor([[len(row.ids)] for row in rows], device=device)
        longest = int(lengths.max())
        numbers = torch.arange(longest, device=device) - (longest - lengths)  # under 0: padding
        # Added to the products with what comes after the clips, answers included.
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
        params: SamplingParams,
        drawn: torch.Tensor | None,
    ) -> list[list[int]]:
        """Token ids per answer, rows×answers of them, at most `room` each, no closing token."""
        language, head, cache = self.model.model.language_model, self.model.lm_head, state.cache
        hidden, mask, next_position = state.hidden, state.mask, state.next_position
        held = state.held
        stop = torch.tensor(self._stop, device=hidden.device)
        if params.n > 1:
            cache.batch_repeat_interleave(params.n)
            hidden, mask, next_position = (
                x.repeat_interleave(params.n, dim=0) for x in (hidden, mask, next_position)
            )
        live = list(range(len(hidden)))  # answers still growing, in the order of the cache's rows
        tokens: list[list[int]] = [[] for _ in live]
        for step in range(max(room)):
            numbers = None if drawn is None else drawn[step, live]
            chosen = choose(head(hidden), params, numbers)
            ended = torch.isin(chosen, stop)
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
