"""The prompt of a causal model that answers one word, and its tokens.

The prompt is settled once, as two strings around the text, and both training and scoring encode nothing else, so that
no template, date or tokenizer option can come between them. What goes wrong elsewhere without a word is refused here or
cannot happen: a chat template that writes today's date; a beginning of text added to a template that has one; special
tokens spelled out in a text; a long text that pushes the question out; answers that begin with the same token; an
answer whose end is never learned because padding shares its token.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from finsignal.errors import ModelError, require
from finsignal.sentiment.prompt import to_input, to_target
from finsignal.sentiment.recipe import Head
from finsignal.tables import LABELS

WORK = "tuning a causal model"
IGNORED = -100  # a label that no loss reads, as in transformers
DAY = dt.date(2024, 7, 26)  # what a template is told instead of today: the day that Llama 3.2's own falls back to
TEXT, ANSWER = "FINSIGNAL-TEXT", "FINSIGNAL-ANSWER"  # stand for text and answer while a template is rendered
CLOCK = re.compile(r"strftime_now\(\s*([\"'])(.*?)\1\s*\)")
Example = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Prompt:
    """All that decides what a causal model reads of a text: before + text + after, and the answer behind it.

    about: stands between the text and the company that is asked about, where there is one. answers: for each of LABELS
    the word as it follows `after`, perhaps with a space in front. end: the token learned behind the answer, "" where
    the tokenizer has none. max_tokens: of prompt, answer and end together; longer texts are cut. Special tokens are
    written out; none is added. A dictionary of it, as in JSON, makes it again by `Prompt(**dictionary)`.
    """

    before: str
    after: str
    answers: tuple[str, str, str]
    end: str
    max_tokens: int
    about: str = "\nCompany: "

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", tuple(self.answers))  # JSON has lists


def make_prompt(tokenizer: Any, head: Head, *, max_tokens: int) -> Prompt:
    """The prompt of a base, from its transformers tokenizer: its own chat template, or a plain form without one.

    The template is rendered once, with the instruction as the system's words (in front of the text, where it takes none
    or drops them), without thinking, on a fixed day. The end is the token that the template writes behind an answer.

    Raises ModelError for a template that writes the date, or lets the model think first, whatever it is told, and for
    one that changes the text.
    """
    if not head.chat or tokenizer.chat_template is None:
        return Prompt(
            before=f"{_beginning(tokenizer)}{head.instruction}\n\nText: ",
            after="\nSentiment:",
            answers=_to_answers(" ", head),
            end=tokenizer.eos_token or "",
            max_tokens=max_tokens,
        )
    messages = [{"role": "system", "content": head.instruction}, {"role": "user", "content": TEXT}]
    rendered = _render(tokenizer, messages)
    if rendered is None or head.instruction.strip() not in rendered:
        messages = [{"role": "user", "content": f"{head.instruction}\n\n{TEXT}"}]
        rendered = _render(tokenizer, messages)
    if rendered is None or rendered.count(TEXT) != 1 or head.instruction.strip() not in rendered:
        raise ModelError(
            "chat template: it does not hold instruction and text once each, as they are; set chat = false in [head] "
            "for a plain prompt."
        )
    before, after = rendered.split(TEXT)
    if "<think>" in after.rpartition("</think>")[2]:
        raise ModelError(
            "chat template: it opens a thought and cannot be told not to, so that the answer would not follow at once; "
            "set chat = false in [head], or take a base that answers without thinking."
        )
    asked = _render(tokenizer, [*messages, {"role": "assistant", "content": ANSWER}], answered=True) or ""
    led = asked.removeprefix(rendered).partition(ANSWER)[0] if asked.startswith(rendered) else ""
    # A space in front of a word is part of its token in most vocabularies.
    spaces = len(after) - len(after.rstrip(" "))
    lead = " " * spaces + (led if not led.strip() else "")
    return Prompt(
        before=before,
        after=after[: len(after) - spaces],
        answers=_to_answers(lead, head),
        end=_to_end(tokenizer, asked.rpartition(ANSWER)[2]),
        max_tokens=max_tokens,
    )


def _to_answers(lead: str, head: Head) -> tuple[str, str, str]:
    negative, neutral, positive = (lead + word.strip() for word in head.answers)
    return negative, neutral, positive


def _beginning(tokenizer: Any) -> str:
    """The special tokens that the tokenizer puts before a text by itself, written out."""
    plain, whole = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"]
    at = next((at for at in range(len(whole)) if whole[at : at + len(plain)] == plain), 0)
    return "".join(tokenizer.convert_ids_to_tokens(whole[:at]))


def _to_end(tokenizer: Any, tail: str) -> str:
    """The token that the template writes behind an answer, else the tokenizer's end of text."""
    found = [token for token in tokenizer.get_added_vocab() if tail.lstrip().startswith(token)]
    return max(found, key=len, default=tokenizer.eos_token or "")


