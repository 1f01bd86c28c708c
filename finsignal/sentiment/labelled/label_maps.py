"""Labels as a file has them to negative, neutral and positive: by a map that is stated, and never by a guess alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from finsignal.errors import TableError
from finsignal.sentiment.prompt import normalise
from finsignal.tables import LABELS

# Names with one meaning, with words that only say how much.
_MEANINGS = {
    **{name: name for name in LABELS},
    "bearish": "negative",
    "bullish": "positive",
    "sell": "negative",
    "hold": "neutral",
    "buy": "positive",
}
_DEGREES = {"very", "strong", "strongly", "moderate", "moderately", "mild", "mildly", "slight", "slightly", "somewhat"}


def guess_label_map(labels: Iterable[str]) -> dict[str, str] | None:
    """The map that such labels can only mean, or None where one of them is a number or a name of no plain meaning.

    A suggestion for messages: readers apply a map only when it is given.

    >>> guess_label_map(["Bullish", "very bearish", "neutral"])
    {'Bullish': 'positive', 'very bearish': 'negative', 'neutral': 'neutral'}
    """
    out = {}
    for label in labels:
        words = normalise(label).split()
        meaning = _MEANINGS.get(" ".join(word for word in words if word not in _DEGREES))
        if meaning is None:
            return None
        out[label] = meaning
    return out


def check_label_map(label_map: Mapping[str, str], *, where: str) -> None:
    """Nothing where every label is mapped to negative, neutral or positive; TableError where one is not."""
    for label, meaning in label_map.items():
        if meaning not in LABELS:
            raise TableError(f"{where}: the label map turns {label!r} into {meaning!r}; expected {', '.join(LABELS)}.")


def map_labels(labels: Iterable[object], label_map: Mapping[str, str] | None, *, where: str) -> list[str]:
    """Each label as negative, neutral or positive; case and outer spaces do not count, and 1.0 is '1'.

    Without a map the labels must be these three names. Raises TableError at a label the map does not hold, listing
    what was found and the map to pass, and where one label would have two meanings.
    """
    known: dict[str, str] = {}
    if label_map is not None:
        check_label_map(label_map, where=where)
    for label, meaning in (label_map if label_map is not None else {name: name for name in LABELS}).items():
        if known.setdefault(_fold(label), meaning) != meaning:
            raise TableError(f"{where}: the label map gives {label!r} two meanings; case does not tell labels apart.")
    found = [_to_name(label) for label in labels]
    unknown = sorted({name for name in found if _fold(name) not in known})
    if unknown:
        raise TableError(f"{where}: labels {unknown[:5]} are unknown; expected {sorted(known)}. {_advise(found)}")
    return [known[_fold(name)] for name in found]


def _fold(name: str) -> str:
    return name.strip().lower()


def _to_name(label: object) -> str:
    if label is None or label != label:  # NaN: a row nobody labelled
        return ""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _advise(found: list[str]) -> str:
    if "" in found:
        return f"Row {found.index('')} has no label; label it or take it out."
    names = sorted(set(found))
    guess = guess_label_map(names)
    if guess is not None:
        shown = " ".join(f"--label-map {_quote(f'{label}={meaning}')}" for label, meaning in guess.items())
        return f"Pass a label map, such as {guess}; on the command line: {shown}."
    return (
        'Pass a label map, such as {"bearish": "negative"}; on the command line: --label-map bearish=negative. '
        f"Labels found: {names[:20]}. What a number means stands in the description of the set."
    )


def _quote(text: str) -> str:
    return f"'{text}'" if " " in text else text
