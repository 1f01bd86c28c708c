"""Cleaning is light and stable; the normal form finds repeats."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finsignal.sentiment.prompt import clean, normalise, to_input, to_named


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("$AAPL  up 3.5%!\n", "$AAPL up 3.5%!"),
        ("see https://t.co/Ab1 now", "see now"),
        ("see HTTP://T.CO/Ab1", "see"),
        ("see www.acme.com/x?y=1", "see"),
        ("a\x00b\tc\u0085d", "a b c d"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("Ökonomie 株価 🚀", "Ökonomie 株価 🚀"),
        ("   \n", ""),
        ("", ""),
    ],
)
def test_urls_and_control_characters_go_and_the_rest_stays(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@settings(deadline=None)
@given(st.text())
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("Profit warning", "Acme cut its forecast.", "Profit warning. Acme cut its forecast."),
        ("Why?", "Costs.", "Why? Costs."),
        ("Profit warning", "", "Profit warning"),
        ("", "Acme cut its forecast.", "Acme cut its forecast."),
        ("Profit warning", "PROFIT WARNING: Acme cut its forecast.", "PROFIT WARNING: Acme cut its forecast."),
        ("https://t.co/x", "  ", ""),
    ],
)
def test_title_and_text_become_one_input(title: str, text: str, expected: str) -> None:
    assert to_input(title, text) == expected


@settings(deadline=None)
@given(st.text(), st.text())
def test_an_input_is_already_clean(title: str, text: str) -> None:
    assert clean(to_input(title, text)) == to_input(title, text)


def test_texts_that_differ_in_dress_only_have_one_normal_form() -> None:
    forms = [
        "RT @broker: $ACME beats estimates https://t.co/1",
        "$ACME beats estimates!! https://t.co/2",
        "acme   BEATS estimates @someone",
        "ＡＣＭＥ beats estimates",
    ]
    assert {normalise(form) for form in forms} == {"acme beats estimates"}


def test_numbers_keep_texts_apart_and_dress_alone_is_nothing() -> None:
    assert normalise("up 3%") != normalise("up 4%")
    assert normalise("🚀 https://t.co/1 @you") == ""


def test_a_name_within_another_word_is_not_named() -> None:
    for text in ("Pineapple prices soar", "Applebee opens in Leeds", "apple_pie is listed"):
        assert to_named(text, ["Apple"]) == ""
    assert to_named("Sales of APPLE's phones rise", ["Apple"]) == "Apple"
