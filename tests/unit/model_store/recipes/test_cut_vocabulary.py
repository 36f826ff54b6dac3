"""Fewer tokens: whatever was writable still is, and those kept are scored as before."""

import json
from pathlib import Path

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers

from model_store.backbones.base import EncoderStates
from model_store.backbones.moonshine import Moonshine, MoonshineConfig
from model_store.checkpoint import load_checkpoint, save_checkpoint
from model_store.depth import PlanCatalogue
from model_store.recipes.cut_vocabulary import (
    SPECIAL,
    cut_tokenizer,
    kept_ids,
    main,
    token_shares,
)
from model_store.text.tokens import Tokenizer
from tests.onnx_kit import write_checkpoint

LETTERS = [chr(code) for code in range(0x21, 0x7F)]
PIECES = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *LETTERS]
MERGED = [
    "th",
    "\u2581th",
    "\u2581the",
    "at",
    "\u2581c",
    "\u2581cat",
    "zq",
    "\u2581zq",
    "\u2581The",
]
WORDS = {"the": 0.6, "cat": 0.4}
NUM_MADE = len(PIECES) + len(MERGED)
FEWEST = len(PIECES) + 6
PADDED = NUM_MADE + 5
"""A model's output may be wider than its vocabulary."""


def content() -> dict[str, object]:
    pieces = {piece: index for index, piece in enumerate([*PIECES, *MERGED])}
    merges = [("t", "h"), ("\u2581", "th"), ("\u2581th", "e"), ("a", "t"), ("\u2581", "c")]
    merges += [("\u2581c", "at"), ("z", "q"), ("\u2581", "zq")]
    made = tokenizers.Tokenizer(
        models.BPE(vocab=pieces, merges=merges, byte_fallback=True, unk_token="<unk>")
    )
    made.add_special_tokens([*SPECIAL, "<<ST_0>>"])
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse()])
    return json.loads(made.to_str())


def cut(tokens: int = FEWEST) -> Tokenizer:
    whole = content()
    kept = kept_ids(whole, token_shares(whole, WORDS), tokens)
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(cut_tokenizer(whole, kept))))


def test_what_spells_the_words_is_kept_and_what_spells_none_is_not() -> None:
    assert len(cut().encode("the cat")) == 2
    assert len(cut().encode("zq")) == 3, "a space and two letters"
    assert len(cut(NUM_MADE).encode("zq")) == 1


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12))
def test_any_text_can_still_be_written(text: str) -> None:
    whole = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content())))
    expected = whole.decode(whole.encode(text))

    tokenizer = cut()

    assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_special_tokens_keep_their_places_and_others_are_numbered_without_a_gap() -> None:
    whole = content()
    kept = kept_ids(whole, token_shares(whole, WORDS), FEWEST)
    left = cut_tokenizer(whole, kept)

    assert kept[:3] == [0, 1, 2]
    assert sorted(left["model"]["vocab"].values()) == list(range(FEWEST))
    assert [one["content"] for one in left["added_tokens"]] == list(SPECIAL)


def test_more_tokens_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected at least 9999 tokens, got"):
        kept_ids(content(), {}, 9999)


def test_tokens_that_are_kept_are_scored_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = MoonshineConfig(
        dim=32, inner_dim=48, num_heads=4, encoder_layers=2, decoder_layers=2, vocabulary=PADDED,
        rotated=4,
    )  # fmt: skip
    whole, out, words = tmp_path / "whole", tmp_path / "cut", tmp_path / "words.tsv"
    save_checkpoint(Moonshine(config), PlanCatalogue.untuned(2), whole, int8=True)
    (whole / "tokenizer.json").write_text(json.dumps(content()), encoding="utf-8")
    words.write_text("".join(f"{word}\t{share}\n" for word, share in WORDS.items()))
    command = f"cut --model {whole} --words {words} --tokens {FEWEST} --out {out}"
    monkeypatch.setattr("sys.argv", command.split())

    main()

    kept = kept_ids(content(), token_shares(content(), WORDS), FEWEST)
    states = EncoderStates(torch.randn(1, 9, 32), torch.tensor([9]))
    prompt = torch.tensor([[1, kept.index(kept[300]), kept.index(kept[301])]])
    scores = scored(out, states, prompt)
    expected = scored(whole, states, torch.tensor([[1, kept[300], kept[301]]]))
    assert torch.allclose(scores, expected[..., kept], atol=1e-6)


def test_a_model_of_another_kind_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, words = write_checkpoint(tmp_path / "whole", "whisper"), tmp_path / "words.tsv"
    (whole / "tokenizer.json").write_text(json.dumps(content()), encoding="utf-8")
    words.write_text("the\t1e-3\n")
    command = f"cut --model {whole} --words {words} --tokens {FEWEST} --out {tmp_path / 'cut'}"
    monkeypatch.setattr("sys.argv", command.split())

    with pytest.raises(TypeError, match="expected a Moonshine, got a whisper"):
        main()


def scored(folder: Path, states: EncoderStates, token_BU: torch.Tensor) -> torch.Tensor:
    model = load_checkpoint(folder).model
    assert isinstance(model, Moonshine)
    with torch.inference_mode():
        cache = model.decoder.begin(model.decoder.pool(states), token_BU.shape[1])
        return model.decoder.logits(model.decoder(token_BU, cache))
