"""A clip's tokens once for all the answers about it: layout, attention, and the model's call."""

from __future__ import annotations

from sharegptvideo.training.sharing.attention import (
    ATTENTIONS,
    Attention,
    AttentionChoice,
    HeadShape,
    choose_attention,
)
from sharegptvideo.training.sharing.forward import share_clips
from sharegptvideo.training.sharing.layout import Group, SharedLayout, shared_layout

__all__ = [
    "ATTENTIONS",
    "Attention",
    "AttentionChoice",
    "Group",
    "HeadShape",
    "SharedLayout",
    "choose_attention",
    "share_clips",
    "shared_layout",
]
