"""Text to model input: the one cleaning that training and scoring share, and a heavier one for finding repeats."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_URL = re.compile(r"(?:https?://|www\.)\S*", re.IGNORECASE)
# Characters without width join words when they go; all other control characters part them. Lone surrogates, which a
# broken feed can hold, would stop the tokenizer.
_NO_WIDTH = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_RETWEET = re.compile(r"^\s*rt\b[\s:]*(?=@)", re.IGNORECASE)
_MENTION = re.compile(r"@\w+")
_WORD = re.compile(r"[^\W_]+")
LONGEST_TARGET = 80  # characters of a target that are read: a name, never so long that it would push out the text


def clean(text: str) -> str:
    """The text without URLs and control characters, spaces collapsed; cleaning twice changes nothing.

    Case, numbers, tickers and punctuation stay: they carry the sentiment.

    >>> clean("$AAPL up 3%\\n  https://t.co/x now")
    '$AAPL up 3% now'
    """
    text = _CONTROL.sub(" ", _NO_WIDTH.sub("", text))
    return " ".join(_URL.sub(" ", text).split())


def to_input(title: str, text: str) -> str:
    """What the model reads for one item: the cleaned title and text; '' where neither holds anything.

    A text that begins with its title, as feeds like to send it, is read once. Training rows pass an empty title.

    >>> to_input("Profit warning", "Acme cut its forecast.")
    'Profit warning. Acme cut its forecast.'
    """
    head, body = clean(title), clean(text)
    if not head or body.lower().startswith(head.lower()):
        return body
    if not body:
        return head
    return f"{head} {body}" if head[-1] in ".!?:;" else f"{head}. {body}"


def normalise(text: str) -> str:
    """The text as compared for repeats and leaks: lower case, letters and digits only, no URL, mention or retweet mark.

    Two texts with the same normal form count as the same text; '' has no letter and no digit in it. Never a model
    input.

    >>> normalise("RT @broker: $ACME  beats!! https://t.co/x")
    'acme beats'
    """
    plain = _RETWEET.sub("", clean(unicodedata.normalize("NFKC", text)))
    return " ".join(_WORD.findall(_MENTION.sub(" ", plain).lower()))


def to_target(name: str) -> str:
    """The company as the model reads it beside a text, as the second of a pair: cleaned, 80 characters at most.

    >>> to_target("  Acme  Holdings\\n")
    'Acme Holdings'
    """
    return clean(name)[:LONGEST_TARGET]


def to_named(text: str, names: Sequence[str]) -> str:
    """The first of the names that stands in the text, as whole words and in any case; '' where none does.

    A curly apostrophe is a straight one, and a letter with its accent apart the letter with it, as feeds mix them.

    >>> to_named("Acme gains as Tosk stumbles", ["Tosk plc", "Tosk"])
    'Tosk'
    """
    folded = _fold(text)
    for name in names:
        if name and re.search(rf"(?<!\w){re.escape(_fold(name))}(?!\w)", folded):
            return name
    return ""


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").casefold()


def to_pairs(texts: Sequence[str], targets: Sequence[str]) -> list[str | tuple[str, str]]:
    """What a target-aware model's tokenizer reads for each text: the text, or the text and its target.

    >>> to_pairs(["Acme beats Tosk", "Acme beats Tosk"], ["", "Tosk"])
    ['Acme beats Tosk', ('Acme beats Tosk', 'Tosk')]
    """
    named = [to_target(target) for target in targets]
    return [(text, target) if target else text for text, target in zip(texts, named, strict=True)]
