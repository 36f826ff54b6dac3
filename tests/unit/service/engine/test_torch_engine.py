import io

import numpy as np
import pytest

from model_store import errors as model_errors
from service import errors
from service.engine.base import PlanInUse, Window
from service.engine.torch_engine import TRANSLATIONS, TorchEngine, in_our_terms
from tests.decoder_kit import EchoModel, LoudGate, echo_engine, plain, tone

NEVER_SERVING = {
    model_errors.ModelStoreError,
    model_errors.CallerError,
    model_errors.AudioError,
    model_errors.DepthError,
    model_errors.RunConfigError,
    model_errors.HeldOutRefused,
}
"""Classes that only group others, and what only training raises."""


def tree(error: type[model_errors.ModelStoreError]) -> set[type[model_errors.ModelStoreError]]:
    return {error}.union(*(tree(child) for child in error.__subclasses__()))


SERVING = sorted(tree(model_errors.ModelStoreError) - NEVER_SERVING, key=lambda one: one.__name__)


def window(start_s: float, *, speech: bool) -> Window:
    return Window(np.ones(16_000, np.float32), start_s, start_s + 1.0, speech)


@pytest.mark.parametrize("error", SERVING)
def test_every_error_of_the_library_has_a_name_here(
    error: type[model_errors.ModelStoreError],
) -> None:
    assert error in TRANSLATIONS


@pytest.mark.parametrize("error", [one for one in SERVING if issubclass(one, ValueError)])
def test_a_callers_mistake_keeps_its_code(error: type[model_errors.ModelStoreError]) -> None:
    assert TRANSLATIONS[error].code == error.code
    assert issubclass(TRANSLATIONS[error], errors.CallerError)


def test_a_translated_error_keeps_its_message() -> None:
    with pytest.raises(errors.AudioTooLong, match="at most 5 s of audio"), in_our_terms():
        raise model_errors.AudioTooLong(5.0)


def test_an_error_that_serving_never_meets_stays_what_it_is() -> None:
    with pytest.raises(model_errors.RunConfigError), in_our_terms():
        raise model_errors.RunConfigError("not a caller's business")


def test_loading_describes_the_model_and_warms_up_its_ends() -> None:
    model = EchoModel()

    info = echo_engine(model).load()

    assert (info.name, info.layers_total) == ("echo", 4)
    assert [plan.effective_layers for plan in info.offered] == [4, 2, 1, 0.5]
    assert [plan.effective_layers for plan in model.plans] == [4, 0.5]


def test_a_model_that_is_not_there_is_unusable() -> None:
    def missing() -> EchoModel:
        raise model_errors.ModelUnknown("expected a model, got 'nothing'")

    with pytest.raises(errors.ModelUnusable, match="got 'nothing'"):
        TorchEngine(missing, LoudGate).load()


def test_the_plan_is_the_catalogues() -> None:
    engine = echo_engine()
    engine.load()

    plan = engine.choose(0.5, None, "skip")

    assert plan == PlanInUse((1, 1, 0, 0), 2.0, 4, 0.5)
    with pytest.raises(errors.DropOutOfRange):
        engine.choose(1.0, None, "ladder")
    with pytest.raises(errors.PolicyUnknown):
        engine.choose(0.5, None, "nonsense")


def test_only_windows_with_speech_reach_the_model_and_words_get_file_times() -> None:
    model = EchoModel()
    engine = echo_engine(model)
    full = engine.load().offered[0]
    model.heard_s.clear()

    result = engine.transcribe([window(0, speech=False), window(1, speech=True)], full)

    assert model.heard_s == [1.0]
    silent, spoken = result.segments
    assert silent.no_speech
    assert spoken.text == "tone"
    assert (spoken.words[0].start_s, spoken.words[0].end_s) == (1.5, 2.0)
    assert (result.cost.flops, result.cost.full_flops) == (300, 500)


def test_silence_alone_never_wakes_the_model() -> None:
    model = EchoModel()
    engine = echo_engine(model)
    full = engine.load().offered[0]
    model.heard_s.clear()

    result = engine.transcribe([window(0, speech=False)], full)

    assert not model.heard_s
    assert result.cost.flops == 0


def test_windows_come_from_the_decoder_and_errors_in_our_terms() -> None:
    engine = echo_engine()
    engine.load()
    source = io.BytesIO(plain(tone(4, rate_hz=16_000), 16_000, "WAV", "PCM_16"))

    windows = list(engine.open_windows(source, max_s=10.0))

    assert windows[-1].end_s == 4.0
    with pytest.raises(errors.AudioTooLong):
        list(engine.open_windows(source, max_s=1.0))
    with pytest.raises(errors.AudioEmpty):
        list(engine.open_windows(io.BytesIO(), max_s=1.0))


def test_nothing_runs_before_the_model_is_loaded() -> None:
    with pytest.raises(AssertionError, match="load comes first"):
        echo_engine().choose(0.0, None, "ladder")
