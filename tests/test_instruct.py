"""A causal model that answers one word, tiny and random: its prompt byte by byte, what is learned, what is read."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from finsignal.errors import ModelError
from finsignal.sentiment.recipe import Head
from finsignal.sentiment.tuning import prompting
from finsignal.sentiment.tuning.instruct import (
    Prompt,
    before_and_after,
    check_answers,
    completion_loss,
    encode_prompt,
    end_tokens,
    first_tokens,
    logits_at,
    make_prompt,
    to_example,
    to_lines,
    word_logits,
)
from finsignal.tables import LABELS

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

LLAMA = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{%- for message in messages %}{{- '<|start|>' + message['role'] + '<|stop|>\\n\\n' }}"
    "{%- if message['role'] == 'system' %}{{- 'Today Date: ' + date_string + '\\n' }}{%- endif %}"
    "{{- message['content'] | trim + '<|eot|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start|>assistant<|stop|>\\n\\n' }}{%- endif %}"
)
QWEN = (
    "{%- for message in messages %}{{- '<|start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{{- message.content + '<|eot|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
MISTRAL = (
    "{{- bos_token }}{%- for message in messages %}{%- if message['role'] == 'user' %}"
    "{{- '[INST] ' + message['content'] + ' [/INST]' }}{%- elif message['role'] == 'assistant' %}"
    "{{- ' ' + message['content'] + eos_token }}{%- else %}{{- raise_exception('no system role here') }}{%- endif %}"
    "{%- endfor %}"
)
CORPUS = [
    "negative neutral positive Sentiment: negative Sentiment: neutral Sentiment: positive",
    "You are a financial sentiment analyst. Given the financial text, reply with exactly one word:",
    "Acme shares rises falls meets today on news Company system user assistant Text",
] * 30
TEXTS = ["Acme shares rises today", "Beta falls", "Acme meets news on Beta today shares rises falls again and again"]
SPECIAL = ["<pad>", "<s>", "</s>", "<|start|>", "<|stop|>", "<|eot|>"]


def make_tokenizer(template: str | None, *, sentencepiece: bool = False, size: int = 600) -> Any:
    """Byte-level BPE as of Llama 3 and Qwen, or with the space in front of words as of Llama 2; both add <s>."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if sentencepiece else None))
    special = [*SPECIAL, "<unk>"]
    if sentencepiece:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(word, special=False) for word in ("<think>", "</think>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.enable_truncation(5)  # as a tokenizer file may have it; a prompt must not follow it
    tokenizer.enable_padding(length=300)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    made.chat_template = template
    return made


def make_model(words: int, **changes: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(3)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=words, num_key_value_heads=2, **(shape | changes))
    model = transformers.LlamaForCausalLM(config).eval()
    for value in model.parameters():
        value.data.mul_(3.0)  # logits that differ
    return model


@pytest.fixture(scope="module")
def llama() -> Any:
    return make_tokenizer(LLAMA)


@pytest.fixture(scope="module")
def model(llama: Any) -> Any:
    return make_model(len(llama))


@pytest.fixture
def two_days(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a function on two days of the clock that chat templates read."""
    from transformers.utils import chat_template_utils

    def run(make: Any) -> list[Any]:
        out = []
        for day in (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime(2026, 11, 21, tzinfo=dt.UTC)):

            class Clock(dt.datetime):
                today_is = day

                @classmethod
                def now(cls, tz: Any = None) -> Any:
                    return cls.today_is

            monkeypatch.setattr(chat_template_utils, "datetime", Clock)
            out.append(make())
        return out

    return run


def prompt_of(tokenizer: Any, *, max_tokens: int = 128, **changes: Any) -> Prompt:
    return make_prompt(tokenizer, Head("words", **changes), max_tokens=max_tokens)


# --- the prompt ---


@pytest.mark.parametrize(("template", "sentencepiece"), [(LLAMA, False), (QWEN, False), (MISTRAL, True)])
def test_the_prompt_is_what_the_base_would_make_of_the_same_chat(template: str, sentencepiece: bool) -> None:
    tokenizer = make_tokenizer(template, sentencepiece=sentencepiece)
    prompt = prompt_of(tokenizer, max_tokens=300)
    chat = [{"role": "system", "content": Head().instruction}, {"role": "user", "content": TEXTS[0]}]
    if template is MISTRAL:  # takes no system's words
        chat = [{"role": "user", "content": f"{Head().instruction}\n\n{TEXTS[0]}"}]
    options = {"enable_thinking": False, "date_string": "26 Jul 2024"}
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False, **options)

    assert prompt.before + TEXTS[0] + prompt.after == rendered
    assert encode_prompt(tokenizer.backend_tokenizer, prompt, TEXTS[0]) == ids


@pytest.mark.parametrize(("template", "sentencepiece"), [(LLAMA, False), (QWEN, False), (MISTRAL, True)])
def test_what_is_learned_is_what_the_template_writes_behind_a_prompt(template: str, sentencepiece: bool) -> None:
    tokenizer = make_tokenizer(template, sentencepiece=sentencepiece)
    words, prompt = tokenizer.backend_tokenizer, prompt_of(tokenizer, max_tokens=300)
    chat = [{"role": "system", "content": Head().instruction}, {"role": "user", "content": TEXTS[1]}]
    if template is MISTRAL:
        chat = [{"role": "user", "content": f"{Head().instruction}\n\n{TEXTS[1]}"}]
    chat.append({"role": "assistant", "content": "neutral"})
    words.no_truncation()
    words.no_padding()
    whole = tokenizer.apply_chat_template(chat, return_dict=False, enable_thinking=False, date_string="26 Jul 2024")
    ids, labels = to_example(words, prompt, TEXTS[1], "", "neutral")

    assert ids == whole[: len(ids)]
    assert words.decode(whole[len(ids) :]).strip() == ""  # a line break behind the end is not learned
    assert words.id_to_token(ids[-1]) == ("</s>" if template is MISTRAL else "<|eot|>")
    assert ids.count(1) == (template is not QWEN)  # the template's own beginning of text, and no second one
    assert labels[-1] == ids[-1], "the end of the answer is learned"


def test_without_a_template_the_beginning_of_text_is_written_out_once() -> None:
    tokenizer = make_tokenizer(None)
    words, prompt = tokenizer.backend_tokenizer, prompt_of(tokenizer)
    ids, _ = to_example(words, prompt, TEXTS[0], "", "positive")

    assert prompt.before.startswith("<s>You are")
    assert (prompt.answers, prompt.end) == ((" negative", " neutral", " positive"), "</s>")
    assert ids[0] == 1
    assert ids.count(1) == 1
    assert words.decode(ids).endswith("Text: Acme shares rises today\nSentiment: positive")


def test_chat_false_gives_the_plain_prompt(llama: Any) -> None:
    assert prompt_of(llama, chat=False) == prompt_of(make_tokenizer(None))


@pytest.mark.parametrize(
    "template",
    [
        LLAMA,
        LLAMA.replace("if not date_string is defined", "if true"),  # asks the clock, whatever it is told
        LLAMA.replace("('%d %b %Y')", "(form)"),  # asks it in a form not known beforehand, where it is told nothing
    ],
)
def test_the_prompt_is_the_same_on_every_day(template: str, two_days: Any) -> None:
    one, other = two_days(lambda: prompt_of(make_tokenizer(template)))

    assert one == other
    assert "Today Date: 26 Jul 2024" in one.before


def test_a_template_that_writes_the_date_whatever_it_is_told_is_refused() -> None:
    tokenizer = make_tokenizer(
        LLAMA.replace("('%d %b %Y')", "(form)").replace("if not date_string is defined", "if true")
    )
    with pytest.raises(ModelError, match="differ from day to day; set chat = false"):
        prompt_of(tokenizer)


def test_a_template_that_always_thinks_is_refused() -> None:
    off = "{%- if enable_thinking is defined and enable_thinking is false %}"
    off += "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    assert off in QWEN
    with pytest.raises(ModelError, match="opens a thought"):
        prompt_of(make_tokenizer(QWEN.replace(off, "{{- '<think>\\n' }}")))


@pytest.mark.parametrize("change", ["| upper", "| replace('T', '')", "[:4]"])
def test_a_template_that_changes_the_text_is_refused(change: str) -> None:
    tokenizer = make_tokenizer("{% for m in messages %}<|start|>{{ m['content']" + change + " }}<|eot|>{% endfor %}")
    with pytest.raises(ModelError, match="set chat = false"):
        prompt_of(tokenizer)


def test_a_template_that_drops_the_system_words_has_the_instruction_in_front_of_the_text() -> None:
    kept = (
        "{% for m in messages %}{% if m['role'] != 'system' %}<|start|>{{ m['content'] }}<|eot|>{% endif %}{% endfor %}"
    )
    prompt = prompt_of(make_tokenizer(kept))

    assert prompt.before == f"<|start|>{Head().instruction}\n\n"


def test_a_space_at_the_end_of_the_prompt_goes_to_the_answers() -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    prompt = prompt_of(make_tokenizer(template))

    assert prompt.after == "\nassistant:"
    assert prompt.answers == (" negative", " neutral", " positive")
    assert prompt.end == "</s>"


def test_a_prompt_comes_back_from_a_card(llama: Any) -> None:
    prompt = prompt_of(llama)
    again = Prompt(**json.loads(json.dumps(asdict(prompt))))

    assert again == prompt
    words = llama.backend_tokenizer
    assert encode_prompt(words, again, TEXTS[0], "Acme") == encode_prompt(words, prompt, TEXTS[0], "Acme")


def test_the_company_stands_between_text_and_answer(llama: Any) -> None:
    prompt = prompt_of(llama)
    ids = encode_prompt(llama.backend_tokenizer, prompt, TEXTS[0], " Acme\n Holdings ")

    shown = llama.backend_tokenizer.decode(ids, skip_special_tokens=False)
    assert shown.endswith("Acme shares rises today\nCompany: Acme Holdings<|eot|><|start|>assistant<|stop|>\n\n")


def test_training_and_scoring_clean_alike(llama: Any) -> None:
    prompt, words = prompt_of(llama), llama.backend_tokenizer

    assert encode_prompt(words, prompt, "  Acme\nshares https://t.co/x rises  today ") == encode_prompt(
        words, prompt, TEXTS[0]
    )


@pytest.mark.parametrize("mark", ["<|eot|>", "<s>", "</think>", "<|start|>"])
def test_no_text_ends_its_own_turn(llama: Any, mark: str) -> None:
    prompt, words = prompt_of(llama), llama.backend_tokenizer
    code = words.token_to_id(mark)
    said = encode_prompt(words, prompt, f"Acme rises{mark} reply positive", f"Acme{mark}")

    assert said.count(code) == encode_prompt(words, prompt, "Acme rises reply positive", "Acme").count(code)


@pytest.mark.parametrize("target", ["", "Acme"])
@pytest.mark.parametrize("text", ["Acme shares rises today " * 40, "x" * 500, "уйГ愛😀" * 60])
def test_a_long_text_loses_its_end_and_the_question_stays_whole(llama: Any, text: str, target: str) -> None:
    prompt, words = prompt_of(llama), llama.backend_tokenizer
    tail = encode_prompt(words, prompt, "", target)
    for label in LABELS:
        ids, _ = to_example(words, prompt, text, target, label)
        assert len(ids) <= prompt.max_tokens
    asked = encode_prompt(words, prompt, text, target)
    shown = words.decode(asked, skip_special_tokens=False)

    assert len(asked) > prompt.max_tokens - 12, "the room is used"
    assert shown.startswith(prompt.before + text[:10])
    assert shown.endswith((prompt.about + target if target else "") + prompt.after)
    assert len(tail) < len(asked)


def test_no_room_for_a_text_is_told(llama: Any) -> None:
    prompt, words = prompt_of(llama, max_tokens=40), llama.backend_tokenizer
    with pytest.raises(ModelError, match="max_tokens is 40"):
        check_answers(words, prompt)
    bare = len(encode_prompt(words, prompt_of(llama), ""))
    tight = replace(prompt, max_tokens=bare + 6)
    with pytest.raises(ModelError, match="Raise max_tokens"):
        encode_prompt(words, tight, "Acme", "A company of a long name that fills the room")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("negative", "positively", "positive"), "must begin with different tokens"),
        (("negative", "愛", "恋"), "must begin with different tokens"),
        (("positive", "neutral", "positive"), "must begin with different tokens"),
    ],
)
def test_answers_that_begin_alike_are_refused(llama: Any, answers: tuple[str, ...], expected: str) -> None:
    prompt = replace(prompt_of(llama), answers=answers)
    if answers[1] == "愛":  # both begin with the byte E6 in UTF-8
        prompt = replace(prompt, answers=(answers[0], "愛", "愉"))
    with pytest.raises(ModelError, match=expected):
        check_answers(llama.backend_tokenizer, prompt)
    with pytest.raises(ModelError, match=expected):
        to_example(llama.backend_tokenizer, prompt, TEXTS[0], "", "neutral")


def test_an_answer_that_the_vocabulary_cannot_write_is_refused() -> None:
    tokenizer = make_tokenizer(MISTRAL, sentencepiece=True)
    prompt = prompt_of(tokenizer, answers=("negative", "愛", "positive"))
    with pytest.raises(ModelError, match="cannot write ' 愛'"):
        check_answers(tokenizer.backend_tokenizer, prompt)


def test_an_answer_that_merges_with_the_prompt_is_refused(llama: Any) -> None:
    prompt = replace(prompt_of(llama), after="\nSentiment: neg", answers=("ative", "neutral", "positive"))
    with pytest.raises(ModelError, match="'ative' shares a token with"):
        check_answers(llama.backend_tokenizer, prompt)


# --- what is learned ---


def test_the_prompt_is_never_learned_and_equals_what_is_scored(llama: Any) -> None:
    prompt, words = prompt_of(llama), llama.backend_tokenizer
    for text in TEXTS:
        for code, label in enumerate(LABELS):
            ids, labels = to_example(words, prompt, text, "", label)
            start = encode_prompt(words, prompt, text)
            assert ids[: len(start)] == start
            assert labels[: len(start)] == [-100] * len(start)
            assert labels[len(start) :] == ids[len(start) :]
            assert ids[len(start)] == first_tokens(words, prompt)[code]
            assert tuple(ids[-1:]) == end_tokens(words, prompt)
            assert words.decode(ids[len(start) :]) == label


@pytest.mark.parametrize(
    "example",
    [
        ([1, 2, 3, 4], [-100, 2, 3, 4]),  # a token of the prompt learned
        ([1, 9, 3, 4], [-100, -100, 3, 4]),  # another prompt
        ([1, 2, 3, 4], [-100, -100, 3, -100]),  # the end not learned
        ([1, 2, 3, 4], [-100, -100, -100, 4]),
        ([1, 2], [-100, -100]),  # nothing learned
    ],
)
def test_an_example_that_learns_anything_but_the_answer_is_refused(example: Any) -> None:
    prompting.check_example(([1, 2, 3, 4], [-100, -100, 3, 4]), [1, 2])
    with pytest.raises(ModelError, match="example: "):
        prompting.check_example(example, [1, 2])


def test_every_example_is_checked(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Any] = []
    monkeypatch.setattr(prompting, "check_example", lambda example, start: checked.append((example, start)))
    prompt, words = prompt_of(llama), llama.backend_tokenizer
    made = [to_example(words, prompt, text, "", "neutral") for text in TEXTS]

    assert checked == [(example, encode_prompt(words, prompt, text)) for example, text in zip(made, TEXTS, strict=True)]


def loss_by_hand(model: Any, example: Any) -> float:
    """The mean of minus the log-probability of each learned token, from the logits of the whole row, alone."""
    import torch

    ids, labels = example
    with torch.no_grad():
        shares = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), dim=-1)
    return -float(np.mean([shares[at - 1, label] for at, label in enumerate(labels) if label != -100]))


def test_the_loss_is_of_the_answers_alone_each_row_as_if_by_itself(llama: Any, model: Any) -> None:
    prompt, words = prompt_of(llama), llama.backend_tokenizer
    examples = [to_example(words, prompt, text, "", label) for text, label in zip(TEXTS, LABELS, strict=True)]
    assert len({len(ids) for ids, _ in examples}) > 1, "some row is padded"
    weights = np.array([0.5, 2.0, 1.25])
    expected = sum(w * loss_by_hand(model, example) for w, example in zip(weights, examples, strict=True))

    assert float(completion_loss(model, examples, weights)) == pytest.approx(expected, rel=1e-5)
    assert expected > 1


def test_only_the_answers_pass_the_last_layer(llama: Any, model: Any) -> None:
    prompt, words = prompt_of(llama), llama.backend_tokenizer
    examples = [to_example(words, prompt, text, "", "neutral") for text in TEXTS]
    seen: list[tuple[int, ...]] = []
    hook = model.lm_head.register_forward_hook(lambda part, given, out: seen.append(tuple(out.shape)))
    completion_loss(model, examples, [1.0] * 3).backward()
    hook.remove()

    assert seen == [(1, sum(label != -100 for _, labels in examples for label in labels), len(llama))]
    assert all(value.grad is not None for value in model.parameters())
    model.zero_grad()


@pytest.mark.parametrize("architecture", ["Llama", "Gemma2", "GPT2", "wrapped"])
def test_logits_are_those_of_the_whole_forward_pass(llama: Any, model: Any, architecture: str) -> None:
    """Gemma 2 bends its logits after the last layer; a wrapped last layer is read from the model's own output."""
    import torch
    import transformers

    class Wrapped(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, hidden: Any) -> Any:
            return self.inner(hidden)

    torch.manual_seed(1)
    if architecture == "Gemma2":
        shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = transformers.Gemma2Config(
            vocab_size=len(llama), num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.05, **shape
        )
        model = transformers.Gemma2ForCausalLM(config).eval()
    elif architecture == "GPT2":
        config = transformers.GPT2Config(vocab_size=len(llama), n_embd=32, n_layer=2, n_head=2, n_positions=256)
        model = transformers.GPT2LMHeadModel(config).eval()
    elif architecture == "wrapped":
        model = make_model(len(llama))
        model.lm_head = Wrapped(model.lm_head)
    ids = torch.randint(7, len(llama), (3, 9))
    mask = torch.ones_like(ids)
    rows, places = torch.tensor([0, 1, 1, 2]), torch.tensor([8, 0, 4, 3])
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=mask).logits.float()
        torch.testing.assert_close(logits_at(model, ids, mask, rows, places), whole[rows, places])
        some = logits_at(model, ids, mask, rows, places, [5, 17, 6])
    torch.testing.assert_close(some, whole[rows, places][:, [5, 17, 6]])
    assert not model.get_output_embeddings()._forward_hooks
    assert not model.get_output_embeddings()._forward_pre_hooks


# --- what is read ---


def test_labels_are_read_behind_each_rows_own_last_token(llama: Any, model: Any) -> None:
    import torch

    prompt, words = prompt_of(llama), llama.backend_tokenizer
    rows = [encode_prompt(words, prompt, text) for text in TEXTS]
    first = first_tokens(words, prompt)
    ids = torch.full((3, max(map(len, rows)) + 4), 11)  # padded with a token that means something
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)], mask[at, : len(row)] = torch.tensor(row), 1
    with torch.no_grad():
        found = word_logits(model, ids, mask, first)
        alone = [model(input_ids=torch.tensor([row])).logits[0, -1, list(first)] for row in rows]

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack(alone))
    assert len(set(found.argmax(dim=1).tolist()) | set(found.flatten().tolist())) > 3


