import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.backbones import SpeechModule
from model_store.decoding.alignment import AlignmentHeads
from model_store.decoding.reading import Decoded, DecodingOptions, compression_ratio
from model_store.decoding.transcribe import WindowDecoder
from model_store.depth import DepthPlan, DepthSchedule
from model_store.text.tokens import Tokenizer
from tests.numerics.backbones import BACKBONES, NUM_LAYERS, noise, write_tokenizer

Samples = npt.NDArray[np.float32]

FULL = DepthSchedule.constant(DepthPlan.full(NUM_LAYERS))
HEADS = AlignmentHeads({0: (1, 2), 1: (0,)}, end_offset_s=-0.09)
CONTENT = DecodingOptions(min_avg_logprob=-1e9, max_compression_ratio=1e9, retry_unended=False)
DOUBTING = DecodingOptions(min_avg_logprob=0.0)
"""No transcript is that sure."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return Tokenizer.from_file(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def model() -> SpeechModule:
    return BACKBONES["moonshine"].build()


def windows(*lengths: int, seed: int = 0) -> list[Samples]:
    return [noise(length, seed=seed + length)[0][0].numpy() for length in lengths]


def silenced(samples: Samples) -> Samples:
    return np.concatenate([samples, np.zeros(6_400, np.float32)])


def check_words(decoded: Decoded, audio_s: float) -> None:
    bound_s = [word.start_s for word in decoded.words] + [word.end_s for word in decoded.words[-1:]]
    assert all(a < b for a, b in itertools.pairwise(bound_s))
    assert [word.start_s for word in decoded.words[1:]] == [w.end_s for w in decoded.words[:-1]]
    assert all(0 <= place <= audio_s for place in bound_s)
    assert all(0 <= word.confidence <= 1 for word in decoded.words)
    assert " ".join(word.text for word in decoded.words) == " ".join(decoded.text.split())


@settings(max_examples=25)
@given(
    length=st.integers(3_000, 24_000),
    seed=st.integers(0, 99),
    options=st.sampled_from([CONTENT, DOUBTING]),
    heads=st.sampled_from([HEADS, AlignmentHeads({1: (3,)}, end_offset_s=0.2), None]),
)
def test_words_follow_each_other_inside_the_window(
    model: SpeechModule,
    tokenizer: Tokenizer,
    length: int,
    seed: int,
    options: DecodingOptions,
    heads: AlignmentHeads | None,
) -> None:
    decoder = WindowDecoder(model, tokenizer, heads, options)

    (decoded,) = decoder.decode(windows(length, seed=seed), FULL)

    check_words(decoded, length / 16_000)


def test_a_window_that_looks_right_is_heard_once(model: SpeechModule, tokenizer: Tokenizer) -> None:
    (decoded,) = WindowDecoder(model, tokenizer, None, CONTENT).decode(windows(9_000), FULL)

    assert [samples for samples, _ in decoded.tries] == [9_000]


def test_a_doubtful_window_is_heard_once_more_with_silence_after_it(
    model: SpeechModule, tokenizer: Tokenizer
) -> None:
    (decoded,) = WindowDecoder(model, tokenizer, None, DOUBTING).decode(windows(9_000), FULL)

    assert [samples for samples, _ in decoded.tries] == [9_000, 15_400]
    assert all(steps > 0 for _, steps in decoded.tries)


def test_the_likelier_of_two_tries_is_given(model: SpeechModule, tokenizer: Tokenizer) -> None:
    once = WindowDecoder(model, tokenizer, None, CONTENT)
    given_up = DecodingOptions(min_avg_logprob=0.0, max_compression_ratio=1e9, retry_unended=False)
    twice = WindowDecoder(model, tokenizer, None, given_up)

    for samples in windows(7_000, 9_000, 12_000, 15_000):
        (first,), (second,) = (once.decode([tried], FULL) for tried in (samples, silenced(samples)))
        (chosen,) = twice.decode([samples], FULL)

        expected = max(first, second, key=lambda decoded: decoded.avg_logprob)
        assert chosen.text == expected.text
        assert chosen.avg_logprob == pytest.approx(expected.avg_logprob)


def test_only_the_doubtful_windows_of_a_batch_are_heard_again(
    model: SpeechModule, tokenizer: Tokenizer
) -> None:
    batch = windows(7_000, 9_000, 12_000, 15_000)
    once = WindowDecoder(model, tokenizer, None, CONTENT).decode(batch, FULL)
    sure = sorted(decoded.avg_logprob for decoded in once)
    between = DecodingOptions(
        min_avg_logprob=(sure[1] + sure[2]) / 2,
        max_compression_ratio=1e9,
        retry_unended=False,
        retry_silence_s=0.2,
    )

    found = WindowDecoder(model, tokenizer, None, between).decode(batch, FULL)

    assert sorted(len(decoded.tries) for decoded in found) == [1, 1, 2, 2]


def test_a_batch_gives_what_each_window_gives_alone(
    model: SpeechModule, tokenizer: Tokenizer
) -> None:
    decoder = WindowDecoder(model, tokenizer, HEADS, CONTENT)
    batch = windows(7_000, 12_000, 9_000)

    together = decoder.decode(batch, FULL)

    for samples, decoded in zip(batch, together, strict=True):
        (alone,) = decoder.decode([samples], FULL)
        assert (decoded.text, decoded.tries) == (alone.text, alone.tries)
        assert decoded.avg_logprob == pytest.approx(alone.avg_logprob, abs=1e-4)
        for one, other in zip(decoded.words, alone.words, strict=True):
            assert one.end_s == pytest.approx(other.end_s)


def test_words_are_left_out_unless_asked_for(model: SpeechModule, tokenizer: Tokenizer) -> None:
    (decoded,) = WindowDecoder(model, tokenizer, HEADS).decode(windows(9_000), FULL, words=False)

    assert decoded.words == ()


def test_both_tries_of_a_window_are_paid_for(model: SpeechModule, tokenizer: Tokenizer) -> None:
    (decoded,) = WindowDecoder(model, tokenizer, None, DOUBTING).decode(windows(9_000), FULL)

    assert decoded.encode_s > 0
    assert decoded.decode_s > 0
    assert len(decoded.tries) == 2


def test_length_bounds_a_transcript(model: SpeechModule, tokenizer: Tokenizer) -> None:
    options = DecodingOptions(
        tokens_per_second=4.0,
        spare_tokens=2,
        min_avg_logprob=-1e9,
        max_compression_ratio=1e9,
        retry_unended=False,
    )

    (decoded,) = WindowDecoder(model, tokenizer, None, options).decode(windows(16_000), FULL)

    assert decoded.num_tokens <= 6
    assert decoded.tries[0][1] <= 6


def test_a_chunk_mask_and_any_plan_are_decoded(model: SpeechModule, tokenizer: Tokenizer) -> None:
    decoder = WindowDecoder(model, tokenizer, HEADS, CONTENT)
    mixed = DepthSchedule(((0, DepthPlan((1, 2, 4))), (16, DepthPlan((4, 8, 1)))))

    (decoded,) = decoder.decode(windows(20_000), mixed, chunk_frames=16)

    check_words(decoded, 20_000 / 16_000)


def test_text_that_repeats_itself_compresses_well() -> None:
    assert compression_ratio("") == 0
    assert compression_ratio("a few words that are all different") < 1.2
    assert compression_ratio("and so on " * 30) > DecodingOptions().max_compression_ratio
