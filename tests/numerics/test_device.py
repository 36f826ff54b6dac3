"""The torch engine on another device than the processor: the same words, and nothing left behind."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model_store.backbones.device import device_of, wait_for
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import DepthPlan, DepthSchedule, PlanCatalogue
from model_store.registry import Recogniser
from model_store.registry.live import LiveRecogniser, can_stream
from model_store.registry.live_ctc import CtcLiveRecogniser, streams_frames
from model_store.registry.recogniser import Precision
from service.engine.base import LiveInput, Window
from service.engine.by_input import in_use
from service.engine.torch_engine import LoadedModel, TorchEngine
from service.engine.torch_live import LiveModel, step_streams
from tests.decoder_kit import LoudGate
from tests.device_kit import SecondDevice, second_device
from tests.live_kit import recogniser, speech
from tests.numerics import ctc_backbones
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, noise, write_tokenizer
from tests.numerics.moonshine_streaming_kit import saved

STEP = 6_000
CPU = torch.device("cpu")
PLANS = (DepthPlan((1, 1, 1)), DepthPlan((4, 2, 1)), DepthPlan((2, 1, 4)), DepthPlan((1, 0, 2)))
HOTWORDS = ("s42", "w55")
STREAMING = ("moonshine", "moonshine-factorised", "moonshine-streaming", "conformer-streaming")
EVERY = (*BACKBONES, "moonshine-streaming", *ctc_backbones.CONFIGS)


@pytest.fixture(params=["elsewhere", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[torch.device]:
    """A device that is not the processor: one that only claims so, and a GPU where there is one."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch can use no GPU here")
    there = second_device() if request.param == "elsewhere" else torch.device(request.param)
    # Convolutions round to ten bits otherwise, and parity would be about that.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with SecondDevice() if request.param == "elsewhere" else nullcontext():
        yield there


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each backbone."""
    made: dict[str, Path] = {}
    for name in BACKBONES:
        made[name] = tmp_path_factory.mktemp(name)
        recogniser(made[name], name)
    made["moonshine-streaming"] = saved(tmp_path_factory.mktemp("moonshine-streaming"))
    for name in ctc_backbones.CONFIGS:
        made[name] = tmp_path_factory.mktemp(name)
        save_checkpoint(ctc_backbones.build(name), PlanCatalogue.untuned(NUM_LAYERS), made[name])
        write_tokenizer(made[name])
    return made


def loaded(folder: Path, device: torch.device, precision: Precision = "float32") -> Recogniser:
    return Recogniser("tiny", load_checkpoint(folder), precision, device)


def open_live(model: LoadedModel) -> LiveModel | None:
    assert isinstance(model, Recogniser)
    if streams_frames(model):
        return CtcLiveRecogniser(model)
    return LiveRecogniser(model) if can_stream(model) else None


def heard_in_files(model: Recogniser, plan: DepthPlan, hotwords: Sequence[str]) -> list[str]:
    windows = [speech(length, length) for length in (8_000, 5_000)]
    return [heard.text for heard in model.transcribe_windows(windows, plan, hotwords=hotwords)]


def heard_live(model: Recogniser, plans: Sequence[DepthPlan]) -> list[list[str]]:
    """Run a stream for each plan beside each other, one of them with a second pass; all texts."""
    live = open_live(model)
    assert live is not None
    streams = [(live.open_utterance(), speech(3 * STEP, 7 + n)) for n in range(len(plans))]
    texts: list[list[str]] = []
    for start in range(0, 3 * STEP, STEP):
        ends = start == 2 * STEP
        inputs = [
            LiveInput(
                utterance,
                samples[start : start + STEP],
                in_use(plan),
                ends=ends,
                second_pass=ends and place == 0,
                hotwords=HOTWORDS,
            )
            for place, ((utterance, samples), plan) in enumerate(zip(streams, plans, strict=True))
        ]
        texts += [[word.text for word in output.words] for output in step_streams(live, inputs)]
    return texts


@pytest.mark.parametrize("name", EVERY)
def test_files_have_the_same_words_there(
    folders: dict[str, Path], name: str, device: torch.device
) -> None:
    here, there = loaded(folders[name], CPU), loaded(folders[name], device)
    asked = [(PLANS[1], HOTWORDS), (PLANS[3], ())]

    words = [heard_in_files(here, *one) for one in asked]

    assert any(map(any, words))
    assert [heard_in_files(there, *one) for one in asked] == words


@pytest.mark.parametrize("name", STREAMING)
def test_streams_of_different_plans_have_the_same_words_there(
    folders: dict[str, Path], name: str, device: torch.device
) -> None:
    words = heard_live(loaded(folders[name], CPU), PLANS)

    assert any(words)
    assert heard_live(loaded(folders[name], device), PLANS) == words


@pytest.mark.slow
def test_an_engine_loads_warms_up_and_runs_there(
    folders: dict[str, Path], device: torch.device
) -> None:
    engine = TorchEngine(lambda: loaded(folders["moonshine"], device), LoudGate, open_live)
    samples = speech(9_000)

    info = engine.load()
    found = engine.transcribe([Window(samples, 0.0, 0.5, speech=True)], info.offered[0])
    (heard,) = engine.step(
        [LiveInput(engine.open_utterance(), samples, info.offered[0], ends=True)]
    )

    assert len(info.step_times) == 2
    assert found.segments[0].text
    assert heard.words


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_encoders_states_are_those_of_the_processor(
    folders: dict[str, Path], name: str, precision: Precision, device: torch.device
) -> None:
    samples_BS, num_samples_B = noise(12_000, 7_000)
    schedule = DepthSchedule.constant(PLANS[1])
    here, there = loaded(folders[name], CPU, precision), loaded(folders[name], device, precision)
    with torch.inference_mode():
        near = here.backbone.encode(samples_BS, num_samples_B, schedule)
        far = there.backbone.encode(samples_BS.to(device), num_samples_B.to(device), schedule)

    tolerance = 1e-4 if precision == "float32" else 5e-2
    torch.testing.assert_close(
        far.states_BTD.cpu(), near.states_BTD, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("name", EVERY)
def test_all_of_a_model_moves(folders: dict[str, Path], name: str, device: torch.device) -> None:
    model = loaded(folders[name], device).backbone

    assert device_of(model).type == device.type
    assert {one.device.type for one in (*model.parameters(), *model.buffers())} == {device.type}


MIXES: Mapping[str, Callable[[Tensor, Tensor], object]] = {
    "add": lambda far, near: far + near,
    "add to": lambda far, near: near + far,
    "linear": lambda far, near: F.linear(near, far),
    "cat": lambda far, near: torch.cat([near, far]),
    "read": lambda far, near: far.numpy() + near.numpy(),
}


@pytest.mark.parametrize("mixed", MIXES.values(), ids=MIXES)
def test_what_stays_behind_is_found_out(
    mixed: Callable[[Tensor, Tensor], object], device: torch.device
) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        mixed(torch.ones(2, 2).to(device), torch.ones(2, 2))


def test_a_model_that_stays_behind_is_found_out(
    folders: dict[str, Path], device: torch.device
) -> None:
    model = loaded(folders["moonshine"], device)
    samples_BS, num_samples_B = noise(12_000)

    with pytest.raises(RuntimeError):
        model.backbone.encode(samples_BS, num_samples_B, DepthSchedule.constant(PLANS[0]))


def test_waiting_for_the_processor_is_nothing() -> None:
    wait_for(CPU)
