"""`policy=input` behind the seam: what is heard picks the plan, and the answer says which and at what cost."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model_store.checkpoint import load_checkpoint
from model_store.depth import INPUT, POLICIES, DepthPlan
from model_store.depth.selector import FIRST_CHUNK_SAMPLES, MODES, NUM_FEATURES, Selector
from model_store.depth.selector_file import SELECTOR_FILE, save_selector
from model_store.errors import CheckpointError
from model_store.registry import Recogniser
from model_store.registry.live import LiveRecogniser
from service import errors
from service.api.formats import headers_of
from service.engine.base import LiveInput, LiveOutput, PlanInUse, Window
from service.engine.onnx.checkpoint import open_checkpoint
from service.engine.torch_engine import LoadedModel, TorchEngine
from service.engine.torch_live import LiveModel
from service.scheduling.transcripts import TranscriptBuilder
from service.streaming.dial import may_follow
from tests.decoder_kit import LoudGate
from tests.live_kit import recogniser, speech
from tests.numerics.backbones import NUM_LAYERS

RATE_HZ = 16_000
DROP = 1 - 2 / NUM_LAYERS


def untrained(mode: str, layers: int = NUM_LAYERS) -> Selector:
    """A selector whose choice hangs on the input: no two of the sounds below have one plan by chance."""
    draw = np.random.default_rng(4)
    options = len(MODES[mode])
    arrays = {
        "shift_F": np.zeros(NUM_FEATURES),
        "scale_F": np.ones(NUM_FEATURES),
        "hidden_HF": draw.standard_normal((64, NUM_FEATURES)),
        "hidden_bias_H": draw.standard_normal(64),
        "score_LOH": draw.standard_normal((layers, options, 64)),
        "score_bias_LO": draw.standard_normal((layers, options)),
    }
    return Selector.of(mode, {name: value.astype(np.float32) for name, value in arrays.items()})


def open_live(model: LoadedModel) -> LiveModel:
    assert isinstance(model, Recogniser)
    return LiveRecogniser(model)


def engine_of(folder: Path) -> TorchEngine:
    made = TorchEngine(
        lambda: Recogniser("tiny", load_checkpoint(folder), "float32"), LoudGate, open_live
    )
    made.load()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("selected")
    recogniser(made, "moonshine", int8=True)
    save_selector(untrained("skip"), made)
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> TorchEngine:
    return engine_of(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> Recogniser:
    return Recogniser("tiny", load_checkpoint(folder), "float32")


def sounds() -> list[npt.NDArray[np.float32]]:
    return [
        speech(2 * RATE_HZ, 1),
        (np.cumsum(speech(2 * RATE_HZ, 2)) * 0.02).astype(np.float32),
        0.003 * speech(3 * RATE_HZ, 3),
        np.sin(np.arange(2 * RATE_HZ) * 0.3).astype(np.float32),
    ]


def windows() -> list[Window]:
    return [Window(samples, 0.0, len(samples) / RATE_HZ, True) for samples in sounds()]


def test_a_model_with_a_selector_offers_the_policy(folder: Path) -> None:
    info = engine_of(folder).load()

    assert info.policies == (*POLICIES, INPUT)


def test_a_model_without_one_refuses_the_policy_by_name(tmp_path: Path) -> None:
    recogniser(tmp_path, "moonshine")
    made = engine_of(tmp_path)

    assert INPUT not in made.load().policies
    with pytest.raises(errors.PolicyUnknown, match="no selector"):
        made.choose(DROP, None, INPUT)


def test_the_budget_is_known_before_anything_is_heard(engine: TorchEngine) -> None:
    nominal = engine.choose(DROP, None, INPUT)

    assert nominal.by_input
    assert nominal.effective_layers == 2


def test_nothing_is_left_to_pick_of_the_full_plan(engine: TorchEngine) -> None:
    assert not engine.choose(0.0, None, INPUT).by_input


def test_too_deep_a_drop_is_refused_as_for_any_policy(engine: TorchEngine) -> None:
    with pytest.raises(errors.DepthError):
        engine.choose(DROP, 0.1, INPUT)


def test_each_window_runs_the_plan_picked_for_it_and_its_cost_is_counted(
    engine: TorchEngine, model: Recogniser
) -> None:
    nominal = engine.choose(DROP, None, INPUT)
    selector = model.catalogue.selector
    assert selector is not None

    result = engine.transcribe(windows(), nominal)

    expected = [selector.choose(samples, 2.0) for samples in sounds()]
    assert [plan.strides for plan in result.plans] == [plan.strides for plan in expected]
    assert len({plan.strides for plan in result.plans}) > 1
    assert all(plan.effective_layers == nominal.effective_layers for plan in result.plans)
    alone = [
        model.transcribe_windows([samples], plan)[0]
        for samples, plan in zip(sounds(), expected, strict=True)
    ]
    assert [segment.text for segment in result.segments] == [one.text for one in alone]
    picking = sum(selector.flops(len(samples)) for samples in sounds())
    assert result.cost.flops == sum(one.flops for one in alone) + picking
    assert result.cost.encoder_flops == sum(one.encoder_flops for one in alone) + picking


def test_silence_is_not_picked_for(engine: TorchEngine) -> None:
    silence = Window(np.zeros(RATE_HZ, np.float32), 0.0, 1.0, False)

    result = engine.transcribe([silence], engine.choose(DROP, None, INPUT))

    assert result.plans == ()
    assert result.cost.flops == 0


def test_the_answer_names_each_plan_once_in_the_order_of_use(engine: TorchEngine) -> None:
    nominal = engine.choose(DROP, None, INPUT)
    builder = TranscriptBuilder("tiny", nominal, INPUT)
    result = engine.transcribe(windows(), nominal)
    builder.add(windows(), result, 0.0)
    builder.add(windows(), result, 0.0)

    headers = headers_of(builder.build(total_s=1.0), upload_s=0.0)

    used = dict.fromkeys(plan.strides_text for plan in result.plans)
    assert headers["X-ASR-Plan"] == ";".join(used)
    assert headers["X-ASR-Layers"] == f"2/{NUM_LAYERS}"


@pytest.mark.parametrize("packet", [1_600, 5_000, 40_000])
def test_a_streams_utterance_keeps_what_its_first_chunk_picked(
    engine: TorchEngine, model: Recogniser, packet: int
) -> None:
    nominal = engine.choose(DROP, None, INPUT)
    samples = sounds()[1]
    selector = model.catalogue.selector
    assert selector is not None
    utterance = engine.open_utterance()

    outputs = [
        engine.step(
            [
                LiveInput(
                    utterance,
                    samples[start : start + packet],
                    nominal,
                    ends=start + packet >= len(samples),
                )
            ]
        )[0]
        for start in range(0, len(samples), packet)
    ]

    expected = selector.choose(samples[:FIRST_CHUNK_SAMPLES], 2.0)
    told = {output.plan.strides for output in outputs if output.plan}
    assert told == {expected.strides}
    at_plan = PlanInUse(expected.strides, 2.0, NUM_LAYERS, DROP)
    other, waiting = engine.open_utterance(), 0
    plain: list[LiveOutput] = []
    for start in range(0, len(samples), packet):
        end = start + packet
        if end < FIRST_CHUNK_SAMPLES:
            continue  # the selector waits for so much, and hands it on in one piece
        piece = samples[waiting:end]
        waiting = end
        plain += engine.step([LiveInput(other, piece, at_plan, ends=end >= len(samples))])
    whole = plain[-1]
    assert [w.text for w in outputs[-1].words] == [w.text for w in whole.words]
    first_cost = selector.flops(FIRST_CHUNK_SAMPLES)
    spent = [sum(one.cost.encoder_flops for one in steps) for steps in (outputs, plain)]
    assert spent[0] == spent[1] + first_cost


def test_an_utterance_too_short_to_pick_by_is_picked_by_what_there_is(engine: TorchEngine) -> None:
    nominal = engine.choose(DROP, None, INPUT)

    (output,) = engine.step([LiveInput(engine.open_utterance(), speech(4_000), nominal, ends=True)])

    assert output.plan is not None
    assert output.plan.effective_layers == 2


def test_another_policy_runs_beside_it_in_one_step(engine: TorchEngine) -> None:
    nominal, ladder = engine.choose(DROP, None, INPUT), engine.choose(0.5, None, "ladder")
    samples = speech(20_000)

    outputs = engine.step(
        [
            LiveInput(engine.open_utterance(), samples[:3_000], nominal),
            LiveInput(engine.open_utterance(), samples, ladder, ends=True),
        ]
    )

    assert outputs[0].words == ()
    assert outputs[0].encoded_s == 0
    assert outputs[1].plan is None
    assert outputs[1].encoded_s > 1


def test_a_picked_plan_holds_for_its_utterance(engine: TorchEngine) -> None:
    nominal = engine.choose(DROP, None, INPUT)
    picked = PlanInUse((0, 1, 1), 2.0, NUM_LAYERS, DROP, by_input=True)
    same_layers = PlanInUse((0, 1, 1), 2.0, NUM_LAYERS, DROP)

    assert may_follow(picked, nominal)
    assert not may_follow(picked, same_layers)
    assert not may_follow(same_layers, nominal)
    assert not may_follow(picked, engine.choose(1 - 1 / NUM_LAYERS, None, INPUT))


def test_a_selector_of_strides_runs_every_layer(tmp_path: Path) -> None:
    recogniser(tmp_path, "moonshine")
    save_selector(untrained("strides"), tmp_path)
    made = engine_of(tmp_path)
    nominal = made.choose(0.5, None, INPUT)

    result = made.transcribe(windows(), nominal)

    assert all(0 not in plan.strides for plan in result.plans)
    assert {plan.effective_layers for plan in result.plans} == {1.5}


def test_the_int8_engine_reads_the_same_selector(folder: Path) -> None:
    catalogue = open_checkpoint(str(folder)).catalogue

    samples = sounds()[0]
    nominal = catalogue.choose(DROP, policy=INPUT)
    again = load_checkpoint(folder).catalogue
    assert catalogue.heard(samples, nominal) == again.heard(samples, nominal)


def test_a_file_by_the_library_alone_counts_it_too(model: Recogniser) -> None:
    nominal = model.catalogue.choose(DROP, policy=INPUT)

    transcript, plan = model.transcribe_by_input(sounds()[0], nominal)

    (plain,) = model.transcribe_windows([sounds()[0]], plan)
    selector = model.catalogue.selector
    assert selector is not None
    assert transcript.text == plain.text
    assert transcript.flops == plain.flops + selector.flops(len(sounds()[0]))
    assert plan != DepthPlan.full(NUM_LAYERS)


@pytest.mark.parametrize("content", [b"", b"no tensors"])
def test_a_damaged_selector_is_named(tmp_path: Path, content: bytes) -> None:
    recogniser(tmp_path, "moonshine")
    (tmp_path / SELECTOR_FILE).write_bytes(content)

    with pytest.raises(CheckpointError, match="selector"):
        load_checkpoint(tmp_path)


def test_a_selector_of_another_model_is_refused(tmp_path: Path) -> None:
    recogniser(tmp_path, "moonshine")
    save_selector(untrained("skip", NUM_LAYERS + 1), tmp_path)

    with pytest.raises(CheckpointError, match=f"{NUM_LAYERS} layers"):
        load_checkpoint(tmp_path)
