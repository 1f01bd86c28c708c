"""Answers written freely: as the base would write them, parsed strictly, and never neutral for want of a label."""

import json
from typing import Any

import numpy as np
import pytest
from test_instruct import LLAMA, TEXTS, make_model, make_tokenizer, prompt_of

from finsignal.sentiment.evaluate.answering import compare_generated, generate_answers, parse_answer, to_lines
from finsignal.sentiment.tuning.instruct import (
    Prompt,
    completion_loss,
    encode_prompt,
    end_tokens,
    first_tokens,
    to_example,
    word_logits,
)
from finsignal.tables import LABELS

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

PROMPT = Prompt("Text: ", "\nSentiment:", (" negative", " neutral", " positive"), "</s>", 64)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("positive", "positive"),
        ("  Negative.", "negative"),
        ("**NEUTRAL**\n\nbecause nothing moved", "neutral"),
        ("'positive', I would say", "positive"),
        ("", None),
        ("...", None),
        ("not positive", None),
        ("Sentiment: positive", None),
        ("positive/negative", None),
        ("non-negative", None),
        ("positively", None),
        ("pos", None),
        ("The text is neutral", None),
    ],
)
def test_an_answer_is_a_label_by_its_first_word_alone(answer: str, label: str | None) -> None:
    assert parse_answer(answer, PROMPT) == label


def test_answers_of_two_words_are_read_whole() -> None:
    prompt = Prompt("", ":", (" very bad", " so so", " good"), "", 64)
    assert [parse_answer(said, prompt) for said in ("Very bad!", "very good", "so-so", "So so", "good")] == [
        *("negative", None, None, "neutral", "positive"),
    ]


def test_what_is_no_label_is_a_column_of_its_own_and_wrong() -> None:
    codes = np.array([0, 1, 1, 1, 2])
    one_pass = np.eye(3)[[0, 1, 1, 2, 0]]
    found = compare_generated(codes, ["negative", "Neutral", "well ...", "well ...", "positive"], PROMPT, one_pass)

    assert found["confusion"] == [[1, 0, 0, 0], [0, 1, 0, 2], [0, 0, 1, 0]]
    assert found["unparsable"]["value"] == pytest.approx(2 / 5)
    assert found["accuracy"]["value"] == pytest.approx(3 / 5)
    assert found["accuracy_parsed"]["value"] == 1.0
    assert found["one_pass"]["value"] == pytest.approx(3 / 5)
    assert found["agreement"]["value"] == pytest.approx(2 / 3)
    assert found["said"] == [{"answer": "well ...", "rows": 2}]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    lines = to_lines("mine", found)
    assert f"    {'neutral':<26}{0:>12}{1:>12}{0:>12}{2:>12}" in lines
    assert lines[4].startswith("  unparsable                  0.400 [")
    assert lines[-1] == "  unparsable, 2 times: 'well ...'"


def test_where_no_answer_is_a_label_nothing_is_said_of_the_parsed() -> None:
    found = compare_generated(np.array([1, 1]), ["a", "b"], PROMPT, np.eye(3)[[1, 1]])

    assert found["accuracy"]["value"] == 0.0
    assert found["accuracy_parsed"] == {"value": None, "low": None, "high": None, "reason": "no answer was a label"}
    assert "  of answers that are labels  -" in to_lines("mine", found)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(LLAMA)


@pytest.fixture(scope="module")
def tuned(tokenizer: Any) -> Any:
    """A tiny model that has learned three answers by heart."""
    import torch

    model, words, prompt = make_model(len(tokenizer)), tokenizer.backend_tokenizer, prompt_of(tokenizer)
    examples = [to_example(words, prompt, text, "", label) for text, label in zip(TEXTS, LABELS, strict=True)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        loss = completion_loss(model, examples, [1 / 3] * 3)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.01
    return model


def test_a_tuned_model_writes_its_labels_and_ends_its_turn(tokenizer: Any, tuned: Any) -> None:
    import torch

    words, prompt = tokenizer.backend_tokenizer, prompt_of(tokenizer)
    tuned.train()
    answers = generate_answers(tuned, words, prompt, [*TEXTS, TEXTS[0]])

    assert answers == [*LABELS, LABELS[0]]
    assert tuned.training, "left as it was"
    tuned.eval()
    with torch.no_grad():
        for code, text in enumerate(TEXTS):
            ids = torch.tensor([encode_prompt(words, prompt, text)])
            said = word_logits(tuned, ids, torch.ones_like(ids), first_tokens(words, prompt))
            assert int(said.argmax()) == code


@pytest.mark.parametrize("known", [False, True])
def test_answers_are_those_of_the_packages_own_greedy_search(tokenizer: Any, known: bool) -> None:
    """On an untuned model, which never ends its turn unless some token is named as the end."""
    import torch

    model, words, prompt = make_model(len(tokenizer)), tokenizer.backend_tokenizer, prompt_of(tokenizer)
    answers = generate_answers(model, words, prompt, TEXTS, targets=["", "Acme", "Beta"], max_new_tokens=6)
    model.generation_config.eos_token_id = list(end_tokens(words, prompt))
    if known:  # what the base would write as its third token now ends its turn
        ids = encode_prompt(words, prompt, TEXTS[0])
        third = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=6, pad_token_id=0)[0, len(ids) + 2]
        model.generation_config.eos_token_id = [*end_tokens(words, prompt), int(third)]
        model.generation_config.repetition_penalty = 1.5  # a setting of the base that is no part of the comparison
        answers = generate_answers(model, words, prompt, TEXTS, targets=["", "Acme", "Beta"], max_new_tokens=6)
        model.generation_config.repetition_penalty = 1.0
    for text, target, answer in zip(TEXTS, ("", "Acme", "Beta"), answers, strict=True):
        ids = encode_prompt(words, prompt, text, target)
        out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=6, pad_token_id=0)[0, len(ids) :]
        ends = set(model.generation_config.eos_token_id)
        kept = [token for token in out.tolist() if token not in ends]
        assert answer == words.decode(kept).strip()
        assert len(kept) <= 6
    assert len(set(answers)) == 3
