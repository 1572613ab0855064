"""Causes against questions that a model made, each by hand; and how many real ones they drop."""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sharegptvideo.build.questions import (
    MAX_ANSWER_WORDS,
    MAX_QUESTION_WORDS,
    QUESTION_GATES,
    Cause,
    question_causes,
    question_problems,
    signature,
)
from sharegptvideo.build.texts import language_problem, refusal, says_unknown
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.sources import world_folder

SHARED = Path(__file__).parents[3] / "shared" / "data"
CAPTION = (
    "A brown dog with a red collar runs over the grass, then it stops beside two small cats. "
    "A woman in a blue coat throws a ball. The dog does not bark."
)

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")


def gate(question: str, answer: str, caption: str | None = CAPTION) -> str | None:
    """The first gate that a question fails."""
    first = next(question_causes(caption, question, answer), None)
    return first and first.gate


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What color is the collar?", "The collar is red."),
        ("What does the dog do first?", "It runs over the grass."),
        ("What animal is it?", "An animal of some kind, a dog."),
        ("Is the dog on the grass?", "Yes."),
        ("Is there a horse?", "No, there is no horse."),  # what is left out is not denied
        ("Does the dog bark?", "No, the dog does not bark."),
        ("What does the dog not do?", "It does not bark."),
        ("How many cats are there?", "There are two cats."),
        ("How many people are there?", "One person."),  # counted: only one is spoken of
        ("How big are the cats?", "They are small."),
        ("Is the collar red or green?", "The collar is red."),
        ("Describe the woman's coat.", "It is blue."),
        ("is the dog brown", "yes"),
    ],
)
def test_good_questions_pass(question: str, answer: str) -> None:
    assert list(question_causes(CAPTION, question, answer)) == []


@pytest.mark.parametrize(
    ("question", "answer", "wanted", "reason"),
    [
        ("", "red", "empty", "question"),
        ("What is it?", " ... ", "empty", "answer"),
        ("The dog runs over the grass.", "It is brown.", "not-a-question", "The dog runs"),
        ("What " + "very " * MAX_QUESTION_WORDS, "red", "too-long", "61 words"),
        ("What is it?", "A dog. " * MAX_ANSWER_WORDS, "too-long", "380 words"),
        ("What is it?", "I'm sorry, but I can't see the video.", "refusal", "sorry"),
        ("What breed is it?", "The caption does not say.", "refusal", "does not say"),
        ("What breed is it?", "This is not specified in the text.", "refusal", "not specified"),
        ("¿De qué color es el perro en la hierba?", "Rojo.", "language", "Spanish"),
        ("What is it?", "Это коричневая собака.", "language", "Cyrillic"),
        ("What color is the red collar of the dog?", "It is red.", "gives-answer-away", "red"),
        ("What does the brown dog run over?", "A skateboard.", "not-in-caption", "skateboard"),
        ("What color is the coat?", "The coat is green.", "not-in-caption", "green"),
        ("Is the horse in the stable?", "Yes, it is.", "not-in-caption", "horse"),
        ("Is the coat green?", "No, it is purple.", "not-in-caption", "purple"),
        ("What does the dog do at the end?", "It barks.", "not-in-caption", "barks"),
        ("How many cats are there?", "There are three cats.", "not-in-caption", "two cats"),
        ("How many people are there?", "Seven.", "not-in-caption", "counted"),
        ("How many birds are there?", "There are three.", "not-in-caption", "counted"),
    ],
)
def test_each_fault_is_named(question: str, answer: str, wanted: str, reason: str) -> None:
    found = [one for one in question_causes(CAPTION, question, answer) if one.gate == wanted]
    assert found, list(question_causes(CAPTION, question, answer))
    assert reason in found[0].reason


def test_without_a_caption_nothing_is_said_of_it() -> None:
    assert gate("What does the dog run over?", "A skateboard.") == "not-in-caption"
    assert gate("What does the dog run over?", "A skateboard.", None) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What color is the dog?", "What is the colour of the dog?", True),
        ("What does the man do?", "What is the man doing in the video?", True),
        ("Which ball is thrown?", "What ball is thrown?", True),
        ("What is the dog?", "What is the dog doing?", False),
        ("Who is the woman?", "Who is the woman with?", False),
        ("What does the ring do first?", "What does the ring do?", False),
        ("Where is the dog?", "What is the dog?", False),
        ("How many dogs are there?", "How are the dogs?", False),
    ],
)
def test_which_questions_ask_the_same(one: str, other: str, same: bool) -> None:
    assert (signature(one, "a thing") == signature(other, "another")) is same


