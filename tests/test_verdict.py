"""One verdict in words, by the rule that it states."""

import pytest

from finsignal.evidence import Answer, Figure, judge_evidence


def make_figure(key, value=1.0, *, low=None, high=None, p=None, n=250, of="days"):
    return Figure(key, key.replace("_", " ").capitalize(), "ratio", n, of, value=value, low=low, high=high, p=p)


def judge(
    *,
    trades=80,
    sharpe=(1.0, 0.3, 1.7),
    days=250,
    p=(0.01, 0.02),
    deflated=0.97,
    stories=200.0,
    unseen=True,
    looked_ahead=False,
    **more,
):
    value, low, high = sharpe
    kinds = [make_figure(key, p=q) for key, q in zip(("shuffled", "flipped", "shifted"), p, strict=False)]
    answers = [
        Answer("luck", "?", ".", (make_figure("sharpe", value, low=low, high=high, n=days), *kinds)),
        Answer("search", "?", ".", (make_figure("trials", 12.0), make_figure("deflated_sharpe", deflated))),
        Answer("predicts", "?", ".", (make_figure("effective_stories", stories),)),
    ]
    return judge_evidence(answers, trades=trades, unseen=unseen, looked_ahead=looked_ahead, **more)


def test_all_tests_passed_is_real_and_three_facts_decide_it():
    verdict = judge()
    assert verdict["word"] == "real"
    assert len(verdict["facts"]) == 3
    assert verdict["facts"][0] == "Net Sharpe ratio 1.00, 95 % interval 0.30 to 1.70 over 250 days: above 0."
    assert "12 trials without skill would show is 97%" in verdict["facts"][2]


@pytest.mark.parametrize(
    ("change", "failed", "fact"),
    [
        ({"trades": 29}, "enough", "29 closed trades, of 30"),
        ({"days": 59}, "enough", "59 days, of 60"),
        ({"stories": 29.9}, "enough", "29.9 effective stories, of 30"),
        ({"sharpe": (1.0, -0.1, 2.1)}, "luck", "luck alone could have made it"),
        ({"p": (0.01, 0.051)}, "worlds", "5.1% of worlds do as well (flipped, the hardest of 2 kinds)"),
        ({"p": (0.01, 0.02, 0.6)}, "worlds", "60.0% of worlds do as well (shifted, the hardest of 3 kinds)"),
        ({"p": (0.01,)}, "worlds", "Too few kinds of worlds with the news dealt anew apply: 1"),
        ({"deflated": 0.9499}, "search", "is 94.9%; it takes 95%"),
        ({"unseen": False}, "unseen", "before the end of what the model"),
        ({"unseen": None}, "unseen", "not known"),
        ({"looked_ahead": None}, "looked_ahead", "was not checked"),
    ],
)
def test_one_test_that_fails_is_cannot_tell_and_the_first_fact(change, failed, fact):
    verdict = judge(**change)
    assert verdict["word"] == "cannot tell"
    assert [t["key"] for t in verdict["tests"] if not t["passed"]] == [failed]
    assert fact in verdict["facts"][0]


def test_an_interval_below_half_a_sharpe_ratio_is_not_real():
    assert judge(sharpe=(-0.4, -1.2, 0.49))["word"] == "not real"
    assert judge(sharpe=(-0.4, -1.2, 0.51))["word"] == "cannot tell"


def test_a_small_sharpe_ratio_that_is_surely_above_zero_is_real_all_the_same():
    assert judge(sharpe=(0.3, 0.15, 0.45))["word"] == "real"


def test_what_looks_ahead_is_not_real_however_good_it_looks():
    verdict = judge(looked_ahead=True)
    assert verdict["word"] == "not real"
    assert verdict["facts"][0].startswith("It looks ahead")


def test_a_ruined_account_is_not_real():
    verdict = judge(ruined="2024-03-04")
    assert verdict["word"] == "not real"
    assert verdict["facts"][0].startswith("The account was ruined on 2024-03-04")


def test_without_answers_nothing_can_be_told():
    verdict = judge_evidence([], trades=0)
    assert verdict["word"] == "cannot tell"
    assert "0 closed trades" in verdict["facts"][0]
