import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.base import AUTO, DepthChoice, PlanInUse
from service.engine.fake import BUDGETS, FakeEngine
from service.errors import DepthRefused, DropOutOfRange
from service.scheduling.depth import chosen_plan, deepest, parse_choice


@pytest.mark.parametrize(
    ("text", "drop"),
    [
        ("0", 0),
        ("0.5", 0.5),
        (".25", 0.25),
        ("5e-1", 0.5),
        ("+0.1", 0.1),
        ("-0", 0),
        ("auto", AUTO),
    ],
)
def test_a_drop_is_read(text: str, drop: float | str) -> None:
    assert parse_choice(text, None, "ladder") == DepthChoice(drop, None, "ladder")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "-1",
        "abc",
        "nan",
        "inf",
        "-inf",
        "",
        " 0.5",
        "0.5 ",
        "auto ",
        "0_5",
        "1e400",
        "9" * 999,
        "\u0660.\u0665",
    ],
)
def test_what_is_no_drop_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(DropOutOfRange, match=r"'auto' or a number in \[0, 1\), got") as caught:
        parse_choice(text, None, "ladder")

    assert len(str(caught.value)) < 200


def test_max_drop_has_no_auto() -> None:
    with pytest.raises(DropOutOfRange, match=r"max_drop to be a number in \[0, 1\), got 'auto'"):
        parse_choice("0", "auto", "ladder")


@given(st.text(max_size=12))
def test_any_text_is_a_drop_in_range_or_refused(text: str) -> None:
    try:
        choice = parse_choice(text, text if text != AUTO else None, "ladder")
    except DropOutOfRange:
        return
    assert choice.drop == AUTO or 0 <= choice.drop < 1


def plan_of(choice: DepthChoice, decided: float) -> PlanInUse:
    return chosen_plan(choice, FakeEngine().choose, lambda: decided)


def test_an_explicit_drop_is_never_changed() -> None:
    assert plan_of(DepthChoice(0.5, 0.5), 0.9).effective_layers == 4


def test_an_explicit_drop_beyond_its_own_limit_is_refused() -> None:
    with pytest.raises(DepthRefused):
        plan_of(DepthChoice(0.5, 0.25), 0.0)


def test_auto_gives_what_is_decided() -> None:
    assert plan_of(DepthChoice(), 0.75).effective_layers == 2


def test_auto_stays_within_max_drop() -> None:
    assert plan_of(DepthChoice(AUTO, 0.5), 0.75).effective_layers == 4


@given(
    decided=st.floats(0, 0.99),
    limit=st.one_of(st.floats(0, 0.99), st.sampled_from([0.0, 0.5, 0.75, 0.875])),
)
def test_auto_drops_most_of_what_the_caller_admits(decided: float, limit: float) -> None:
    """By trying every plan: the engine's are known here."""
    plan = plan_of(DepthChoice(AUTO, limit), decided)

    within = [budget for budget in BUDGETS if 1 - budget / 8 <= limit]
    wanted = next((b for b in BUDGETS if b <= 8 * (1 - decided) + 1e-9), BUDGETS[-1])
    assert plan.effective_layers == max(wanted, min(within))


@pytest.mark.parametrize("limit", [None, 0.5])
def test_load_takes_nothing_of_a_policy_whose_words_were_not_measured(limit: float | None) -> None:
    assert plan_of(DepthChoice(AUTO, limit, "skip"), 0.5).effective_layers == 8


def test_without_a_controller_auto_is_full_depth() -> None:
    assert chosen_plan(DepthChoice(), FakeEngine().choose, deepest).effective_layers == 8
