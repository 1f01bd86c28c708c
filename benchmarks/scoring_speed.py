"""How fast the shipped graph scores, beside the transformers pipeline on the same texts, in one run.

    python benchmarks/scoring_speed.py --data ../shared/data --out benchmarks/results/scoring_speed.txt

Three questions: texts a second on two cores against the pipeline in batches of 32 (the same encoder, float32 in torch,
two threads, with the base's own weights: what ships has INT8 weights only, and time does not ask what they are); the
latency of one text; and the time from the start of a process to 100 scored headlines as a share of
`import torch, transformers` alone. Rounds alternate, so that a busy machine slows both sides; medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CORES = 2
BATCH = 32
START = """
import sys
from finsignal.sentiment.score import load_model
texts = open(sys.argv[1], encoding="utf-8").read().split("\\n")
found = load_model().predict_proba(texts)
assert found.shape == (100, 3)
"""


def make_pipeline():
    """The transformers text-classification pipeline over the base of the model that ships, with a head of its size.

    transformers has no mean-pooling BERT classifier, so its BertForSequenceClassification gets one: pooler and head are
    replaced, which costs the pipeline nothing.
    """
    import torch
    import transformers

    from finsignal.sentiment.recipe import read_recipe
    from finsignal.sentiment.score import DEFAULT
    from finsignal.sentiment.tuning import bases, heads

    recipe = read_recipe(DEFAULT.parent / "recipes" / "default.toml")
    base = bases.find_base(recipe.base)
    encoder = bases.load_base(base)
    classifier = heads.Classifier(encoder, torch.nn.Linear(encoder.config.hidden_size, 3))
    classifier.train(False)

    # The pipeline checks the name of the class.
    class BertForSequenceClassification(transformers.BertForSequenceClassification):
        def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **_):
            logits = classifier.logits(input_ids, attention_mask)
            return transformers.modeling_outputs.SequenceClassifierOutput(logits=logits)

    with bases.quiet():
        model = BertForSequenceClassification(transformers.AutoConfig.from_pretrained(base, num_labels=3)).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, model_max_length=recipe.base.max_tokens)
    encoder.set_attn_implementation("sdpa")
    torch.set_num_threads(CORES)
    return transformers.pipeline(
        "text-classification",
        model=model,
        tokenizer=tokenizer,
        device="cpu",
        batch_size=BATCH,
        top_k=None,
        truncation=True,
    )


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with tfns/ and sentfin/")
    parser.add_argument("--texts", type=int, default=1000, help="how many texts a round scores")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])

    import numpy as np

    from finsignal.sentiment.labelled import read_sentfin, read_tfns
    from finsignal.sentiment.prompt import clean
    from finsignal.sentiment.score import load_model

    posts = read_tfns(arguments.data / "tfns" / "sent_valid.csv")[0]["text"]
    headlines = read_sentfin(arguments.data / "sentfin" / "SEntFiN.csv")[0]["text"]
    draw = np.random.default_rng(1)
    # Posts as published, URLs and all, in random order: what either side is given by a user.
    texts = [str(text) for text in draw.permutation(posts.to_numpy())[: arguments.texts]]
    model, pipeline = load_model(), make_pipeline()
    lengths = [len(model.tokenizer.encode(text).ids) for text in texts]
    cleaned = [len(model.tokenizer.encode(clean(text)).ids) for text in texts]

    model.predict_proba(texts[:64])
    pipeline(texts[:64])
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        model.predict_proba(texts)
        ours.append(len(texts) / (time.perf_counter() - start))
        start = time.perf_counter()
        pipeline(texts)
        theirs.append(len(texts) / (time.perf_counter() - start))
    single = []
    for text in texts:
        start = time.perf_counter()
        model.predict_proba([text])
        single.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(single, [50, 95])

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "headlines.txt"
        file.write_text("\n".join(clean(text) for text in headlines[:100]), encoding="utf-8")
        score = [sys.executable, "-c", START, str(file)]
        load = [sys.executable, "-c", "import torch, transformers"]
        whole, imports = [], []
        for number in range(arguments.rounds + 1):
            pair = seconds_of(score), seconds_of(load)
            if number:  # the first pair warms the disk cache
                whole.append(pair[0])
                imports.append(pair[1])

    ratio = float(np.median(ours) / np.median(theirs))
    share = float(np.median(whole) / np.median(imports))
    lines = [
        f"model {model.name}; {platform.machine()}, {CORES} cores, Python {platform.python_version()}",
        f"{len(texts)} posts of TFNS valid, as published, in random order:",
        f"{np.mean(lengths):.1f} tokens on average, {max(lengths)} at most; {np.mean(cleaned):.1f} after finsignal's "
        f"cleaning; medians of {arguments.rounds} "
        "alternated rounds",
        "",
        f"texts a second, finsignal:                    {np.median(ours):8.1f}   (rounds {min(ours):.0f} to "
        f"{max(ours):.0f})",
        f"texts a second, transformers, batches of {BATCH}:  {np.median(theirs):8.1f}   (rounds {min(theirs):.0f} to "
        f"{max(theirs):.0f})",
        f"times as fast:                                {ratio:8.1f}",
        f"one text, p50:                                {p50:8.2f} ms",
        f"one text, p95:                                {p95:8.2f} ms",
        f"process start to 100 scored headlines:        {np.median(whole):8.2f} s",
        f"import torch, transformers alone:             {np.median(imports):8.2f} s",
        f"the first as a share of the second:           {share:8.2f}",
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
