"""The card of a model folder in words: what it was made of, how it was tuned, what was measured."""

from __future__ import annotations

from typing import Any

HEADS = {
    "mean": "mean pooling and a new linear head",
    "last": "a new linear head on the last token",
    "own": "the base's own head",
    "words": "the base's next word",
}


def _to_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _to_method(tuning: dict[str, Any]) -> str:
    method = tuning["method"]
    if method in ("full", "frozen"):
        return {"full": "every weight of the base (full)", "frozen": "the head alone (frozen)"}[method]
    if method in ("prefix", "prompt"):
        return f"{method}, {tuning['virtual_tokens']} tokens"
    layers = ", ".join(tuning.get("target_modules") or ["all linear layers"])
    return f"{method}, rank {tuning['rank']} on {layers}"


def _to_line(run: dict[str, Any], kind: str) -> str:
    tuning = run["settings"]
    if tuning["method"] == "tfidf":
        return f"- fitted ({run['recipe']}): logistic regression on TF-IDF of words and pairs of words"
    return (
        f"- tuning ({run['recipe']}): {_to_method(tuning)}, {HEADS[kind]}, learning rate {tuning['learning_rate']:g}, "
        f"{tuning['epochs']} epochs of which epoch {run['chosen_epoch']} has the least held-out log-loss, "
        f"seed {tuning['seed']}"
    )


def _to_parity(parity: dict[str, Any] | None) -> list[str]:
    if parity is None:
        return []
    return [
        f"- INT8 against full precision, {parity['texts']} held-out texts: label agreement "
        f"{parity['label_agreement']:.3f}, largest difference of a probability {parity['largest_difference']:.3f}"
    ]


def _to_look_back(run: dict[str, Any]) -> list[str]:
    """The base beside the tuned model, where the run has looked."""
    lines, before, forgot = [], run.get("before"), run.get("forgetting") or {}
    if before:
        base, tuned = before["base"], before["tuned"]
        lines.append(
            f"- before and after tuning, {before['rows']} held-out rows: accuracy {base['accuracy']:.3f} and "
            f"{tuned['accuracy']:.3f}, log-loss {base['log_loss']:.3f} and {tuned['log_loss']:.3f}"
        )
    if "tuned" in forgot:
        sides = ("beyond all bounds" if forgot[side] is None else f"{forgot[side]:.2f}" for side in ("base", "tuned"))
        lines.append(
            f"- perplexity on a general English text of {forgot['tokens']} tokens: {' before, '.join(sides)} after"
        )
    return lines


def to_readme(card: dict[str, Any]) -> str:
    """The card in words and tables, Markdown."""
    base, split, kind = card["base"], card["split"], card.get("head", {}).get("kind", "mean")
    lines = [
        f"# {card['name']}",
        "",
        f"Probabilities of negative, neutral and positive for one English financial headline or post, up to "
        f"{card['max_tokens']} tokens. Made {card['made']}. {card['disclaimer']}",
        "",
        f"- base: {base['about']} ({base['model']}), {base['licence']}, knows nothing after {base['known_until']}"
        + (f", SHA-256 {base['sha256']}" if "sha256" in base else ""),
        f"- trained until: {card['trained_until']} (no row is dated: this is the latest cut-off of its sets). A "
        "backtest that begins before must say so.",
        *(_to_line(run, kind) for run in card["runs"]),
        *(["- the model is the mean of the weights of these runs"] if len(card["runs"]) > 1 else []),
        f"- rows: {split['train']} learned from, {split['held_out']} held out (the epoch was chosen and the "
        f"temperature {card['temperature']:.4f} fitted on them, so their figures flatter)",
        f"- cleaning, by normalised text: {_to_words(card['cleaning'])}",
        *_to_parity(card.get("parity")),
        *_to_look_back(card["runs"][0]),
        *(f"- put right of {card['source']}: {line}" for line in card.get("corrected", ())),
        "",
        "## Learned from",
        "",
        "| set | licence | cut-off | rows | SHA-256 |",
        "|---|---|---|---|---|",
        *(
            f"| {item['name']} ({item['path']}): {item['about']} | {item['licence']} | {item['cutoff']} "
            f"| {_to_words(item['counts'])} | {item['sha256']} |"
            for item in card["data"]
        ),
        "",
        "## Measured",
        "",
        f"Of {'this INT8 graph' if 'parity' in card else 'these files'}, temperature applied, 95 % bootstrap intervals",
        "in brackets. Report sets were used for nothing else. The training sets are used as published: where a report",
        "set shares texts with them (compared in lower case, letters and digits only, without URLs and mentions), a",
        "second line leaves these rows out.",
        "",
        "| set | rows | accuracy | macro-F1 | log-loss | calibration error |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {found['n']} | "
            + " | ".join(
                f"{found[key]['value']:.3f} [{found[key]['low']:.3f}, {found[key]['high']:.3f}]"
                for key in ("accuracy", "macro_f1", "log_loss", "calibration_error")
            )
            + " |"
            for name, found in card["metrics"].items()
        ),
        "",
        "## Not good for",
        "",
        *(f"- {item}" for item in card["not_good_for"]),
    ]
    return "\n".join(lines) + "\n"
