import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.streaming_wer import FRAME_SAMPLES, Stream, Variant, variants
from model_store.backbones.incremental import EncoderState
from model_store.decoding.live import LiveModel, LiveTranscript
from model_store.decoding.live_cache import TranscriptMemory
from model_store.decoding.live_decoder import DecoderState
from model_store.decoding.live_step import LiveCost, LiveResult
from model_store.decoding.reading import DecodedWord
from model_store.depth import DepthPlan
from model_store.registry.live import LiveUtterance
from model_store.text.agreement import CommitRule
from model_store.training.manifest import Utterance
from model_store.training.measure import Recording

CHUNK = 24 * FRAME_SAMPLES
PLAN = DepthPlan((1, 2))


def stream(num_samples: int) -> Stream:
    transcript = LiveTranscript(LiveModel(prompt=(1,), end_token=2, row_s=0.1), CommitRule())
    decoder = DecoderState(TranscriptMemory.begin(1, torch.float32), transcript)
    utterance = LiveUtterance(EncoderState.begin(2, torch.float32), decoder)
    spoken = Utterance("set/one", Path("one.wav"), num_samples / 16_000, "A", "so said")
    return Stream(Recording(spoken, np.zeros(num_samples, np.float32), "so said"), utterance)


def result(words: Sequence[str], stable: int) -> LiveResult:
    timed = [DecodedWord(text, i, i + 0.5, 1.0) for i, text in enumerate(words)]
    return LiveResult(timed, stable, 1.0, LiveCost(5, 3, 6))


def way(*, every: int = 1, two_pass: bool = False) -> Variant:
    return Variant(24, CommitRule(), reuse=True, every=every, two_pass=two_pass)


def test_samples_are_fed_a_chunk_at_a_time_and_the_last_ends() -> None:
    one = stream(2 * CHUNK + 100)

    requests = [one.request(way(every=2, two_pass=True), PLAN) for _ in range(3)]

    assert [len(request.samples) for request in requests] == [CHUNK, CHUNK, 100]
    assert [request.decode for request in requests] == [False, True, False]
    assert [request.ends for request in requests] == [False, False, True]
    assert [request.second_pass for request in requests] == [False, False, True]


def test_words_settle_when_they_are_stable_and_lag_behind_their_ends() -> None:
    one = stream(3 * CHUNK)
    for words, stable in ((["so"], 0), (["so", "sad"], 1), (["so", "said"], 2)):
        one.request(way(), PLAN)
        one.take(result(words, stable))

    chunk_s = CHUNK / 16_000
    assert one.settled_s == pytest.approx([2 * chunk_s, 3 * chunk_s])
    assert one.lag_s == pytest.approx([2 * chunk_s - 0.5, 3 * chunk_s - 1.5])
    assert (one.flops, one.encoder_flops) == (15, 9)


def test_words_of_a_caption_that_the_next_one_changes_are_counted() -> None:
    one = stream(4 * CHUNK)
    for words in (["so", "sad", "it"], ["so", "said", "it", "was"], ["so"]):
        one.request(way(), PLAN)
        one.take(result(words, 0))

    assert one.captions == 3
    assert one.changed == 2 + 3


def test_the_command_line_spans_variants() -> None:
    options = argparse.Namespace(
        chunk_frames=[24, 48],
        rule=["both:0.5", "agreement"],
        agreeing=[3],
        feed=["anew"],
        every=[1],
        two_pass=True,
    )

    found = variants(options)

    assert [(one.chunk_frames, one.rule.method) for one in found] == [
        (24, "both"), (24, "agreement"), (48, "both"), (48, "agreement"), (24, "both"),
    ]  # fmt: skip
    assert (found[0].rule.edge_s, found[0].rule.agreeing) == (0.5, 3)
    assert [one.two_pass for one in found] == [False] * 4 + [True]
    assert not found[0].reuse


def test_a_rule_that_is_none_is_refused() -> None:
    options = argparse.Namespace(
        chunk_frames=[24], rule=["guess"], agreeing=[2], feed=["reuse"], every=[1], two_pass=False
    )

    with pytest.raises(SystemExit, match="got 'guess'"):
        variants(options)
