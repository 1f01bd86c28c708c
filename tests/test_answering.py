"""Answers written freely: as the base would write them, parsed strictly, and never neutral for want of a label."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Cli
from test_instruct import LLAMA, TEXTS, make_model, make_tokenizer, prompt_of

from finsignal.cli import evaluating
from finsignal.sentiment.evaluate import answering
from finsignal.sentiment.evaluate.answering import compare_generated, generate_answers, parse_answer
from finsignal.sentiment.tuned import TunedModel
from finsignal.sentiment.tuning.heads import Classifier
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


def test_where_no_answer_is_a_label_nothing_is_said_of_the_parsed() -> None:
    found = compare_generated(np.array([1, 1]), ["a", "b"], PROMPT, np.eye(3)[[1, 1]])

    assert found["accuracy"]["value"] == 0.0
    assert found["accuracy_parsed"] == {"value": None, "low": None, "high": None, "reason": "no answer was a label"}
    assert found["agreement"]["value"] is None


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


def test_dropout_is_off_while_a_model_writes(tokenizer: Any) -> None:
    model, words, prompt = make_model(len(tokenizer), attention_dropout=0.9), tokenizer.backend_tokenizer, PROMPT
    expected = generate_answers(model, words, prompt, TEXTS)

    assert generate_answers(model.train(), words, prompt, TEXTS) == expected


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


# --- finsignal evaluate --generate ---


@pytest.fixture
def words_model(tokenizer: Any, tuned: Any, monkeypatch: pytest.MonkeyPatch) -> TunedModel:
    """The tuned model as the model of the folder "mine"."""
    words, prompt = tokenizer.backend_tokenizer, prompt_of(tokenizer)
    session = Classifier(tuned.eval(), None, kind="words", first_tokens=first_tokens(words, prompt))
    model = TunedModel("mine@12", 1.0, {}, (0, 1, 2), session, words, "12", prompt=prompt)
    load = evaluating.load
    monkeypatch.setattr(
        evaluating, "load", lambda name, *, label_map: model if name == "mine" else load(name, label_map=label_map)
    )
    return model


def write_rows(folder: Path) -> Path:
    """Six rows: the three that were learned, one of them under another label, one with nothing to read, one unknown."""
    rows = [*zip(TEXTS, LABELS, strict=True), (TEXTS[0], "neutral"), ("https://t.co/x", "neutral")]
    rows.append(("Zzz <b>qq</b> 12345", "neutral"))
    path = folder / "rows.csv"
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


def test_generated_answers_stand_beside_the_one_pass(
    run_cli: Cli, words_model: TunedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path)
    arguments = ("evaluate", "mine", "default", "--data", path, "--robustness", "0", "--bootstrap", "20", "--generate")
    code, out, _ = run_cli(*arguments, "--json")
    model, other = json.loads(out)["models"]
    found = model["answers"]

    assert code == 0
    assert "answers" not in other
    assert found["rows"] == 5, "a text with nothing to read is not asked about"
    assert found["confusion"][0] == [1, 0, 0, 0]
    assert found["confusion"][2] == [0, 0, 1, 0]
    assert found["confusion"][1][:2] >= [1, 1]
    assert sum(map(sum, found["confusion"])) == 5
    assert np.array(model["confusion"]).sum() == 6

    code, out, _ = run_cli(*arguments[:-1], "--json")
    assert [sorted({"answers"} & set(model)) for model in json.loads(out)["models"]] == [[], []], "only where asked for"

    # A model that says something else than its labels: nothing of it becomes neutral.
    answers = "positively <i>no</i>"
    monkeypatch.setattr("finsignal.sentiment.evaluate.answering.generate_answers", lambda *a, **k: [answers] * 5)
    code, out, _ = run_cli(*arguments, "--out", tmp_path / "out")
    assert code == 0
    shown = [" ".join(line.split()) for line in out.splitlines()]
    assert "unparsable 1.000 [0.566, 1.000]" in shown
    assert "neutral 0 0 0 3" in shown
    assert "of those that are labels -" in shown
    assert f"unparsable, 5 times: {answers!r}" in shown
    page = (tmp_path / "out" / "evaluation.html").read_text("utf-8")
    assert '<a href="#answers">' in page
    assert "positively &lt;i&gt;no&lt;/i&gt;" in page
    assert "<i>no</i>" not in page


def test_a_target_is_asked_about_where_the_model_knows_of_targets(
    words_model: TunedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def note(*given: Any, targets: Any, **options: Any) -> list[str]:
        seen.append(targets)
        return ["neutral"]

    monkeypatch.setattr(answering, "generate_answers", note)
    codes, uniform = np.array([1]), np.full((1, 3), 1 / 3)
    answering.measure_answers(words_model, ["Acme falls"], ["Acme"], codes, uniform)
    aware = replace(words_model, card={"target_aware": True})
    answering.measure_answers(aware, ["Acme falls"], ["Acme"], codes, uniform)

    assert seen == [[""], ["Acme"]]


def test_a_model_writes_with_its_own_adapter_on(words_model: TunedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    def switched_on(self: TunedModel) -> Iterator[None]:
        seen.append("on")
        yield
        seen.append("off")

    def note(*given: Any, **options: Any) -> list[str]:
        seen.append("asked")
        return ["neutral"]

    monkeypatch.setattr(TunedModel, "switched_on", switched_on)
    monkeypatch.setattr(answering, "generate_answers", note)
    answering.measure_answers(words_model, ["Acme falls"], [""], np.array([1]), np.full((1, 3), 1 / 3))

    assert seen == ["on", "asked", "off"]


def test_a_model_that_reads_no_words_cannot_be_let_write(run_cli: Cli, tmp_path: Path) -> None:
    code, _, err = run_cli("evaluate", "default", "--data", write_rows(tmp_path), "--generate")

    assert code == 1
    assert "words@0 reads no words; expected a model that was tuned with a head of kind 'words'" in err
