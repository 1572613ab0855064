"""The call of a model in training: a padded batch in, its predictions out, each clip once within.

TRL asks a model for per-token log-probabilities of rows (`fused_lm_head=True`); how they are
computed is not its business. So clips are shared within that call, and TRL's losses stay theirs.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sharegptvideo.training.sharing.attention import Attention, use_attention
from sharegptvideo.training.sharing.layout import SharedLayout

__all__ = ["repeated", "scored_parts", "share_clips"]

EncodeClips = Callable[[dict[str, torch.Tensor]], dict[str, Any]]
Positions = Callable[
    [torch.Tensor, torch.Tensor, dict[str, torch.Tensor], torch.Tensor], torch.Tensor | None
]
_PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask")


def share_clips(
    model: Any,
    attention: Attention = "split",
    *,
    encode_clips: EncodeClips | None = None,
    positions: Positions | None = None,
) -> None:
    """Let a model that has TRL's fused head take the batches of our collators.

    They have, beside what TRL knows: `clips`, the inputs of each clip and image once;
    `clip_of_row` and `image_of_row`, which one a row is about (-1: none; left out where that is so
    of all rows); `shared_layout`, or none where rows are to run one by one.

    What no row is about runs all the same, and adds nothing: then all processes of a training go
    through the same parts of the model, forward and backward.

    Args:
        encode_clips: from `clips` to the vision outputs that transformers' models take as
            `mm_encoder_outputs`, by `video` and `image`; None for models of text alone.
        positions: ids, mask, clips and clip_of_row to positions, axes×rows×length, for models
            whose positions are not places; see `Family.positions`.
    """
    use_attention(model, attention)
    last = _LastLayer(model)
    inner = model.forward

    def forward(
        self: Any,  # noqa: ARG001 - a method
        *args: Any,
        clips: dict[str, Any] | None = None,
        clip_of_row: torch.Tensor | None = None,
        image_of_row: torch.Tensor | None = None,
        shared_layout: SharedLayout | None = None,
        **kwargs: Any,
    ) -> Any:
        idle: list[Any] = []
        if clips is not None and encode_clips is not None:
            encoded = dict(encode_clips(clips))
            for kind, numbers in (("video", clip_of_row), ("image", image_of_row)):
                if kind not in encoded:
                    continue
                if numbers is None:
                    idle.append(encoded.pop(kind).pooler_output)
                elif shared_layout is None:
                    rows = [row for row in numbers.tolist() if row >= 0]
                    encoded[kind] = repeated(encoded[kind], rows, clips=max(rows) + 1)
            kwargs["mm_encoder_outputs"] = encoded
            if positions is not None and clip_of_row is not None:
                ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
                position_ids = positions(ids, mask, clips, clip_of_row)
                if position_ids is not None:
                    kwargs["position_ids"] = position_ids
        if shared_layout is None:
            last.run_whole()
            output = inner(*args, **kwargs)
        else:
            layout = shared_layout.to(kwargs["input_ids"].device)
            last.run_scored(layout)
            output = _shared(inner, layout, kwargs)
        for features in idle:
            nothing = (features * 0).sum()
            output.loss = output.loss + nothing
            output.log_probs = output.log_probs + nothing
        return output

    model.forward = types.MethodType(forward, model)


def scored_parts(decoder: Any) -> dict[str, torch.nn.Module]:
    """Return, by name, the parts of a decoder that run where a loss reads alone: `_LastLayer`'s."""
    layers = getattr(decoder, "layers", None)
    if not layers:
        return {}
    layer = layers[-1]
    parts = {name: getattr(layer.self_attn, name, None) for name in ("q_proj", "o_proj")}
    if hasattr(layer.mlp, "down_proj"):  # a mixture of experts gives more than its output
        parts["mlp"] = layer.mlp
    return {name: part for name, part in parts.items() if part is not None}


class _LastLayer:
    """Lets a decoder's last layer compute queries, their outputs and its MLP where a loss reads.

    What it gives elsewhere goes nowhere: no layer attends to it, and the head takes scored
    positions alone. Keys and values stay those of all positions. Parts that serve each position by
    itself get the scored ones and give zeros for the others.
    """

    def __init__(self, model: Any) -> None:
        self._layout: SharedLayout | None = None
        for part in scored_parts(model.get_decoder()).values():
            part.register_forward_pre_hook(self._take)
            part.register_forward_hook(self._put)

    def run_whole(self) -> None:
        """Compute all positions from now on."""
        self._layout = None

    def run_scored(self, layout: SharedLayout) -> None:
        """Compute a layout's scored positions from now on, in the backward pass as well."""
        self._layout = layout

    def _layout_here(self) -> SharedLayout | None:
        """Return the layout, but to answers that the model gives between steps of its training."""
        return None if torch.is_inference_mode_enabled() else self._layout

    def _take(self, _part: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        layout = self._layout_here()
        return None if layout is None else (args[0].index_select(1, layout.scored), *args[1:])

    def _put(self, _part: Any, _args: Any, output: torch.Tensor) -> torch.Tensor | None:
        layout = self._layout_here()
        if layout is None:
            return None
        whole = output.new_zeros(output.shape[0], len(layout), output.shape[2])
        return whole.index_copy(1, layout.scored, output)


def _shared(inner: Any, layout: SharedLayout, kwargs: dict[str, Any]) -> Any:
    labels = kwargs.pop("labels")
    ids, positions = kwargs.pop("input_ids"), kwargs.pop("position_ids", None)
    del kwargs["attention_mask"]
    flat = ids.reshape(-1)[layout.source][None]
    if positions is None:
        positions = layout.columns[None]
    else:  # several axes of positions: axes×rows×width
        positions = positions.flatten(-2)[..., layout.source].unsqueeze(-2)
    targets = torch.full_like(flat, -100)
    wanted = labels[:, 1:].reshape(-1)
    targets[0, layout.scored] = wanted[layout.scored_at]
    output = inner(
        input_ids=flat,
        # Four axes: taken as it is, so that no mask of all tokens by all tokens is made.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=flat.device),
        position_ids=positions,
        shift_labels=targets,
        shared_layout=layout,
        **kwargs,
    )
    for name in _PER_TOKEN:
        value = output.get(name)
        if value is not None:
            spread = value.new_zeros(layout.rows * (layout.width - 1))
            spread = spread.index_copy(0, layout.scored_at, value[0, layout.scored])
            output[name] = spread.view(layout.rows, layout.width - 1)
    return output


def repeated(encoded: Any, rows: Sequence[int], clips: int) -> Any:
    """Vision outputs of `clips` clips as those of rows: a clip's for every row about it.

    Outputs are a tensor with as many first indices a clip for every clip (Video-LLaVA has one a
    frame), or a sequence with a tensor a clip.
    """
    again = type(encoded)(pooler_output=_rows(encoded.pooler_output, rows, clips))
    deep = getattr(encoded, "deepstack_features", None)
    if deep is not None:
        again.deepstack_features = [_rows(layer, rows, clips) for layer in deep]
    return again


def _rows(value: Any, rows: Sequence[int], clips: int) -> Any:
    if isinstance(value, torch.Tensor):
        by_clip = value.view(clips, value.shape[0] // clips, *value.shape[1:])
        return by_clip[list(rows)].flatten(0, 1)
    return type(value)(value[row] for row in rows)
