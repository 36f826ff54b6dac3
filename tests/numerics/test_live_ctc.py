"""Live utterances of a causal Conformer say what the whole utterance would under the same mask."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.decoding.live_step import LiveRequest, LiveResult
from model_store.depth import MAX_STRIDE, DepthPlan, PlanCatalogue
from model_store.errors import PlanInvalid, StreamingUnsupported
from model_store.registry import Recogniser
from model_store.registry.live_ctc import CHUNK_FRAMES, CtcLiveRecogniser, streams_frames
from model_store.text.bpe import train_bpe
from tests.numerics.backbones import NUM_LAYERS, VOCABULARY, noise
from tests.numerics.ctc_backbones import build

ANY_PLAN = st.tuples(*[st.sampled_from([0, 1, 2, 4, 8])] * NUM_LAYERS).filter(any)
FULL = DepthPlan((1, 1, 1))


def recogniser(name: str, folder: Path) -> Recogniser:
    save_checkpoint(build(name), PlanCatalogue.untuned(NUM_LAYERS), folder)
    texts = [f"{a}{b}{c}{d}" for a in "abcdefgh" for b in "aeiou" for c in "lmnr" for d in "stuv"]
    train_bpe(texts, VOCABULARY).save(str(folder / "tokenizer.json"))
    return Recogniser(name, load_checkpoint(folder), "float32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return recogniser("conformer-streaming", tmp_path_factory.mktemp("model"))


def heard(
    live: CtcLiveRecogniser, samples_S: np.ndarray, cuts: list[int], plan: DepthPlan
) -> list[LiveResult]:
    utterance = live.open_utterance()
    edges = np.minimum(np.cumsum([0, *cuts]), len(samples_S)).tolist()
    found: list[LiveResult] = []
    for start, end in itertools.pairwise(edges):
        found += live.step([LiveRequest(utterance, samples_S[start:end], plan)])
    return found + live.step([LiveRequest(utterance, samples_S[edges[-1] :], plan, ends=True)])


@settings(max_examples=12, deadline=None)
@given(
    plan=ANY_PLAN,
    length=st.integers(1, 40_000),
    cuts=st.lists(st.integers(0, 16_000), max_size=5),
)
def test_the_words_are_those_of_the_whole_utterance(
    model: Recogniser, plan: tuple[int, ...], length: int, cuts: list[int]
) -> None:
    samples_S = noise(length)[0][0].numpy()
    depth = DepthPlan(plan)

    results = heard(CtcLiveRecogniser(model), samples_S, cuts, depth)

    (whole,) = model.transcribe_windows([samples_S], depth, chunk_frames=CHUNK_FRAMES)
    last = results[-1]
    assert [word.text for word in last.words] == [word.text for word in whole.words]
    assert [word.start_s for word in last.words] == [word.start_s for word in whole.words]
    assert (last.stable_words, last.encoded_s) == (len(last.words), length / 16_000)
    for earlier in results:
        settled = [word.text for word in earlier.words[: earlier.stable_words]]
        assert settled == [word.text for word in last.words[: earlier.stable_words]]
        assert earlier.encoded_s <= last.encoded_s


def test_streams_run_beside_each_other_as_alone(model: Recogniser) -> None:
    live = CtcLiveRecogniser(model)
    sounds = [noise(30_000, seed=seed)[0][0].numpy() for seed in (1, 2)]
    plans = [FULL, DepthPlan((2, 0, 4))]

    utterances = [live.open_utterance() for _ in sounds]
    together = live.step(
        [
            LiveRequest(one, sound, plan, ends=True)
            for one, sound, plan in zip(utterances, sounds, plans, strict=True)
        ]
    )

    for result, sound, plan in zip(together, sounds, plans, strict=True):
        assert result.words == heard(live, sound, [], plan)[-1].words


def test_a_second_pass_hears_the_whole_with_full_context(model: Recogniser) -> None:
    live, samples_S = CtcLiveRecogniser(model), noise(30_000)[0][0].numpy()
    utterance = live.open_utterance()

    live.step([LiveRequest(utterance, samples_S[:20_000], FULL)])
    (result,) = live.step(
        [LiveRequest(utterance, samples_S[20_000:], FULL, ends=True, second_pass=True)]
    )

    (whole,) = model.transcribe_windows([samples_S], FULL)
    assert list(result.words) == list(whole.words)
    assert result.cost.flops > whole.flops


@pytest.mark.parametrize("plan", ["1,1,1", "2,4,1", "0,2,1"])
def test_it_costs_what_is_counted(model: Recogniser, plan: str) -> None:
    live, samples_S = CtcLiveRecogniser(model), noise(32_000)[0][0].numpy()
    # The windows that three whole chunks read, so that none is computed for later.
    samples_S = samples_S[: 160 * (4 * (3 * CHUNK_FRAMES - 1) + 6) + 200]

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        (result,) = live.step(
            [LiveRequest(live.open_utterance(), samples_S, DepthPlan.parse(plan))]
        )

    assert result.cost.flops == counter.get_total_flops()
    assert result.cost.encoder_flops < result.cost.flops <= result.cost.full_flops
    assert (result.cost.flops == result.cost.full_flops) == (plan == "1,1,1")


def test_an_utterance_that_ends_before_it_began_says_nothing(model: Recogniser) -> None:
    live = CtcLiveRecogniser(model)

    (result,) = live.step(
        [LiveRequest(live.open_utterance(), np.zeros(0, np.float32), FULL, ends=True)]
    )

    assert (list(result.words), result.encoded_s, result.cost.flops) == ([], 0.0, 0)


def test_a_plan_that_cannot_go_on_is_refused_before_anybody_runs(model: Recogniser) -> None:
    live, samples_S = CtcLiveRecogniser(model), noise(15_000)[0][0].numpy()
    begun, other = live.open_utterance(), live.open_utterance()
    live.step([LiveRequest(begun, samples_S, FULL)])

    with pytest.raises(PlanInvalid, match="skips what the utterance's first one does"):
        live.step(
            [
                LiveRequest(other, samples_S, FULL),
                LiveRequest(begun, samples_S, DepthPlan((1, 0, 1))),
            ]
        )

    assert other.num_samples == 0
    assert other.stream.num_frames == 0
    assert begun.state_bytes > other.state_bytes


@pytest.mark.parametrize("name", ["conformer", "wavlm"])
def test_a_model_of_whole_utterances_is_refused(name: str, tmp_path: Path) -> None:
    model = recogniser(name, tmp_path)

    assert not streams_frames(model)
    with pytest.raises(StreamingUnsupported, match=f"got '{name}', which takes files alone"):
        CtcLiveRecogniser(model)


def test_a_chunk_is_a_multiple_of_the_largest_stride(model: Recogniser) -> None:
    assert CtcLiveRecogniser(model).chunk_s == pytest.approx(0.64)
    assert CHUNK_FRAMES % MAX_STRIDE == 0