def _render(tokenizer: Any, messages: list[dict[str, str]], *, answered: bool = False) -> str | None:
    """The chat as the template writes it on DAY; None where it refuses these messages."""
    jinja2 = require("jinja2", extra="train", work=WORK)
    template = CLOCK.sub(lambda call: repr(DAY.strftime(call[2])), tokenizer.get_chat_template())

    def render(head: str = "") -> str:
        return str(
            tokenizer.apply_chat_template(
                messages,
                chat_template=head + template,
                tokenize=False,
                add_generation_prompt=not answered,
                enable_thinking=False,  # of Qwen3 and others; a template reads of these what it knows
                thinking=False,
                date_string=DAY.strftime("%d %b %Y"),
            )
        )

    try:
        # transformers lets no function through to a template, so that a clock of one's own must be put into it.
        one, two = (render(f"{{% macro strftime_now(form) %}}{day}{{% endmacro %}}") for day in ("day one", "day two"))
        if one != two:
            raise ModelError(
                "chat template: it writes the present date into the prompt, which would then differ from day to day; "
                "set chat = false in [head] for a plain prompt."
            )
        return render()
    except jinja2.TemplateError:
        return None


@dataclass(frozen=True)
class _Reading:
    """A prompt in a vocabulary: a tokenizer of our own that neither cuts nor pads, the tokens of answers and end, the
    tokens that a prompt may have, and a pattern of the tokens that no text may spell out."""

    words: Any
    answers: tuple[tuple[int, ...], ...]
    end: tuple[int, ...]
    room: int
    marks: re.Pattern[str]

    def encode(self, text: str) -> list[int]:
        return list(self.words.encode(text, add_special_tokens=False).ids)

    def disarm(self, text: str) -> str:
        """The text with a space within whatever would be read as a special token, such as <s> or <|im_end|>."""
        return self.marks.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


