"""Each known kind of cheat, and the guard that catches it; or that nothing can."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = "cannot be detected"
KINDS = ("contract", "clock", "manifest", "trial registry", "audit", "check", NOTHING)


@dataclass(frozen=True)
class Guard:
    """One kind of cheat, the guard that catches it (one of KINDS), and how; where nothing can, what is left to do."""

    cheat: str
    guard: str
    how: str


GUARDS: tuple[Guard, ...] = (
    # what the tables refuse
    Guard("a column of forward returns among the features", "contract", "fwd_* is refused by name"),
    Guard("an order decided after its bar opened", "contract", "time <= open_time in features, signals and weights"),
    Guard("dates passed off as times", "contract", "more than 5 % of stamps at midnight are refused"),
    Guard("stamps without a zone, or after the present", "contract", "the reader refuses the row or the file"),
    Guard("rows dropped or put in another order by the strategy", "contract", "one answer for each row, in order"),
    Guard("a price that nobody could pay", "contract", "low <= open, close <= high; only closed bars of the grid"),
    Guard("costs below zero, a delisting that pays", "contract", "refused where they are stated"),
    Guard("bars stamped at their close, read as opens", "contract", "off the grid where a session ends; else check"),
    Guard("an adjusted close in place of the traded one", "contract", "it lies outside its bar, and is refused"),
    Guard("settings chosen on what judges them", "contract", "[search] needs a [split], with a gap before the test"),
    # what the clock and the model's card refuse
    Guard("a text known before it was published", "clock", "a negative latency is refused"),
    Guard("a decision at the very open that it trades", "clock", "said first in the report; the job refuses it"),
    Guard("a model that learned from the period", "clock", "the run must begin after trained_until and base cut-off"),
    # what the records tell
    Guard("a result altered after the run", "manifest", "verify-run repeats the run and compares bit by bit"),
    Guard("data, strategy or model changed after the run", "manifest", "verify-run names each by digest"),
    Guard("a manifest written by hand", "manifest", "it holds its own digest; verify-run makes the folder again"),
    Guard("tries that are kept quiet", "trial registry", "every setting of a study is counted by itself"),
    Guard("a registry shortened or edited", "trial registry", "each line seals those before it"),
    Guard("texts of the validation set in training", "audit", "the data audit names shared and near texts"),
    # what `finsignal check` finds
    Guard("the next bar's return, a centred window, a backfill", "check", "the past differs when the future is cut"),
    Guard("a mean, rank or scale of the whole sample", "check", "the past differs when the future is noise"),
    Guard("a look ahead on rare days alone", "check", "the strategy is asked again at many instants, large moves too"),
    Guard("one symbol's end in another's beginning", "check", "cut and noise, symbol by symbol"),
    Guard("a model that reads its neighbours' texts", "check", "texts are scored again without those to come"),
    Guard("dates learned by heart", "check", "features moved by 28 years, the same weekdays, decide otherwise"),
    Guard("answers learned by heart, row by row", "check", "asked without its first bars, in no count, it is another"),
    Guard("answers kept for exact values", "check", "features changed in the third digit decide otherwise"),
    Guard("a table of data in the strategy file", "check", "its text is read: blocks of data are named"),
    Guard("a file, a connection or a process", "check", "watched while the strategy is loaded and asked"),
    Guard("memory, the clock, random numbers", "check", "the same rows asked twice; its text is read"),
    Guard(
        "the callers' tables, by the stack or the heap", "check", "asked where no frame holds them; watched; its text"
    ),
    Guard("finsignal, pandas or numpy changed from within", "check", "their functions are compared before and after"),
    Guard(
        "news stamped too early, a wrong zone", "check", "the market reacts a constant time after; sources and symbols"
    ),
    Guard("one time of day for many texts", "check", "stamps that are dates in disguise are named"),
    Guard("scores or closes that know the next return", "check", "a rank correlation above 0.5, of all or one symbol"),
    Guard("opens that are an hour old", "check", "gaps take back the moves before them, symbol by symbol"),
    # what nobody can see from the run alone
    Guard("symbols picked because they did well", NOTHING, "state the universe before; include what was delisted"),
    Guard("a period picked because it did well", NOTHING, "run the other years; keep a test that nobody has seen"),
    Guard("tries made elsewhere, or before the registry", NOTHING, "deflate by more trials than were counted"),
    Guard("parameters fitted by hand to the test", NOTHING, "choose by [search], on validation"),
    Guard("a rule that its author knew would have worked", NOTHING, "the scheduled job's ledger, from today on"),
    Guard("scores by a model whose training nobody knows", NOTHING, "said first; its names masked; later data"),
    Guard("a card that lies about its training", NOTHING, "train it again from its recipe"),
    Guard("news rewritten later under its first stamp", NOTHING, "capture it live: first_seen is then known"),
    Guard("news, scores or bars left out because they hurt", NOTHING, "gaps are in the manifest; another archive"),
    Guard("prices invented, or adjusted throughout", NOTHING, "another source of the same bars"),
    Guard("days of the year picked by hand", NOTHING, "told where answers hang on the day of the year"),
    Guard(
        "stamps early by less than a bar, or in a market that does not react", NOTHING, "shorter bars; the lag curve"
    ),
    Guard("stamps that are early for some of the texts", NOTHING, "found where most of a source or symbol are"),
    Guard("scores that know part of the next return", NOTHING, "a rank correlation of 0.5 or less is not accused"),
    Guard("closes or opens of another bar, now and then", NOTHING, "found only where most bars of a symbol are wrong"),
    Guard("a few answers in place of a few rows, well hidden", NOTHING, "read the strategy file: it is short"),
)


def to_text(guards: tuple[Guard, ...] = GUARDS) -> str:
    """The guards as a Markdown table, in their order, a line each."""
    lines = ["| cheat | guard | how |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.cheat} | {row.guard} | {row.how} |" for row in guards)]) + "\n"
