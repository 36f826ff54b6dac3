from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.fleet.archive_plan import MARGIN, FirstPass, plan_deeper

LAYERS = 8
confidences = st.none() | st.floats(0, 1, allow_nan=False)
costs = st.integers(0, 10**12)


@st.composite
def first_passes(draw: st.DrawFn) -> list[FirstPass]:
    layers = draw(st.sampled_from([1.0, 2.0, 2.75, 4.0, 8.0]))
    found: list[FirstPass] = []
    for number in range(draw(st.integers(0, 12))):
        flops = draw(costs)
        full_flops = flops if layers == LAYERS else flops + draw(costs)
        confidence = draw(confidences)
        found.append(FirstPass(f"{number:02d}", confidence, flops, full_flops, layers, LAYERS))
    return found


budgets = st.integers(-(10**6), 10**13)
drops = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.9])


def cost_of(files: list[FirstPass], plan: dict[str, float]) -> int:
    by_path = {file.path: file for file in files}
    return sum(by_path[path].predicted_flops(drop) for path, drop in plan.items())


@given(first_passes(), budgets, drops)
def test_a_plan_never_exceeds_the_budget(
    files: list[FirstPass], left_flops: int, least_drop: float
) -> None:
    plan = dict(plan_deeper(files, left_flops, least_drop))

    assert cost_of(files, plan) <= max(0, left_flops)


@given(first_passes(), budgets, drops, st.randoms(use_true_random=False))
def test_a_plan_depends_on_the_files_and_not_on_their_order(
    files: list[FirstPass], left_flops: int, least_drop: float, random: object
) -> None:
    shuffled = list(files)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert list(plan_deeper(files, left_flops, least_drop).items()) == list(
        plan_deeper(shuffled, left_flops, least_drop).items()
    )


@given(first_passes(), budgets, drops)
def test_the_least_confident_files_are_served_first(
    files: list[FirstPass], left_flops: int, least_drop: float
) -> None:
    by_path = {file.path: file for file in files}

    chosen = [by_path[path] for path in plan_deeper(files, left_flops, least_drop)]

    ranks = [file.confidence or 0.0 for file in chosen]
    assert ranks == sorted(ranks)


@given(first_passes(), budgets, drops)
def test_a_surer_file_takes_nothing_from_a_less_sure_one(
    files: list[FirstPass], left_flops: int, least_drop: float
) -> None:
    order = sorted(files, key=lambda file: (file.confidence or 0.0, file.path))

    whole = plan_deeper(order, left_flops, least_drop)

    for number in range(len(order)):
        alone = plan_deeper(order[:number], left_flops, least_drop)
        assert dict(alone) == {f.path: whole[f.path] for f in order[:number] if f.path in whole}


@given(first_passes(), budgets, drops)
def test_who_is_left_out_would_not_have_fitted_in_what_was_left(
    files: list[FirstPass], left_flops: int, least_drop: float
) -> None:
    plan = plan_deeper(files, left_flops, least_drop)
    left = left_flops

    for file in sorted(files, key=lambda file: (file.confidence or 0.0, file.path)):
        if file.path in plan:
            left -= file.predicted_flops(plan[file.path])
        elif file.flops > 0 and least_drop < file.drop:
            assert file.predicted_flops(least_drop) > left


@given(first_passes(), budgets, drops)
def test_every_second_pass_is_deeper_than_the_first_and_no_deeper_than_wanted(
    files: list[FirstPass], left_flops: int, least_drop: float
) -> None:
    by_path = {file.path: file for file in files}

    plan = plan_deeper(files, left_flops, least_drop)

    assert all(least_drop <= drop < by_path[path].drop for path, drop in plan.items())


@given(first_passes(), drops)
def test_enough_for_all_gives_all_speech_the_depth_that_is_wanted(
    files: list[FirstPass], least_drop: float
) -> None:
    enough = sum(round(MARGIN * file.full_flops) + 1 for file in files)

    plan = plan_deeper(files, enough, least_drop)

    wanted = {file.path for file in files if file.flops > 0 and least_drop < file.drop}
    assert dict(plan) == dict.fromkeys(wanted, least_drop)


def test_the_last_one_gets_the_depth_that_still_fits() -> None:
    file = FirstPass("a", 0.5, 200, 800, layers=2.0, layers_total=LAYERS)

    plan = plan_deeper([file], left_flops=round(MARGIN * 500), least_drop=0.0)

    assert plan == {"a": 1 - 5 / 8}


def test_speech_without_words_is_the_least_sure_and_silence_gets_nothing() -> None:
    spoken = FirstPass("spoken", None, 100, 200, layers=4.0, layers_total=LAYERS)
    unsure = replace(spoken, path="unsure", confidence=0.1)
    silent = replace(spoken, path="silent", flops=0, full_flops=0)

    plan = plan_deeper([unsure, silent, spoken], 10_000, 0.0)

    assert list(plan) == ["spoken", "unsure"]


@pytest.mark.parametrize(("drop", "expected"), [(0.0, 800), (0.5, 400), (0.75, 200)])
def test_a_prediction_lies_between_the_pass_and_full_depth(drop: float, expected: int) -> None:
    file = FirstPass("a", 0.5, 200, 800, layers=2.0, layers_total=LAYERS)

    assert file.predicted_flops(drop) == round(MARGIN * expected)
