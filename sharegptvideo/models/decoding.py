"""One engine for the answers of every model on this machine: each clip read once, rows together.

Two ways to the same answers. In batches: rows of a few clips start together and leave when they
are done, which suits a CPU. In slots: a fixed number of rows after a fixed number of clips, in
tensors of fixed shapes at fixed addresses, so that a GPU replays a step as one captured graph;
waiting rows take the places of those that are done, and the device is asked for these every few
steps only.

What is drawn for an answer depends on seed, clip and prompt, never on the rows beside it.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from sharegptvideo.models.base import SamplingParams
from sharegptvideo.models.memory import (
    cache_bytes,
    coming_cache_bytes,
    fitting_rows,
    free_bytes,
    in_parts,
    is_out_of_memory,
)
from sharegptvideo.models.sampling import choose, uniforms
from sharegptvideo.models.shared_prefix import (
    SharedPrefixCache,
    SlotCache,
    attending_to_prefixes,
    least,
)

__all__ = ["Decoder", "Limits", "Prompt", "ReadClips"]

T = TypeVar("T")

_POLL = 4  # steps between two looks at which rows are done
_READ = 8192  # tokens of prompts that are read at once into slots
_UNIT = 8  # numbers of rows and tokens are multiples of it: kernels want that, graphs serve again
_LOGITS = 48  # bytes a number of the vocabulary takes while a token is drawn
_CAPTURE = threading.Lock()  # one graph at a time


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt from its clip's end on.

    Attributes:
        number: its place among the requests.
        clip: hashable key of what comes before; prompts with one key share it.
        prefix: how many tokens come before.
        ids: those after, at least one.
        positions: of these, ...×1×tokens.
        seed_text: what, with the seed, determines what is drawn.
        room: how many tokens an answer may have.
    """

    number: int
    clip: Any
    prefix: int
    ids: list[int]
    positions: torch.Tensor
    seed_text: str
    room: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is decoded at once: `rows` answers, in `memory` bytes (None: what is free)."""

    rows: int
    memory: int | None = None


ReadClips = Callable[[Sequence[Prompt]], Any]
"""Gives a filled cache, a row for what comes before each of these prompts, all of one length."""

Decoded = tuple[Prompt, list[list[int]]]
"""A prompt with the token ids of its answers; a closing token is an answer's last."""