@lru_cache(maxsize=4)
def _read(words: Any, prompt: Prompt) -> _Reading:
    tokenizers = require("tokenizers", extra="train", work=WORK)
    own = tokenizers.Tokenizer.from_str(words.to_str())
    own.no_truncation()
    own.no_padding()
    added = [token for token in own.get_added_tokens_decoder().values() if token.content.strip()]
    # Qwen's <think> and the like are added, but not marked as special.
    marks = [token.content for token in added if token.special or re.fullmatch(r"<.+>", token.content)]
    longest_first = sorted((mark for mark in marks if len(mark) > 1), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
    bare = _Reading(own, (), (), 0, pattern)
    probe = f"{prompt.before}x{prompt.after}"
    start, end, answers = bare.encode(probe), bare.encode(prompt.end), []
    for answer in prompt.answers:
        found = bare.encode(probe + answer + prompt.end)
        size = len(found) - len(end)
        if found[: len(start)] != start or found[size:] != end or size <= len(start):
            raise ModelError(
                f"prompt: the answer {answer!r} shares a token with {prompt.after[-20:]!r} or {prompt.end!r} beside it;"
                " name other answers in [head]."
            )
        answers.append(tuple(found[len(start) : size]))
        if own.decode(list(answers[-1])).strip().casefold() != answer.strip().casefold():
            raise ModelError(f"prompt: the vocabulary of the base cannot write {answer!r}; name another in [head].")
    if len({answer[0] for answer in answers}) < len(LABELS):
        shown = ", ".join(f"{a!r} with {own.id_to_token(t[0])!r}" for a, t in zip(prompt.answers, answers, strict=True))
        raise ModelError(
            f"prompt: answers must begin with different tokens to be told apart in one pass; {shown}. Name other "
            "answers in [head], such as 'good', 'neutral' and 'bad'."
        )
    room = prompt.max_tokens - max(map(len, answers)) - len(end)
    if room < len(start):
        raise ModelError(
            f"prompt: without any text it takes {len(start) - 1} tokens and its answer {prompt.max_tokens - room}; "
            f"max_tokens is {prompt.max_tokens}. Raise max_tokens in [base], or shorten the instruction in [head]."
        )
    return _Reading(own, tuple(answers), tuple(end), room, pattern)


def check_answers(words: Any, prompt: Prompt) -> None:
    """Raises ModelError where answers begin with the same token, merge with what stands beside them or cannot be
    written in this vocabulary, or where max_tokens leaves no room for a text. words: a tokenizers.Tokenizer."""
    _read(words, prompt)


def first_tokens(words: Any, prompt: Prompt) -> tuple[int, int, int]:
    """The first token of each answer, in the order of LABELS, for word_logits. Raises as check_answers does."""
    negative, neutral, positive = (answer[0] for answer in _read(words, prompt).answers)
    return negative, neutral, positive


def end_tokens(words: Any, prompt: Prompt) -> tuple[int, ...]:
    """The tokens of prompt.end: one, or none."""
    return _read(words, prompt).end


def encode_prompt(words: Any, prompt: Prompt, text: str, target: str = "") -> list[int]:
    """The tokens of the prompt for a text, and perhaps a company that is asked about: of the one string before + text +
    about + target + after, nothing added.

    Text and target are cleaned as everywhere. What they spell of special tokens is broken by a space: no headline shall
    end its own turn. Where the whole is longer than max_tokens allows, the text loses its end, and all else stays.

    Raises ModelError where not even a text of nothing fits.
    """
    reading = _read(words, prompt)
    text, target = reading.disarm(to_input("", text)), reading.disarm(to_target(target))
    tail = (prompt.about + target if target else "") + prompt.after

    def encode(characters: int) -> list[int]:
        return reading.encode(prompt.before + text[:characters].rstrip() + tail)

    ids = encode(len(text))
    if len(ids) <= reading.room:
        return ids
    fits, fails = 0, len(text)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if len(encode(middle)) <= reading.room else (fits, middle)
    ids = encode(fits)
    if len(ids) > reading.room:
        raise ModelError(
            f"prompt: asked about {target!r} it takes {len(ids)} tokens without any text; {prompt.max_tokens} "
            f"leave it {reading.room}. Raise max_tokens in [base]."
        )
    return ids


def to_example(words: Any, prompt: Prompt, text: str, target: str, label: str) -> Example:
    """Token ids of prompt, answer and end, and their labels: -100 on the prompt, the ids themselves behind it.

    label: one of LABELS. Raises ModelError where a label would be learned within the prompt.
    """
    reading = _read(words, prompt)
    start = encode_prompt(words, prompt, text, target)
    answer = [*reading.answers[LABELS.index(label)], *reading.end]
    ids, labels = start + answer, [IGNORED] * len(start) + answer
    check_example((ids, labels), start)
    return ids, labels


def check_example(example: Example, start: Sequence[int]) -> None:
    """Raises ModelError unless an example is the prompt `start`, not learned, and then an answer, all of it learned."""
    ids, labels = example
    size = len(start)
    if ids[:size] != list(start) or any(label != IGNORED for label in labels[:size]):
        raise ModelError("example: a token of the prompt would be learned, or differs from what is scored.")
    if size == len(ids) or labels[size:] != ids[size:]:
        raise ModelError("example: expected the tokens of the answer, and nothing else, to be learned.")
