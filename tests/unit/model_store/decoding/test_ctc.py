import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_store.backbones import EncoderStates
from model_store.decoding.ctc import CtcWindowDecoder, Spelled, spell_greedily
from model_store.depth import DepthPlan, DepthSchedule
from model_store.text.bpe import BLANK, END, START, letters_vocabulary, train_bpe
from model_store.text.tokens import Tokenizer
from tests.numerics.backbones import RATE_HZ, constant, noise
from tests.numerics.ctc_backbones import build

TEXTS = ["the cat sat on the mat", "It's the dog's, the cat's mat!", "a cat and a dog"]
FULL = DepthPlan((1, 1, 1))


def scores(frames: list[int], vocabulary: int, sure: float = 0.9) -> torch.Tensor:
    """Log-probabilities whose likeliest token of each frame is given."""
    other = math.log((1 - sure) / (vocabulary - 1))
    log_probs_TV = torch.full((len(frames), vocabulary), other)
    for frame, token in enumerate(frames):
        log_probs_TV[frame, token] = math.log(sure)
    return log_probs_TV


def test_repeats_are_joined_and_blanks_left_out() -> None:
    spelled = spell_greedily(scores([0, 3, 3, 0, 3, 4, 4, 4, 0], 6), blank=0)

    assert spelled.tokens == [3, 3, 4]
    assert spelled.first_frames == [1, 4, 5]
    assert spelled.end_frames == [3, 5, 8]
    assert spelled.logprobs == pytest.approx([math.log(0.9)] * 3)


def test_a_token_is_as_sure_as_at_its_best_frame() -> None:
    log_probs_TV = torch.cat([scores([2], 4, 0.5), scores([2], 4, 0.8), scores([2], 4, 0.6)])

    assert spell_greedily(log_probs_TV, blank=0).logprobs == pytest.approx([math.log(0.8)])


def test_silence_is_no_token() -> None:
    assert spell_greedily(scores([0, 0, 0], 4), blank=0) == Spelled([], [], [], [])


def reference_collapse(frames: list[int], blank: int) -> list[int]:
    """The definition: join repeats, then take blanks out."""
    joined = [t for i, t in enumerate(frames) if i == 0 or frames[i - 1] != t]
    return [token for token in joined if token != blank]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 4))
def test_any_path_collapses_as_defined(frames: list[int], blank: int) -> None:
    spelled = spell_greedily(scores(frames, 5), blank)

    assert spelled.tokens == reference_collapse(frames, blank)
    assert all(a < b for a, b in zip(spelled.first_frames, spelled.end_frames, strict=True))
    assert sorted(spelled.first_frames) == spelled.first_frames


class Scripted:
    """A model whose likeliest tokens are given, one a frame of 40 ms."""

    num_layers, frame_samples, blank = 3, 640, BLANK

    def __init__(self, frames: list[int], vocabulary: int) -> None:
        self._frames, self.vocabulary = frames, vocabulary

    def num_frames(self, num_samples_B: torch.Tensor) -> torch.Tensor:
        return num_samples_B // self.frame_samples

    def encode(
        self,
        samples_BS: torch.Tensor,
        num_samples_B: torch.Tensor,
        schedule: DepthSchedule,
        chunk_frames: int | None = None,
    ) -> EncoderStates:
        del schedule, chunk_frames
        states_BTD = torch.zeros(len(samples_BS), len(self._frames), 1)
        return EncoderStates(states_BTD, self.num_frames(num_samples_B))

    def log_probs(self, states_BTD: torch.Tensor) -> torch.Tensor:
        return scores(self._frames, self.vocabulary).expand(len(states_BTD), -1, -1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_bpe(TEXTS, 64))


def test_words_have_the_times_at_which_they_are_said(tokenizer: Tokenizer) -> None:
    cat, sat = tokenizer.encode("cat"), tokenizer.encode("sat")
    quiet = [BLANK] * 5
    frames = [START, *quiet, *cat, *quiet, *sat, sat[-1], END, *quiet]

    samples = np.zeros(len(frames) * 640, np.float32)
    (heard,) = CtcWindowDecoder(Scripted(frames, 64), tokenizer).decode(
        [samples], constant(1, 1, 1)
    )

    assert heard.text == "cat sat"
    first, second = heard.words
    assert (first.text, second.text) == ("cat", "sat")
    assert first.start_s == pytest.approx(6 * 0.04)
    assert first.end_s == pytest.approx((6 + len(cat)) * 0.04)
    assert second.start_s == pytest.approx((11 + len(cat)) * 0.04)
    assert second.end_s == pytest.approx((11 + len(cat) + len(sat) + 1) * 0.04)
    assert (first.confidence, second.confidence) == pytest.approx((0.9, 0.9))
    assert heard.tries == ((len(samples), 0),)