def test_problems_are_in_the_order_of_the_questions_and_repeats_name_the_first() -> None:
    causes = question_problems(
        CAPTION,
        [
            ("What color is the coat?", "It is green."),
            ("What color is the coat?", "It is blue."),
            ("What is the color of the coat?", "The coat is blue."),
            ("What does the woman throw?", "A ball."),
        ],
    )
    assert causes == [
        Cause("not-in-caption", "'green'"),
        None,  # what it repeats is dropped
        Cause("repeats", "asks what question 2 of the clip asks"),
        None,
    ]
    assert str(causes[2]) == "repeats: asks what question 2 of the clip asks"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I am unable to view the video.",
        "As an AI language model, I cannot watch videos.",
        "Unfortunately, I don’t have access to the frames.",
        "No video was provided. Please upload the clip.",
        "I apologize, the pictures are too dark.",
    ],
)
def test_refusals(text: str) -> None:
    assert refusal(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "A man says \"I'm sorry, I can't help\" and leaves.",
        "A robot presents itself as an artist. The crowd is sorry to see it go.",
        "The woman cannot open the door and walks away.",
        "A long scene. " * 30 + "I'm sorry, I cannot tell more.",  # not the opening
    ],
)
def test_no_refusals(text: str) -> None:
    assert refusal(text) is None


@pytest.mark.parametrize(
    "text", ["Not specified.", "unknown", "It is unclear.", "That cannot be determined."]
)
def test_answers_that_say_that_they_are_unknown(text: str) -> None:
    assert says_unknown(text) is not None
    assert says_unknown("The unknown singer is not wearing a hat.") is None


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("Ein Mann mit einem roten Hut geht über die Straße und winkt.", "German"),
        ("Un homme avec un chapeau rouge marche dans la rue et il salue.", "French"),
        ("Un hombre con un sombrero rojo camina por la calle y saluda.", "Spanish"),
        ("Un uomo con un cappello rosso cammina per la strada e si ferma.", "Italian"),
        ("Um homem com um chapéu vermelho anda na rua e acena.", "Portuguese"),
        ("Een man met een rode hoed loopt over het plein en zwaait.", "Dutch"),
        ("Kobieta w czerwonym kapeluszu idzie na plac i macha do psa.", "Polish"),
        ("Bir adam ve bir kadın parkta yürüyor.", "Turkish"),
        ("Seorang pria dengan topi merah berjalan di jalan itu.", "Indonesian"),
        ("一个男人走过街道。", "Chinese script"),
        ("Мужчина идёт по улице.", "Cyrillic script"),
        ("رجل يمشي في الشارع", "Arabic script"),
        (
            "Mies kulkee kadulla punainen hattu päässä. " * 4,
            "hardly a word of it is common English",
        ),
    ],
)
def test_other_languages(text: str, looks: str) -> None:
    assert language_problem(text) == looks


@pytest.mark.parametrize(
    "text",
    [
        "A man in a red hat walks across the street.",
        "red",
        "El Capitan",
        "The sign says “欢迎光临”, and below it “de la casa”.",
        "A café in Paris, Rue de la Paix, at night; the waiter carries a crème brûlée.",
        "123",
        "2 m²",
        "²",
        "",
    ],
)
def test_english_passes(text: str) -> None:
    assert language_problem(text) is None


Rows = Iterator[tuple[str, str, str, str | None]]
"""Video, question, answer, caption."""


def release() -> Rows:
    """The miniature's questions, written by hand, with the captions of its test sets."""
    captions = {
        row["video"].rpartition("/")[2]: row["caption"]
        for config in ("msrvtt_qa", "tgif_qa", "webvid_qa")
        for row in read_rows(config, SHARED / "release", "test")
    }
    for row in read_rows("qa", SHARED / "release", "train+validation"):
        yield row["video"], row["question"], row["answer"], captions[row["video"]]


def tgif() -> Rows:
    """Questions made of human descriptions, which stand for captions."""
    file = SHARED / "annotations" / "tgif_qa_Test_frameqa_question.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            yield row["gif_name"], row["question"], row["answer"], row["description"]


def msvd() -> Rows:
    """Questions made of many people's captions of each video, so that many say the same."""
    for part in ("test", "val"):
        file = SHARED / "annotations" / f"msvd_qa_{part}_qa.json"
        for row in json.loads(file.read_text("utf-8")):
            yield str(row["video_id"]), row["question"], row["answer"], None


def activitynet() -> Rows:
    """Questions and answers written by people."""
    folder = SHARED / "annotations"
    answers = json.loads((folder / "activitynet_qa_test_a.json").read_text("utf-8"))
    by_id = {row["question_id"]: row["answer"] for row in answers}
    for row in json.loads((folder / "activitynet_qa_test_q.json").read_text("utf-8")):
        yield row["video_name"], row["question"], by_id[row["question_id"]], None


def world() -> Rows:
    """The synthetic world's questions."""
    for config, splits in (("qa", "train+validation"), ("synthetic_qa", "test")):
        for row in read_rows(config, world_folder(), splits):
            yield row["video"], row["question"], row["answer"], row["caption"]


