"""The conversation format, and which tokens count as the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharegptvideo.errors import UserError
from sharegptvideo.models import conversation, encode, expand_video, load_tokenizer
from sharegptvideo.models.prompts import CHAT_TEMPLATE


def test_the_format_is_video_llavas(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    ids, assistant_mask = encode(tokenizer, conversation("What is it?", "It is red."))
    assert tokenizer.decode(ids) == "<s>USER: <video>\nWhat is it? ASSISTANT: It is red.</s>"
    answer = [i for i, said in zip(ids, assistant_mask, strict=True) if said]
    assert tokenizer.decode(answer) == " It is red.</s>"


def test_the_prompt_is_where_the_answer_begins(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    prompt, none_spoken = encode(tokenizer, conversation("What is it?"))
    whole, assistant_mask = encode(tokenizer, conversation("What is it?", "It is red."))
    assert not any(none_spoken)
    assert whole[: len(prompt)] == prompt
    assert assistant_mask.index(True) == len(prompt)


def test_every_answer_of_a_longer_talk_counts(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    messages = [
        {"role": "system", "content": "Be short."},
        *conversation("What is it?", "Red."),
        *conversation("Sure?", "Yes."),
    ]
    ids, assistant_mask = encode(tokenizer, messages)
    text = "<s>Be short. USER: <video>\nWhat is it? ASSISTANT: Red.</s>USER: Sure? ASSISTANT: Yes."
    assert tokenizer.decode(ids) == text + "</s>"
    answers = [i for i, said in zip(ids, assistant_mask, strict=True) if said]
    assert tokenizer.decode(answers) == " Red.</s> Yes.</s>"


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("adds", [False, True])
def test_one_mark_at_the_beginning(writes: bool, adds: bool, tiny: Path) -> None:
    """Whether the template writes the mark, the tokenizer adds it, or both do."""
    from tokenizers import processors

    tokenizer = load_tokenizer(str(tiny))
    if writes:
        tokenizer.chat_template = "{{ bos_token }}" + CHAT_TEMPLATE
    if not adds:
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    turns = [*conversation("What is it?", "Red."), *conversation("Sure?", "Yes.")]
    for messages in (turns, turns[:1], turns[:3]):
        ids, assistant_mask = encode(tokenizer, messages)
        begins = [True] if writes or adds else []
        assert [one == tokenizer.bos_token_id for one in ids[: len(begins) + 3]] == (
            begins + [False] * 3
        )
        assert ids.count(tokenizer.bos_token_id) == len(begins)
        said = [i for i, one in zip(ids, assistant_mask, strict=True) if one]
        assert (
            tokenizer.decode(said)
            == {4: " Red.</s> Yes.</s>", 1: "", 3: " Red.</s>"}[len(messages)]
        )


def test_any_text_comes_back(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    text = "Zoë's 犬 says ☂ \t\n twice — 100 %"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_frequent_words_are_one_token(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    for word in (" picture", " colour", " brighter", "USER", " ASSISTANT", ":"):
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word


def test_the_clip_takes_its_positions() -> None:
    ids, assistant_mask = expand_video(
        [1, 9, 2, 3], [False, False, False, True], video_token=9, count=3
    )
    assert ids == [1, 9, 9, 9, 2, 3]
    assert assistant_mask == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("messages", "cause"),
    [
        (conversation("Where is <video>?"), "may not stand in a text"),
        ([{"role": "assistant", "content": "Hm."}], "no conversation"),
        ([{"role": "tool", "content": "Hm."}], "no conversation"),
    ],
)
def test_what_is_no_conversation_is_refused(
    messages: list[dict[str, str]], cause: str, tiny: Path
) -> None:
    with pytest.raises(UserError, match=cause):
        encode(load_tokenizer(str(tiny)), messages)