def test_frames_past_a_windows_end_say_nothing(tokenizer: Tokenizer) -> None:
    frames = [*tokenizer.encode("cat"), BLANK, *tokenizer.encode("dog")]
    heard_frames = len(tokenizer.encode("cat")) + 1
    windows = [np.zeros(n * 640, np.float32) for n in (len(frames), heard_frames)]

    decoder = CtcWindowDecoder(Scripted(frames, 64), tokenizer)
    whole, cut = decoder.decode(windows, constant(1, 1, 1))

    assert (whole.text, cut.text) == ("cat dog", "cat")


def test_a_word_of_letters_begins_at_its_first_letter() -> None:
    tokenizer = Tokenizer(letters_vocabulary({"<pad>": 0, "|": 1, "A": 2, "B": 3}))
    frames = [2, 1, 0, 0, 3, 0]

    samples = np.zeros(len(frames) * 640, np.float32)
    (heard,) = CtcWindowDecoder(Scripted(frames, 4), tokenizer).decode([samples], constant(1, 1, 1))

    assert [(word.text, round(word.start_s, 2)) for word in heard.words] == [
        ("A", 0.0),
        ("B", 0.16),
    ]


@pytest.mark.parametrize("name", ["conformer", "wavlm"])
def test_a_window_does_not_depend_on_its_neighbours(name: str, tokenizer: Tokenizer) -> None:
    decoder = CtcWindowDecoder(build(name), tokenizer)
    samples_BS, _ = noise(RATE_HZ, RATE_HZ)
    windows = [samples_BS[0].numpy(), samples_BS[1, :9_000].numpy()]
    schedule = DepthSchedule.constant(FULL)

    together = decoder.decode(windows, schedule)

    for window, decoded in zip(windows, together, strict=True):
        (alone,) = decoder.decode([window], schedule)
        assert (alone.text, alone.num_tokens) == (decoded.text, decoded.num_tokens)


def test_without_words_there_is_text_alone(tokenizer: Tokenizer) -> None:
    frames = tokenizer.encode("cat")
    decoder = CtcWindowDecoder(Scripted(frames, 64), tokenizer)

    samples = np.zeros(len(frames) * 640, np.float32)
    (heard,) = decoder.decode([samples], constant(1, 1, 1), words=False)

    assert (heard.text, heard.words) == ("cat", ())


def test_pieces_are_learned_and_spelled_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    made = train_bpe(TEXTS, 64)
    made.save(str(tmp_path / "tokenizer.json"))
    read = Tokenizer.from_file(tmp_path / "tokenizer.json")

    for text in ("the cat's mat", "IT'S a dog!"):
        ids = read.encode(text)
        assert read.decode(ids) == text.lower().strip("!")
        assert ids == tokenizer.encode(text)
    assert len(read.encode("the cat")) < len("the cat")
    assert made.get_vocab_size() <= 64
    assert [made.token_to_id(name) for name in ("<blank>", "<s>", "</s>")] == [BLANK, START, END]


def test_what_is_no_letter_parts_words(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("caf\u00e9 \u2014 don\u2019t, ok-then")) == (
        "cafe don't ok then"
    )


def test_a_vocabulary_has_the_size_asked_for_where_texts_suffice() -> None:
    texts = [f"{a}{b}{c} {c}{a}" for a in "abcdefgh" for b in "aeiou" for c in "lmnprst"]

    assert train_bpe(texts, 256).get_vocab_size() == 256


@pytest.mark.parametrize(
    ("letters", "text"), [("ABC", "CAB ABC"), ("abc", "cab abc"), ("aAbBcC", "Cab aBC")]
)
def test_published_letters_spell_in_their_case(letters: str, text: str) -> None:
    ids = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
    ids |= {letter: 5 + place for place, letter in enumerate(letters)}
    tokenizer = Tokenizer(letters_vocabulary(ids))

    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text)[3] == 4
    assert tokenizer.decode([0, *tokenizer.encode(text), 2]) == text
