from pathlib import Path

import pytest

from service.engine import DeviceName, EngineName, create_engine
from service.engine.base import PlanInUse
from service.engine.fake import FakeEngine
from service.engine.torch_engine import TorchEngine
from service.errors import ModelUnusable


@pytest.mark.parametrize(
    ("layers", "label"), [(8.0, "8"), (7.5, "4"), (4.0, "4"), (1.5, "1"), (0.5, "1")]
)
def test_the_depth_label_is_the_budget_at_or_below(layers: float, label: str) -> None:
    plan = PlanInUse((1,) * 8, layers, 8, 1 - layers / 8)

    assert FakeEngine().load().depth_label(plan) == label


def test_a_plan_writes_itself_as_headers_want_it() -> None:
    plan = PlanInUse((1, 2, 0, 4), 1.75, 4, 0.5625)

    assert plan.layers_text == "1.75/4"
    assert plan.strides_text == "1,2,0,4"


@pytest.mark.parametrize(
    ("name", "kind"), [("fake", FakeEngine), ("torch", TorchEngine), ("auto", TorchEngine)]
)
def test_a_name_becomes_an_engine(name: EngineName, kind: type) -> None:
    engine = create_engine(
        name, model="m", num_threads=1, cache=Path("cache"), fake_realtime_factor=0.0
    )

    assert isinstance(engine, kind)


@pytest.mark.parametrize(("name", "device"), [("torch", "auto"), ("auto", "cuda")])
def test_an_engine_on_torch_without_torch_says_what_to_install(
    name: EngineName, device: DeviceName, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_module: str) -> None: ...

    monkeypatch.setattr("service.engine.find_spec", missing)

    with pytest.raises(ModelUnusable, match=r"elastic-asr\[torch\]"):
        create_engine(
            name,
            model="m",
            num_threads=1,
            cache=Path("cache"),
            fake_realtime_factor=0.0,
            device=device,
        )