class Decoder:
    """Decodes answers to prompts about clips.

    Attributes:
        in_slots: whether in slots of fixed shapes, else in batches that shrink.
        captured: whether steps in slots run as a CUDA graph.
    """

    def __init__(
        self,
        logits: Callable[..., torch.Tensor],
        config: Any,
        stop: Sequence[int],
        place: tuple[torch.device, torch.dtype],
        *,
        in_slots: bool,
    ) -> None:
        """Take a model's parts.

        Args:
            logits: gives those of the last tokens, rows×vocabulary, by `input_ids`,
                `attention_mask` (rows×1×tokens×own tokens, added), `position_ids` and
                `past_key_values`; with `keep`, rows×keep×vocabulary, those of the last `keep`.
            config: of the language model.
            stop: tokens that end an answer.
            place: device and dtype of the model.
            in_slots: see the class.
        """
        self._logits, self._config = logits, config
        self._device, self._dtype = place
        self._stop = torch.tensor(stop, device=self._device)
        self.in_slots, self.captured = in_slots, self._device.type == "cuda"
        self._slots: _Slots | None = None

    def answers(
        self, prompts: Sequence[Prompt], read: ReadClips, params: SamplingParams, limits: Limits
    ) -> Iterator[Decoded]:
        """Yield the answers to each prompt as it is done; halve what memory does not hold.

        Raises:
            torch.OutOfMemoryError: or the CPU allocator's RuntimeError: one prompt does not fit.
        """
        if self.in_slots:
            decoded = self._by_slots(prompts, read, params, limits)
        else:
            decoded = self._by_batches(
                prompts,
                read,
                params.n,
                limits,
                lambda part, cache, which: self._decode(part, cache, which, params),
            )
        again = params.n if params.greedy else 1  # greedy decoding has one answer
        for prompt, tokens in decoded:
            yield prompt, tokens * again

    def scores(
        self,
        prompts: Sequence[Prompt],
        options: Mapping[int, Sequence[list[int]]],
        read: ReadClips,
        limits: Limits,
    ) -> Iterator[tuple[Prompt, list[float]]]:
        """Yield the mean log-probability of the tokens of each continuation of each prompt.

        Args:
            prompts: with room for their continuations.
            options: by a prompt's number, the ids of each continuation, one or more.
            read: reads what comes before the prompts.
            limits: a continuation is a row.

        Raises:
            torch.OutOfMemoryError: or the CPU allocator's RuntimeError: one prompt does not fit.
        """
        rows = max(len(options[prompt.number]) for prompt in prompts) if prompts else 1
        yield from self._by_batches(
            prompts,
            read,
            rows,
            limits,
            lambda part, cache, which: self._score(part, cache, which, options),
        )

    def _by_batches(
        self,
        prompts: Sequence[Prompt],
        read: ReadClips,
        rows: int,
        limits: Limits,
        answer: Callable[[Sequence[Prompt], Any, list[int]], list[list[T]]],
    ) -> Iterator[tuple[Prompt, list[T]]]:
        """Answer prompts of `rows` rows each; `answer` gets some with a cache of their clips."""
        most = max(1, limits.rows // rows)
        longest = max((prompt.prefix for prompt in prompts), default=0)
        # Half of memory: rows, and reading itself, need some.
        clip = 2 * coming_cache_bytes(self._config, longest, self._dtype)
        clips = fitting_rows(clip, limits.memory or free_bytes(self._device))
        for batch in _batches(prompts, most, clips):
            decoded = in_parts(batch, lambda part: self._batch(part, read, rows, limits, answer))
            yield from zip(batch, decoded, strict=True)

    def _batch(
        self,
        prompts: Sequence[Prompt],
        read: ReadClips,
        rows: int,
        limits: Limits,
        answer: Callable[[Sequence[Prompt], Any, list[int]], list[list[T]]],
    ) -> list[list[T]]:
        """Read the clips once, then answer their prompts, as many at once as fit."""
        clips: dict[Any, Prompt] = {}
        for prompt in prompts:
            clips.setdefault(prompt.clip, prompt)
        cache = read(list(clips.values()))
        number = {clip: index for index, clip in enumerate(clips)}

        def attending(part: Sequence[Prompt]) -> list[list[T]]:
            with attending_to_prefixes(self._config):
                return answer(part, cache, [number[prompt.clip] for prompt in part])

        longest = max(len(prompt.ids) + prompt.room for prompt in prompts)
        free = limits.memory or free_bytes(self._device)
        fitting = fitting_rows(cache_bytes(cache, longest) * rows, free)
        most = max(1, limits.rows // rows)
        return in_parts(prompts, attending, most=min(most, fitting or most))

    def _score(
        self,
        prompts: Sequence[Prompt],
        clips: Any,
        which: list[int],
        options: Mapping[int, Sequence[list[int]]],
    ) -> list[list[float]]:
        """Read each prompt once for every continuation, padded on the left."""
        rows = [
            (prompt, clip, option)
            for prompt, clip in zip(prompts, which, strict=True)
            for option in options[prompt.number]
        ]
        own = [prompt.ids + option[:-1] for prompt, _, option in rows]
        longest = max(map(len, own))
        gaps = [longest - len(ids) for ids in own]
        mask = torch.zeros(len(rows), 1, 1, longest, dtype=self._dtype, device=self._device)
        for row, gap in enumerate(gaps):
            mask[row, ..., :gap] = least(mask.dtype)
        later = mask.new_full((longest, longest), least(mask.dtype)).triu(1)
        positions = []
        for (prompt, _, option), gap in zip(rows, gaps, strict=True):
            at = prompt.positions
            after = at[..., -1:] + torch.arange(1, len(option))
            positions.append(torch.cat([at[..., :1].expand(*at.shape[:-1], gap), at, after], -1))
        logits = self._logits(
            keep=max(len(option) for _, _, option in rows),
            input_ids=torch.tensor(
                [[0] * gap + ids for gap, ids in zip(gaps, own, strict=True)], device=self._device
            ),
            attention_mask=torch.minimum(mask, later),
            position_ids=torch.cat(positions, dim=-2).to(self._device),
            past_key_values=SharedPrefixCache(clips, [clip for _, clip, _ in rows], ahead=longest),
        )
        means = []
        for (_, _, option), own_logits in zip(rows, logits, strict=True):
            said = own_logits[-len(option) :].float().log_softmax(-1)
            taken = torch.tensor(option, device=self._device)[:, None]
            means.append(float(said.gather(-1, taken).mean()))
        back = iter(means)
        return [[next(back) for _ in options[prompt.number]] for prompt in prompts]

    def _decode(
        self, prompts: Sequence[Prompt], clips: Any, which: list[int], params: SamplingParams
    ) -> list[list[list[int]]]:
        """Decode rows padded on the left, which leave the cache when they are done."""
        room = [prompt.room for prompt in prompts]
        cache = SharedPrefixCache(clips, which, ahead=max(room))
        longest = max(len(prompt.ids) for prompt in prompts)
        gaps = [longest - len(prompt.ids) for prompt in prompts]
        # Added to the products with what comes after the clips, answers included.
        mask = torch.zeros(
            len(prompts), 1, 1, longest + max(room), dtype=self._dtype, device=self._device
        )
        for row, gap in enumerate(gaps):
            mask[row, ..., :gap] = least(mask.dtype)
        later = mask.new_full((longest, longest), least(mask.dtype)).triu(1)
        ids = [[0] * gap + prompt.ids for gap, prompt in zip(gaps, prompts, strict=True)]
        positions = [
            torch.cat([p.positions[..., :1].expand(*p.positions.shape[:-1], gap), p.positions], -1)
            for gap, p in zip(gaps, prompts, strict=True)
        ]
        place = torch.cat(positions, dim=-2).to(self._device)
        logits = self._logits(
            input_ids=torch.tensor(ids, device=self._device),
            attention_mask=torch.minimum(mask[..., :longest], later),
            position_ids=place,
            past_key_values=cache,
        )
        n = 1 if params.greedy else params.n
        place = place[..., -1:] + 1
        if n > 1:
            cache.batch_repeat_interleave(n)
            logits, mask = (x.repeat_interleave(n, dim=0) for x in (logits, mask))
            place = place.repeat_interleave(n, dim=-2)
            room = [each for each in room for _ in range(n)]
        drawn = uniforms([prompt.seed_text for prompt in prompts], params)
        live = list(range(len(room)))  # answers still growing, in the order of the cache's rows
        tokens: list[list[int]] = [[] for _ in live]
        for step in range(max(room)):
            chosen = choose(logits, params, None if drawn is None else drawn[step, live])
            for i, token in zip(live, chosen.tolist(), strict=True):
                tokens[i].append(token)
            ended = torch.isin(chosen, self._stop).tolist()
            keep = [
                at
                for at, (i, end) in enumerate(zip(live, ended, strict=True))
                if not end and len(tokens[i]) < room[i]
            ]
            if not keep:
                break
            if len(keep) < len(live):
                index = torch.tensor(keep, device=self._device)
                cache.batch_select_indices(index)
                chosen, mask = chosen[index], mask[index]
                place = place.index_select(-2, index)
                live = [live[at] for at in keep]
            logits = self._logits(
                input_ids=chosen[:, None],
                attention_mask=mask[..., : longest + step + 1],
                position_ids=place,
                past_key_values=cache,
            )
            place = place + 1
        return [tokens[at : at + n] for at in range(0, len(tokens), n)]

    def release(self) -> None:
        """Give back the memory of the slots, which else serve the next call again."""
        self._slots = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _by_slots(
        self, prompts: Sequence[Prompt], read: ReadClips, params: SamplingParams, limits: Limits
    ) -> Iterator[Decoded]:
        copies = 1 if params.greedy else params.n
        rows = max(copies, limits.rows)
        left = {prompt.number: prompt for prompt in prompts}
        while left:
            part = Limits(rows, limits.memory)
            try:
                for prompt, tokens in self._sitting([*left.values()], read, params, part):
                    del left[prompt.number]
                    yield prompt, tokens
                return
            except RuntimeError as error:
                if not is_out_of_memory(error) or rows <= copies:
                    raise
            # Out of the handler: the traceback held on to the tensors that were too large.
            self.release()
            rows = max(copies, rows // 2)

    def _sitting(
        self, prompts: Sequence[Prompt], read: ReadClips, params: SamplingParams, limits: Limits
    ) -> Iterator[Decoded]:
        """Answer prompts clip by clip, as many clips at once as there are slots."""
        groups: dict[Any, deque[Prompt]] = {}
        for prompt in prompts:
            groups.setdefault(prompt.clip, deque()).append(prompt)
        waiting = deque(groups.values())
        shape = self._shape(prompts, [len(group) for group in waiting], params, limits)
        if self._slots is not None and not self._slots.shape.serves(shape):
            self.release()
        cache = None
        if self._slots is None:
            cache = read([waiting[0][0]])
            self._slots = self._new_slots(shape, cache, prompts[0].positions)
        slots = self._slots
        slots.begin(params)
        here: list[deque[Prompt]] = [deque() for _ in range(slots.shape.slots)]
        live: list[_Seat] = []
        while True:
            new: list[_Seat] = []
            for slot, (mine, free) in enumerate(zip(here, slots.free, strict=True)):
                if waiting and not mine and len(free) == slots.shape.rows:
                    slots.cache.hold(slot, read([waiting[0][0]]) if cache is None else cache)
                    cache = None
                    mine.extend(waiting.popleft())
                while mine and len(free) >= slots.copies:
                    rows = [free.pop() for _ in range(slots.copies)]
                    new.append(_Seat(mine.popleft(), slot, rows))
            if new:
                slots.seat(new)
                live += new
            if not live:
                return
            slots.run(live)
            over = slots.over.tolist()
            going: list[_Seat] = []
            ended: list[_Seat] = []
            for seat in live:
                (ended if all(over[row] for row in seat.rows) else going).append(seat)
            live = going
            if ended:
                yield from slots.answers(ended)

    def _shape(
        self,
        prompts: Sequence[Prompt],
        sizes: Sequence[int],
        params: SamplingParams,
        limits: Limits,
    ) -> _Shape:
        """Choose how many clips and rows are held at once; `sizes` are prompts by clip."""
        copies = 1 if params.greedy else params.n
        most = max(copies, limits.rows)
        # Few clips with many prompts take turns on their rows, so that the others' do not idle.
        usual = -(-2 * sum(sizes) // len(sizes))
        rows = min(max(sizes), usual, most // copies) * copies
        prefixes = {prompt.prefix for prompt in prompts}
        uneven = len(prefixes) > 1
        prefix = _rounded(max(prefixes)) if uneven else max(prefixes)
        room = max(prompt.room for prompt in prompts)
        own = _rounded(max(len(prompt.ids) for prompt in prompts) + room)
        slots = min(len(sizes), most // rows)
        rows = max(rows, min(_rounded(rows), most // slots))
        free = limits.memory or free_bytes(self._device)
        if free is not None:
            if limits.memory is None and self._slots is not None:
                free += self._slots.cache.nbytes
            clip = coming_cache_bytes(self._config, prefix, self._dtype)
            row = coming_cache_bytes(self._config, own, self._dtype)
            row += _LOGITS * int(self._config.vocab_size)
            # One clip more than there are slots: it is read first, then copied into its slot.
            slots = min(slots, fitting_rows(clip + rows * row, free - clip) or 1)
            if slots == 1:
                fitting = fitting_rows(row, free - 2 * clip) or rows
                rows = min(rows, max(copies, fitting // copies * copies))
        return _Shape(slots, rows, prefix, own, room, uneven)

    def _new_slots(self, shape: _Shape, like: Any, positions: torch.Tensor) -> _Slots:
        parts = _Parts(self._logits, self._config, self._stop)
        slots = _Slots(shape, like, positions.shape[:-2], parts)
        autocast = torch.is_autocast_enabled(self._device.type)  # its casts are no part of a graph
        if self.captured and not autocast:
            self.captured = slots.capture()  # what fails once is not tried with every shape
        return slots


@dataclass(frozen=True, slots=True)
class _Seat:
    """A prompt that is being answered, with its slot and a row for each answer."""

    prompt: Prompt
    slot: int
    rows: list[int]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Slots for clips, rows after each, tokens of a clip, of a row and of an answer.

    `uneven`: clips may be shorter than `prefix`.
    """

    slots: int
    rows: int
    prefix: int
    own: int
    steps: int
    uneven: bool

    def serves(self, other: _Shape) -> bool:
        """Whether what has this shape may be used where the other is wanted, without much waste."""
        if self.uneven:
            fits = self.prefix >= other.prefix
        else:
            fits = self.prefix == other.prefix and not other.uneven
        return (
            fits
            and self.slots >= other.slots
            and self.rows >= other.rows
            and self.own >= other.own
            and self.steps >= other.steps
            and self.slots * self.rows * self.own <= 2 * other.slots * other.rows * other.own
        )


@dataclass(frozen=True, slots=True)
class _Parts:
    """Of a model; see `Decoder`."""

    logits: Callable[..., torch.Tensor]
    config: Any
    stop: torch.Tensor


class _Slots:
    """Rows of fixed number at fixed addresses, and what a step does to all of them.

    A step gives each row's last token to the model and appends what is chosen next; a row that is
    over goes on at its place, and nothing of it is kept. Nothing in a step waits for the device.

    Attributes:
        shape: how many there are of what.
        cache: the clips, and the rows' own keys and values.
        over: of each row, whether its answer is complete.
        free: numbers of the rows without a prompt, by slot.
        copies: rows that each prompt takes.
    """

    def __init__(self, shape: _Shape, like: Any, lead: Sequence[int], parts: _Parts) -> None:
        self.shape, self._parts = shape, parts
        self.cache = SlotCache(
            like,
            slots=shape.slots,
            rows=shape.rows,
            prefix=shape.prefix,
            own=shape.own,
            uneven=shape.uneven,
        )
        self._device = like.layers[0].keys.device
        rows = shape.slots * shape.rows
        whole: dict[str, Any] = {"dtype": torch.long, "device": self._device}
        self._ids = torch.zeros(rows, 1, **whole)
        self._positions = torch.zeros(*lead, rows, 1, **whole)
        self._held = torch.zeros(rows, **whole)  # tokens in the cache
        self._made = torch.zeros(rows, **whole)  # tokens of the answer
        self._most = torch.zeros(rows, **whole)  # tokens that the answer may have
        self._answers = torch.zeros(rows, shape.steps + 1, **whole)  # the last column is waste
        self._drawn = torch.zeros(shape.steps, rows, dtype=torch.float64, device=self._device)
        self._first = torch.arange(rows, **whole) * shape.own
        self._columns = torch.arange(shape.own, **whole)
        self.over = torch.ones(rows, dtype=torch.bool, device=self._device)
        self.free: list[list[int]] = []
        self.copies = 1
        self._params = SamplingParams()
        self._ends: dict[
            int, int
        ] = {}  # by request: steps until its answers are as long as allowed
        self._replay: Callable[[], torch.Tensor] | None = None

    def begin(self, params: SamplingParams) -> None:
        """Empty all rows."""
        self._params, self.copies = params, 1 if params.greedy else params.n
        rows = self.shape.rows
        self.free = [
            list(range((slot + 1) * rows - 1, slot * rows - 1, -1))
            for slot in range(self.shape.slots)
        ]
        self._ends.clear()
        self.over.fill_(True)

    def seat(self, seats: Sequence[_Seat]) -> None:
        """Read prompts into their rows, but for each one's last token: the next step gives that."""
        length = max(len(seat.prompt.ids) for seat in seats) - 1
        if length:
            each = max(1, _READ // _rounded(length))
            for at in range(0, len(seats), each):
                self._read(seats[at : at + each])
        of_rows = [(seat.prompt, row) for seat in seats for row in seat.rows]
        prompts = [prompt for prompt, _ in of_rows]
        rows = self._tensor([row for _, row in of_rows])
        self._ids[rows, 0] = self._tensor([prompt.ids[-1] for prompt in prompts])
        self._positions[..., rows, :] = torch.cat(
            [prompt.positions[..., -1:].to(self._device) for prompt in prompts], dim=-2
        )
        self._held[rows] = self._tensor([len(prompt.ids) - 1 for prompt in prompts])
        self._most[rows] = self._tensor([prompt.room for prompt in prompts])
        self._made[rows] = 0
        self.over[rows] = False
        drawn = uniforms([seat.prompt.seed_text for seat in seats], self._params)
        if drawn is not None:
            self._drawn[: len(drawn), rows] = drawn.to(self._device)
        self._ends |= {seat.prompt.number: seat.prompt.room for seat in seats}

    def _read(self, seats: Sequence[_Seat]) -> None:
        """Run the prompts after their clips, padded on the right: that is written over later."""
        longest = _rounded(max(len(seat.prompt.ids) for seat in seats) - 1)
        ids, positions = [], []
        for seat in seats:
            prompt = seat.prompt
            gap = longest - len(prompt.ids) + 1
            ids.append(prompt.ids[:-1] + [0] * gap)
            place = prompt.positions[..., :-1]
            last = prompt.positions[..., -1:].expand(*place.shape[:-1], gap)
            positions.append(torch.cat([place, last], dim=-1))
        rows = self._tensor([row for seat in seats for row in seat.rows])
        places = self._first[rows, None] + self._columns[:longest]
        self.cache.reading([seat.slot for seat in seats], places, self.copies)
        later = self._zeros(longest, longest).fill_(least(self.cache.dtype)).triu(1)
        self._logits(
            input_ids=self._tensor(ids),
            attention_mask=later[None, None],
            position_ids=torch.cat(positions, dim=-2).to(self._device),
        )

    def run(self, seats: Sequence[_Seat]) -> None:
        """Do a few steps, no more than the longest answer may take."""
        longest = max(self._ends[seat.prompt.number] for seat in seats)
        steps = min(_POLL, longest)
        for _ in range(steps):
            self._choose(self._forward() if self._replay is None else self._replay())
        for seat in seats:
            self._ends[seat.prompt.number] -= steps

    def answers(self, seats: Sequence[_Seat]) -> Iterator[Decoded]:
        """Yield what these rows hold, which are free from now on."""
        rows = self._tensor([row for seat in seats for row in seat.rows])
        made = self._made[rows].tolist()
        tokens = [ids[:n] for ids, n in zip(self._answers[rows].tolist(), made, strict=True)]
        for seat in seats:
            self.free[seat.slot] += seat.rows
        for number, seat in enumerate(seats):
            yield seat.prompt, tokens[number * self.copies : (number + 1) * self.copies]

    def capture(self) -> bool:
        """Let steps run as one graph; where that fails they run as they are, and it is said."""
        graph = torch.cuda.CUDAGraph()
        with _CAPTURE, torch.cuda.device(self._device):
            stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):  # all rows are over: nothing is kept of these
                    self._forward()
            torch.cuda.current_stream().wait_stream(stream)
            try:
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    logits = self._forward()
            except RuntimeError as error:
                self.cache.interrupted()
                cause = str(error).strip().splitlines()[0]
                warnings.warn(
                    f"decoding without a CUDA graph, which is slower: not captured ({cause})",
                    stacklevel=2,
                )
                return False

        def replay() -> torch.Tensor:
            graph.replay()
            return logits

        self._replay = replay
        return True

    def _forward(self) -> torch.Tensor:
        """Give each row's token to the model; returns rows×vocabulary."""
        mask = self._zeros(len(self._held), self.shape.own)
        mask.masked_fill_(self._columns > self._held[:, None], least(mask.dtype))
        self.cache.decoding(self._first + self._held)
        return self._logits(
            input_ids=self._ids,
            attention_mask=mask[:, None, None],
            position_ids=self._positions,
        )

    def _logits(self, **inputs: torch.Tensor) -> torch.Tensor:
        with attending_to_prefixes(self._parts.config):
            return self._parts.logits(past_key_values=self.cache, **inputs)

    def _choose(self, logits: torch.Tensor) -> None:
        """Append a token to each row that is not over."""
        drawn = None
        if not self._params.greedy:
            step = self._made.clamp(max=self.shape.steps - 1)
            drawn = self._drawn.gather(0, step[None])[0]
        chosen = choose(logits, self._params, drawn)[:, None]
        column = self._made.masked_fill(self.over, self.shape.steps)[:, None]
        self._answers.scatter_(1, column, chosen)
        self._made += ~self.over
        self.over |= (chosen == self._parts.stop).any(-1) | (self._made >= self._most)
        on = ~self.over
        self._ids.copy_(torch.where(on[:, None], chosen, self._ids))
        self._held += on
        self._positions += on[:, None]

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(*shape, dtype=self.cache.dtype, device=self._device)

    def _tensor(self, numbers: Any) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)


def _rounded(number: int) -> int:
    return -(-number // _UNIT) * _UNIT


def _batches(
    prompts: Sequence[Prompt], size: int, most_clips: int | None
) -> Iterator[list[Prompt]]:
    """Whole clips, `size` prompts or fewer unless one clip has more; prefixes of one length."""
    clips: dict[Any, list[Prompt]] = {}
    for prompt in prompts:
        clips.setdefault(prompt.clip, []).append(prompt)
    batch: list[Prompt] = []
    held = 0
    for group in sorted(clips.values(), key=lambda group: group[0].prefix):
        new_length = bool(batch) and batch[0].prefix != group[0].prefix
        if batch and (new_length or len(batch) + len(group) > size or held == most_clips):
            yield batch
            batch, held = [], 0
        batch = batch + sorted(group, key=lambda prompt: len(prompt.ids))  # little is padded then
        held += 1
    if batch:
        yield batch
