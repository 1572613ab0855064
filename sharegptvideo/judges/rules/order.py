"""Order in time: which of two things a text says comes first."""

from __future__ import annotations

from sharegptvideo.judges.rules.lexicon import words
from sharegptvideo.judges.rules.normalise import Text, Token, stem

__all__ = ["reversed_pair", "tells_order"]

_CUES = frozenset(
    words(
        "first then before after finally later afterwards afterward next last followed order "
        "sequence until initially subsequently earlier"
    )
)
_EARLY = frozenset(map(stem, ["first", "start", "initially", "earlier"]))
_MIDDLE = frozenset(map(stem, ["halfway"]))
_LATE = frozenset(map(stem, ["end", "finally", "later", "last", "afterwards", "afterward"]))


def tells_order(*texts: Text) -> bool:
    """Whether any of the texts speaks of order in time."""
    return any(token.word in _CUES for text in texts for token in text.tokens)


def _segments(text: Text) -> list[tuple[str, list[Token]]]:
    """Cut a text at clause ends and at "before" and "after", into (opening word, tokens)."""
    segments: list[tuple[str, list[Token]]] = []
    clause = -1
    for token in text.tokens:
        if token.word in {"before", "after"}:
            segments.append((token.word, []))
            clause = token.clause
            continue
        if token.clause != clause or not segments:
            segments.append(("", []))
            clause = token.clause
        segments[-1][1].append(token)
    return segments


def _in_time(text: Text) -> list[list[Token]]:
    """The segments of a text in the order in which they happen."""
    told = _segments(text)
    ordered: list[list[Token]] = []
    early: list[Token] | None = None  # of a sentence that opens with "before": what comes second
    for opener, tokens in told:
        opens_sentence = not ordered or (
            bool(ordered[-1] and tokens) and ordered[-1][-1].sentence != tokens[0].sentence
        )
        if opener == "before" and opens_sentence:
            early = tokens
        elif opener == "after" and not opens_sentence:
            ordered.insert(len(ordered) - 1, tokens)
        else:
            ordered.append(tokens)
            if early is not None:
                ordered.append(early)
                early = None
    if early is not None:
        ordered.append(early)
    return _by_phase(ordered)


def _by_phase(segments: list[list[Token]]) -> list[list[Token]]:
    ranked: list[tuple[int, list[Token]]] = []
    rank = 0
    for tokens in segments:
        stems = {token.stem for token in tokens}
        if stems & _EARLY:
            rank = 0
        elif stems & _LATE:
            rank = 2
        elif stems & _MIDDLE:
            rank = 1
        ranked.append((rank, tokens))
    return [tokens for _, tokens in sorted(ranked, key=lambda pair: pair[0])]


def reversed_pair(
    reference: Text, prediction: Text, keys: frozenset[str]
) -> tuple[str, str] | bool | None:
    """Compare the order of the `keys` (stems) that both texts name once, in separate clauses.

    Returns the first pair told the wrong way round, as the prediction words it (earlier, later);
    False if all pairs agree; None if there is no pair to compare.
    """
    places = [_places(text, keys) for text in (reference, prediction)]
    # By stem within a clause: a set's order changes from process to process.
    common = sorted(places[0].keys() & places[1].keys(), key=lambda s: (places[0][s][0], s))
    compared = False
    for position, first in enumerate(common):
        for second in common[position + 1 :]:
            (a, _), (b, _) = places[0][first], places[0][second]
            (x, x_word), (y, y_word) = places[1][first], places[1][second]
            if a == b or x == y:
                continue
            compared = True
            if x > y:
                return y_word, x_word
    return False if compared else None


def _places(text: Text, keys: frozenset[str]) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    repeated: set[str] = set()
    for place, tokens in enumerate(_in_time(text)):
        for token in tokens:
            if token.stem in keys and not token.negated:
                if token.stem in found:
                    repeated.add(token.stem)
                found[token.stem] = (place, token.word)
    return {key: value for key, value in found.items() if key not in repeated}
