"""Training a head: states are computed once, a run goes on where it stopped, and it learns."""

import dataclasses
import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Inner
from tokenizers import models, pre_tokenizers

from model_store.backbones.ctc_head import HeadConfig
from model_store.decoding.ctc import spell_greedily
from model_store.errors import RunConfigError
from model_store.recipes import train_head
from model_store.recipes.train_head import (
    LETTERS_ALONE,
    choose,
    extract,
    load_head,
    load_states,
    taught,
    train,
)
from model_store.text.bpe import BLANK, train_bpe
from model_store.text.normalise import normalise
from model_store.text.tokens import Tokenizer
from model_store.training.config import DataConfig, OptimiserConfig, PlanSource, SamplingConfig
from model_store.training.head import Spoken, StateBatches
from tests.training_kit import RUN, TINY, VOCABULARY, reference, student

pytestmark = pytest.mark.timeout(120)

HEAD = HeadConfig(dim=8, vocabulary=LETTERS_ALONE, hidden=16, taps=2)
TRAINED = dataclasses.replace(
    RUN,
    optimiser=OptimiserConfig(steps=120, warmup_steps=5, layers=1e-2),
    data=DataConfig(batch_s=20.0),
    report_steps=20,
    evaluate_steps=60,
)
SAMPLED = dataclasses.replace(
    RUN,
    sampling=SamplingConfig(
        plans=(PlanSource(kind="fixed", weight=1.0, plan="1,2,4"),), full_context=0.5
    ),
)


def words() -> Tokenizer:
    inner = Inner(models.WordLevel({f"w{n}": n for n in range(VOCABULARY)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return Tokenizer(inner)


def spoken(count: int = 6) -> list[Spoken]:
    """Utterances whose states say their letters, three frames each with a pause between."""
    draw = torch.Generator().manual_seed(0)
    letters_SD = torch.randn(5, HEAD.dim, generator=draw)
    found: list[Spoken] = []
    for index in range(count):
        said = [(index + place) % 4 + 1 for place in range(2 + index % 3)]
        rows = [letters_SD[place] for one in said for place in (0, one, one, one)]
        text = "".join(" abcd"[one] for one in said)
        found.append(Spoken(torch.stack(rows).half(), text))
    return found


def test_states_are_computed_once_as_the_model_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_head, "has_fast_bfloat16", lambda: False)
    model, corpora = student(), {"made": [reference("made/a", 1.0), reference("made/b", 1.5)]}

    extract(model, words(), corpora, SAMPLED, tmp_path)
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    extract(model, words(), corpora, SAMPLED, tmp_path)

    found = load_states(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
    assert sorted(written) == ["states-0000.json", "states-0000.safetensors"]
    rows = json.loads((tmp_path / "states-0000.json").read_text(encoding="utf-8"))
    assert [row["plan"] for row in rows] == ["1,2,4", "1,2,4"]
    assert [len(one.states_TD) for one in found] == [
        int(model.num_frames(torch.tensor(16_000 * s))) for s in (1.0, 1.5)
    ]
    assert all(one.states_TD.dtype == torch.float16 for one in found)
    assert all(one.states_TD.shape[1] == TINY.dim for one in found)


def test_states_stop_at_the_hours_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_head, "SHARD_S", 0.5)
    corpora = {"made": [reference(f"made/{n}", 1.0 + n / 10) for n in range(4)]}

    extract(student(), words(), corpora, SAMPLED, tmp_path, most_hours=1.0 / 3600)

    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_each_corpus_is_heard_as_often_as_its_weight_says() -> None:
    corpora = {name: [reference(f"{name}/{n}", 1.0) for n in range(40)] for name in "abc"}

    ids = [item.id for item in choose(corpora, {"a": 2.0, "b": 0.5}, seed=1)]

    assert sorted(i for i in ids if i[0] == "a") == sorted(2 * [f"a/{n}" for n in range(40)])
    assert 8 <= sum(i[0] == "b" for i in ids) <= 32
    assert sum(i[0] == "c" for i in ids) == 40
    assert ids == [item.id for item in choose(corpora, {"a": 2.0, "b": 0.5}, seed=1)]


def test_the_teachers_states_come_with_its_text() -> None:
    one = reference("made/a", 1.0)

    (found,) = taught({"made": [one]}, words(), SAMPLED)

    assert torch.equal(found.states_TD, one.states_TD)
    assert found.text == normalise(words().decode([int(token) for token in one.token_U[:-1]]))


def test_no_states_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunConfigError, match="states"):
        load_states(tmp_path)


def test_utterances_without_text_are_left_out() -> None:
    tokenizer = Tokenizer(train_bpe(["ab"], LETTERS_ALONE))
    silent = Spoken(torch.zeros(3, 8).half(), "")
    said = Spoken(torch.zeros(4, 8).half(), "ab")

    batch = next(StateBatches([silent, said], tokenizer, 1.0, 0.024, seed=0).steps())

    assert batch.num_frames_B.tolist() == [4]
    with pytest.raises(RunConfigError, match="text"):
        StateBatches([silent], tokenizer, 1.0, 0.024, seed=0)


def test_batches_depend_on_seed_and_step_alone() -> None:
    tokenizer = Tokenizer(train_bpe(["abcd"], LETTERS_ALONE))

    def made() -> StateBatches:
        return StateBatches(spoken(), tokenizer, 0.5, 0.024, seed=4)

    whole = list(islice(made().steps(), 9))
    later = list(islice(made().steps(5), 4))

    for one, other in zip(whole[5:], later, strict=True):
        assert torch.equal(one.states_BTD, other.states_BTD)
        assert torch.equal(one.token_BU, other.token_BU)
    assert all(one.num_frames * len(one.states_BTD) <= 0.5 / 0.024 for one in whole)


def test_a_head_learns_to_spell_what_the_states_say(tmp_path: Path) -> None:
    train(spoken(), HEAD, TRAINED, (3, 0.024), tmp_path)

    head, tokenizer = load_head(tmp_path)
    texts = [
        tokenizer.decode(spell_greedily(head(one.states_TD.unsqueeze(0))[0], BLANK).tokens)
        for one in spoken()
    ]
    assert texts == [one.text for one in spoken()]


def test_a_stopped_run_goes_on_to_the_same_head(tmp_path: Path) -> None:
    short = dataclasses.replace(
        TRAINED, optimiser=dataclasses.replace(TRAINED.optimiser, steps=6), evaluate_steps=3
    )
    whole = train(spoken(), HEAD, short, (3, 0.024), tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_head, "save_head", stop)
        with pytest.raises(Stopped):
            train(spoken(), HEAD, short, (3, 0.024), tmp_path / "cut")
    resumed = train(spoken(), HEAD, short, (3, 0.024), tmp_path / "cut")

    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