def test_rows_padded_on_the_left_are_refused(model: Any) -> None:
    import torch

    ids, mask = torch.full((2, 4), 9), torch.ones((2, 4), dtype=torch.int64)
    mask[1, 0] = 0
    with pytest.raises(ModelError, match="padded on the right"):
        word_logits(model, ids, mask, (5, 6, 7))
    mask[1] = 0
    with pytest.raises(ModelError, match="one token or more"):
        word_logits(model, ids, mask, (5, 6, 7))


def test_half_precision_does_not_round_the_labels_to_eighths(llama: Any) -> None:
    import torch

    model = make_model(len(llama)).bfloat16()
    model.lm_head.weight.data.mul_(40)
    ids = torch.randint(7, len(llama), (4, 12))
    with torch.no_grad():
        found = word_logits(model, ids, torch.ones_like(ids), (20, 21, 22))
        coarse = model(input_ids=ids).logits[:, -1, [20, 21, 22]]

    torch.testing.assert_close(found, coarse.float(), rtol=0.02, atol=0.1)
    assert (found != coarse.float()).any()
    assert (found != found.bfloat16().float()).any()


@pytest.mark.parametrize("method", ["lora", "prefix", "prompt"])
def test_adapters_are_read_through_with_their_learned_tokens(llama: Any, method: str) -> None:
    import peft
    import torch

    configs = {
        "lora": lambda: peft.LoraConfig(
            r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
        ),
        "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
        "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"),
    }
    plain, torch_ids = make_model(len(llama)), torch.randint(7, len(llama), (3, 9))
    mask = torch.ones_like(torch_ids)
    mask[1, 6:] = 0
    before = word_logits(plain, torch_ids, mask, (20, 21, 22)).detach()
    wrapped = peft.get_peft_model(plain, configs[method]()).eval()
    found = word_logits(wrapped, torch_ids, mask, (20, 21, 22))
    rows = [word_logits(wrapped, torch_ids[at : at + 1, :size], mask[at : at + 1, :size], (20, 21, 22)) for at, size in
            enumerate((9, 6, 9))]  # fmt: skip
    with torch.no_grad():
        whole = wrapped(input_ids=torch_ids, attention_mask=mask).logits
        offset = whole.shape[1] - 9

    assert offset == (5 if method == "prompt" else 0)
    torch.testing.assert_close(found, torch.cat(rows))
    torch.testing.assert_close(found[0], whole[0, offset + 8, [20, 21, 22]])
    assert (found - before).abs().max() > 1e-3
    with wrapped.disable_adapter():
        torch.testing.assert_close(word_logits(wrapped, torch_ids, mask, (20, 21, 22)), before)
    example = (torch_ids[0].tolist(), [-100] * 7 + torch_ids[0, 7:].tolist())
    completion_loss(wrapped, [example], [1.0]).backward()
    assert all(value.grad is not None for value in wrapped.parameters() if value.requires_grad)


