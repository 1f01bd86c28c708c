"""Titles and summaries as services write them, in HTML, as the plain text that a reader would see."""

from __future__ import annotations

import html
import re

# Not html.parser: for text made to hurt ("<a <a <a ...", 80,000 characters) it takes 50 seconds and more, and for
# "<![<" it raises AssertionError. A tag ends here at the next "<" or ">", so that each character is read once.
_MARKUP = re.compile(r"<!--|</?[a-zA-Z][^<>]*>|<[!?][^<>]*>")
_NAME = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)")
_UNSEEN = {name: re.compile(rf"</{name}\b[^<>]*>", re.IGNORECASE) for name in ("script", "style", "template")}
_INLINE = frozenset("a abbr b bdi bdo cite code em font i kbd mark q s small span strong sub sup tt u var".split())
# With their semicolon alone, for "R&D" and "&notable" are no entities; of bounded length, for Python refuses to read
# numbers of thousands of digits.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
# Besides control characters, those that turn the direction of writing: a title could show other than it reads.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
ROUNDS = 3  # feeds escape once too often: "AT&amp;amp;T"


def to_plain_text(markup: str) -> str:
    """The text without tags, comments and entities, in one line, single spaces between words.

    Scripts and styles go with all that is in them. Control characters, halves of surrogate pairs and marks that turn
    the direction of writing become spaces. "<" that opens no tag stays. What is escaped twice is read twice.

    >>> to_plain_text("<p>AT&amp;T <b>beats</b></p><script>steal()</script><p>3 < 5")
    'AT&T beats 3 < 5'
    """
    text = markup
    for _ in range(ROUNDS):
        if "<" not in text and "&" not in text:
            break
        before, text = text, _ENTITY.sub(lambda found: html.unescape(found[0]), _without_tags(text))
        if text == before:
            break
    return " ".join(_CONTROL.sub(" ", text).split())


def _without_tags(text: str) -> str:
    parts = []
    at = 0
    while (found := _MARKUP.search(text, at)) is not None:
        parts.append(text[at : found.start()])
        tag = found[0]
        at = found.end()
        if tag == "<!--":
            end = text.find("-->", at)
            at = len(text) if end < 0 else end + 3
        else:
            named = _NAME.match(tag)
            name = named[1].lower() if named else ""
            if name in _UNSEEN and tag[1] != "/" and tag[-2] != "/":
                closed = _UNSEEN[name].search(text, at)
                at = len(text) if closed is None else closed.end()
            if name not in _INLINE:
                parts.append(" ")  # "<p>One</p><p>Two</p>" is two words
    parts.append(text[at:])
    return "".join(parts)
