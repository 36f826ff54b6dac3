import pytest

from service.api.models import aliases_of, choice_for_model
from service.engine.base import AUTO, DepthChoice, ModelInfo, PlanInUse
from service.engine.fake import FakeEngine
from service.errors import ModelNotServed

INFO = FakeEngine().load()


def test_aliases_name_the_budgets() -> None:
    assert aliases_of(INFO) == [
        "fake-elastic",
        "fake-elastic-auto",
        "fake-elastic-drop0",
        "fake-elastic-drop50",
        "fake-elastic-drop75",
        "fake-elastic-drop87",
    ]


def test_every_alias_chooses_the_budget_it_is_named_after() -> None:
    engine = FakeEngine()
    plans = [
        engine.choose(float(choice_for_model(alias, DepthChoice(), INFO).drop), None, "ladder")
        for alias in aliases_of(INFO)[2:]
    ]

    assert tuple(plans) == INFO.offered


@pytest.mark.parametrize("model", [None, "fake-elastic", "fake-elastic-auto"])
def test_a_plain_name_leaves_the_depth_open(model: str | None) -> None:
    assert choice_for_model(model, DepthChoice(), INFO).drop == AUTO


def test_any_whole_percent_is_an_alias() -> None:
    assert choice_for_model("fake-elastic-drop33", DepthChoice(max_drop=0.5), INFO) == DepthChoice(
        0.33, 0.5
    )


def test_an_explicit_drop_goes_before_the_alias() -> None:
    assert choice_for_model("fake-elastic-drop50", DepthChoice(0.25), INFO).drop == 0.25


@pytest.mark.parametrize(
    "model", ["", "other", "other-drop50", "fake-elastic-drop", "fake-elastic-drop100", "../x"]
)
def test_another_name_is_refused(model: str) -> None:
    with pytest.raises(ModelNotServed, match="expected the model 'fake-elastic' or an alias"):
        choice_for_model(model, DepthChoice(), INFO)


def test_a_name_with_a_dash_drop_of_its_own_still_works() -> None:
    info = ModelInfo("my-drop50", 2, (PlanInUse((1, 1), 2.0, 2, 0.0),), ("ladder",))

    assert choice_for_model("my-drop50", DepthChoice(), info).drop == AUTO
    assert choice_for_model("my-drop50-drop25", DepthChoice(), info).drop == 0.25
