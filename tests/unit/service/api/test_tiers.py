import pytest

from service.api.keys import ANYBODY, Caller, Tier
from service.api.tiers import Privileges
from service.engine.base import AUTO, DepthChoice, PlanInUse
from service.engine.fake import FakeEngine
from service.errors import DepthNotNow, DepthRefused, Overloaded
from service.scheduling.admission import Places
from tests.service_kit import FakeClock

STANDARD = Caller("web", Tier.STANDARD)
PRIORITY = Caller("call-centre", Tier.PRIORITY)
ENGINE = FakeEngine()
ENGINE.load()


def privileges(auto_drop: float = 0.5, places: Places | None = None) -> Privileges:
    def plan_for(choice: DepthChoice) -> PlanInUse:
        auto = min(auto_drop, 1.0 if choice.max_drop is None else choice.max_drop)
        drop = auto if choice.drop == AUTO else choice.drop
        return ENGINE.choose(drop, choice.max_drop, choice.policy)

    return Privileges(plan_for, places or Places(2, FakeClock()), 1, lambda: False)


@pytest.mark.parametrize(
    "choice",
    [
        DepthChoice(),
        DepthChoice(0.5),
        DepthChoice(0.4),  # no plan between: it is the one of 0.5
        DepthChoice(0.75),
        DepthChoice(max_drop=0.5),
        DepthChoice(0.5, policy="skip"),
    ],
)
def test_what_auto_gives_or_less_is_anybodys(choice: DepthChoice) -> None:
    privileges().check_depth(STANDARD, choice)


@pytest.mark.parametrize(
    "choice",
    [DepthChoice(0.0), DepthChoice(max_drop=0.0), DepthChoice(0.0, policy="skip")],
)
def test_more_than_auto_gives_is_for_priority_alone(choice: DepthChoice) -> None:
    with pytest.raises(DepthNotNow, match="expected at most 4/8 layers under the present load"):
        privileges().check_depth(STANDARD, choice)

    privileges().check_depth(PRIORITY, choice)
    privileges().check_depth(ANYBODY, choice)


def test_without_load_full_depth_is_anybodys() -> None:
    privileges(auto_drop=0.0).check_depth(STANDARD, DepthChoice(0.0))


@pytest.mark.parametrize("caller", [STANDARD, PRIORITY])
def test_what_is_not_on_offer_is_refused_to_all(caller: Caller) -> None:
    with pytest.raises(DepthRefused):
        privileges().check_depth(caller, DepthChoice(0.5, max_drop=0.25))


def test_a_door_that_shuts_before_the_places_are_taken_shuts_for_priority_too() -> None:
    places = Places(2, FakeClock(), refuses=lambda: True)

    for caller in (STANDARD, PRIORITY):
        privileges(places=places).check_place(caller)
        with pytest.raises(Overloaded, match="room for one more"), places.hold():
            pass


def test_the_last_places_are_kept_for_priority() -> None:
    places = Places(2, FakeClock())
    privileges(places=places).check_place(STANDARD)

    with places.hold():
        with pytest.raises(Overloaded) as refused:
            privileges(places=places).check_place(STANDARD)
        privileges(places=places).check_place(PRIORITY)

    assert refused.value.retry_after_s >= 1


def test_room_that_is_kept_is_for_priority_alone() -> None:
    places = Places(8, FakeClock())
    kept = Privileges(lambda _choice: ENGINE.choose(0.0, None, "ladder"), places, 6, lambda: True)

    with pytest.raises(Overloaded, match="room for one more beside what is reserved"):
        kept.check_place(STANDARD)
    kept.check_place(PRIORITY)
    kept.check_place(ANYBODY)