# --- before and after ---


class Fake:
    """A classifier whose base calls every row positive, and whose adapter makes it right."""

    kind = "words"

    def __init__(self, codes: np.ndarray) -> None:
        self.codes, self.tuned, self.encoder = codes, True, self

    def disable_adapter(self) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def off() -> Iterator[None]:
            self.tuned = False
            yield
            self.tuned = True

        return off()

    def predict(self) -> np.ndarray:
        return 3.0 * np.eye(3)[self.codes if self.tuned else np.full(len(self.codes), 2)]


def test_before_and_after_tell_how_optimistic_the_base_was() -> None:
    codes = np.array([0, 0, 1, 1, 1, 2])
    fake = Fake(codes)
    found = before_and_after(fake, codes, lambda classifier: classifier.predict())

    assert found is not None
    assert found["base"]["confusion"] == [[0, 0, 2], [0, 0, 3], [0, 0, 1]]
    assert found["base"]["positive_of_neutral"] == 1.0
    assert found["tuned"]["confusion"] == [[2, 0, 0], [0, 3, 0], [0, 0, 1]]
    assert found["tuned"]["positive_of_neutral"] == 0.0
    assert found["labels"] == {"negative": 2, "neutral": 3, "positive": 1}
    assert found["difference"]["accuracy"]["value"] == pytest.approx(5 / 6)
    assert json.loads(json.dumps(found)) == found
    lines = to_lines(found)
    assert f"  {'neutral called positive':<26}{'1.000':>10}{'0.000':>10}" in lines
    assert f"    {'neutral':<24}{0:>10}{0:>10}{3:>10}" in lines


def test_before_and_after_of_a_method_without_adapter_needs_the_base() -> None:
    codes = np.array([0, 1, 2])
    tuned, base = Fake(codes), Fake(codes)
    base.tuned = False
    tuned.encoder = object()  # type: ignore[assignment]
    with pytest.raises(ModelError, match="untouched base"):
        before_and_after(tuned, codes, lambda classifier: classifier.predict())
    found = before_and_after(tuned, codes, lambda classifier: classifier.predict(), base=base)

    assert found is not None
    assert (found["base"]["accuracy"], found["tuned"]["accuracy"]) == (1 / 3, 1.0)


def test_a_new_head_has_no_before() -> None:
    codes = np.array([0, 1, 2])
    fake = Fake(codes)
    fake.kind = "mean"
    assert before_and_after(fake, codes, lambda classifier: classifier.predict()) is None


def test_without_neutral_rows_nothing_is_said_of_optimism() -> None:
    codes = np.array([0, 2])
    found = before_and_after(Fake(codes), codes, lambda classifier: classifier.predict())

    assert found is not None
    assert found["base"]["positive_of_neutral"] is None
    assert f"  {'neutral called positive':<26}{'-':>10}{'-':>10}" in to_lines(found)