def dropped(rows: Rows) -> tuple[int, Counter[str]]:
    """How many questions there are, and how many each rule would drop."""
    clips: dict[tuple[str, str | None], list[tuple[str, str]]] = {}
    for video, question, answer, caption in rows:
        clips.setdefault((video, caption), []).append((question, answer))
    counts: Counter[str] = Counter()
    for (_, caption), questions in clips.items():
        for cause in question_problems(caption or "", questions):
            if cause is not None:
                counts[cause.gate] += 1
    return sum(map(len, clips.values())), counts


# Shares measured, in percent: TGIF-QA 2.3 give away (of one word, as "what is next to another
# cat?" - "cat"), 0.08 not in the caption; MSVD-QA 1.7, and 21.7 repeat, since many people said the
# same; ActivityNet-QA 0.8 and 0.6; the world 1.0 repeat; the release in miniature none.
@needs_shared
@pytest.mark.parametrize(
    ("rows", "most"),
    [
        (release, {}),
        (tgif, {"gives-answer-away": 0.03, "not-in-caption": 0.002, "repeats": 0.002}),
        (msvd, {"gives-answer-away": 0.03, "repeats": 0.3}),
        (activitynet, {"gives-answer-away": 0.02, "repeats": 0.02, "not-a-question": 0.002}),
        (world, {"repeats": 0.03}),
    ],
)
def test_few_real_questions_are_dropped(
    rows: Callable[[], Rows], most: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    total, counts = dropped(rows())
    shares = {name: counts[name] / total for name in QUESTION_GATES}
    with capsys.disabled():
        shown = ", ".join(f"{name} {share:.2%}" for name, share in shares.items() if share)
        print(f"\n{rows.__name__}: {total:,} questions; {shown or 'none dropped'}")
    for name, share in shares.items():
        assert share <= most.get(name, 0.0), name


@needs_shared
def test_answers_of_another_clip_are_dropped() -> None:
    """Each TGIF question against the next clip's description: most answers have no footing."""
    rows = list(tgif())[:2000]
    lost = sum(
        question_problems(other[3] or "", [(row[1], row[2])])[0] is not None
        for row, other in itertools.pairwise(rows)
    )
    assert lost / (len(rows) - 1) > 0.85


OWN_WORDS: dict[str, list[tuple[str, str]]] = {
    "msrvtt_clip": [
        (
            "What is the setting of the video clip?",
            "The video clip is set aboard a starship, as it consists of scenes from a "
            "science-fiction television series.",
        ),
        (
            "What emotional state does the young girl appear to be in?",
            "The young girl appears to be worried, as shown by her expression while looking up.",
        ),
        (
            "What happens towards the end of the montage?",
            "Two women crawl through a dark service tunnel and peer through its metal bars.",
        ),
        ("How many people are crawling through the tunnel?", "Two people are crawling there."),
    ],
    "baby_reading": [
        (
            "What activity is the baby primarily engaged in throughout the video?",
            "The baby is primarily engaged in exploring a book, turning its pages.",
        ),
        (
            "Does the baby lose interest in the book?",
            "No, the baby stays focused on the book and keeps turning its pages.",
        ),
        ("Is the baby indoors?", "Yes, the baby is indoors, sitting on a bed."),
    ],
    "baby_living_room": [
        (
            "How does the toddler's activity change over the course of the video?",
            "The toddler first plays with something and then raises a toy telescope to its eye.",
        ),
        (
            "What makes the living room feel cozy?",
            "The burning fireplace and the soft cream rug make the room feel warm and cozy.",
        ),
        ("How many toys can be identified?", "Two toys: a green jeep and a telescope."),
    ],
    "tgif_cat_drinks": [
        (
            "Where is the cat positioned in relation to the faucet?",
            "The cat's head is directly beneath the faucet.",
        ),
    ],
    "tgif_bulldog_hose": [
        (
            "How does the dog react to the water?",
            "The dog reacts playfully, snapping at the jet with its mouth open.",
        ),
    ],
}
"""Questions with answers that say in other words what the captions of the clips say."""


@needs_shared
def test_answers_in_words_of_their_own_pass_and_those_of_other_clips_do_not() -> None:
    captions = {video: caption for video, _, _, caption in release()}
    lost = kept = 0
    for video, questions in OWN_WORDS.items():
        assert question_problems(captions[video] or "", questions) == [None] * len(questions)
        for other in OWN_WORDS.keys() - {video}:
            causes = question_problems(captions[other] or "", questions)
            lost += sum(cause is not None for cause in causes)
            kept += causes.count(None)
    assert lost / (lost + kept) > 0.9


@needs_shared
def test_what_is_only_inferred_has_no_footing() -> None:
    """A mood that no word of the caption names: the judge of rewards could not confirm it."""
    captions = {video: caption for video, _, _, caption in release()}
    (cause,) = question_problems(
        captions["tgif_bulldog_hose"] or "", [("What is the dog's mood?", "Excited and playful.")]
    )
    assert cause == Cause("not-in-caption", "'excited and playful'")
