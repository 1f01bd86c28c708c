"""Tiny random models of real architectures, with a tokenizer of whole words, made where a test asks for them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from finsignal.sentiment.tuning import bases

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "acme", "beta", "shares", "today", "rises", "falls", "meets", "on", "news"]
ANSWERS = ["negative", "neutral", "positive", "<s>", "</s>", ":", ",", ".", "sentiment", "text", "answer"]
CHAT = (
    "{{ '<s>' }}{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' . ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'answer :' }}{% endif %}"
)


def write_words(folder: Path, *, pair: bool = True, chat: str = "", pad: bool = True) -> None:
    """A tokenizer of whole words; pair: between [CLS] and [SEP] as a BERT's, else after <s> as a Llama's."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    words = WORDS + ANSWERS
    tokenizer = Tokenizer(models.WordLevel({word: code for code, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if pair:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    else:
        tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", words.index("<s>"))]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    settings |= {} if pair else {"bos_token": "<s>", "eos_token": "</s>"}
    settings |= {"pad_token": "[PAD]"} if pad else {}
    settings |= {"chat_template": chat} if chat else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_bert(folder: Path, *, labels: dict[int, str] | None = None, dropout: float = 0.1) -> Path:
    """A random BERT of two layers and hidden size 64; with labels one that has a classification head of its own."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=200,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=128,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **({"id2label": labels, "label2id": {name: code for code, name in labels.items()}} if labels else {}),
    )
    with bases.quiet():
        (BertForSequenceClassification if labels else BertModel)(config).save_pretrained(folder)
    write_words(folder)
    return folder


def write_llama(folder: Path, *, kind: str = "llama", chat: str = CHAT, pad: bool = False) -> Path:
    """A random Llama, or another causal architecture by its model type, of two layers and hidden size 64."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=64,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=128,
        max_position_embeddings=128,
        bos_token_id=len(WORDS) + ANSWERS.index("<s>"),
        eos_token_id=len(WORDS) + ANSWERS.index("</s>"),
        pad_token_id=0 if pad else None,
        tie_word_embeddings=True,
        initializer_range=0.3,  # with less no adapter could move the frozen layer of words
    )
    with bases.quiet():
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    write_words(folder, pair=False, chat=chat, pad=pad)
    return folder


def write_rows(folder: Path) -> Path:
    """made.csv: 60 texts whose label is their verb; report.csv: 4 to report on, one of which is among the 60."""
    verbs = [("rises", "up"), ("falls", "down"), ("meets", "flat")]
    rows = [(f"{('Acme', 'Beta')[n % 2]} {verb} today {n}", label) for n in range(20) for verb, label in verbs]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / "made.csv", index=False)
    report = [("Beta news: rises", "up"), ("Acme falls", "down"), ("beta meets", "flat"), (rows[0][0] + "!", "up")]
    pd.DataFrame(report, columns=["text", "label"]).to_csv(folder / "report.csv", index=False)
    return folder
