import dataclasses
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.errors import HeldOutRefused, RunConfigError
from model_store.training.config import AugmentConfig, DataConfig
from model_store.training.data import SHORTEST_CUT_S, Batch, Batches, load_corpora
from model_store.training.manifest import held_out_ids
from model_store.training.reference import Reference, save_references
from tests.training_kit import RATE_HZ, TINY, noise, reference, references, student

AS_IT_IS = AugmentConfig(noise=0.0, gain_db=(0.0, 0.0))
PLAIN = DataConfig(batch_s=4.0, augment=AS_IT_IS, cut=0.0)
CUT = dataclasses.replace(PLAIN, cut=1.0)


@cache
def made() -> list[Reference]:
    return references()


def batches(
    config: DataConfig = PLAIN, seed: int = 0, corpora: dict[str, list[Reference]] | None = None
) -> Batches:
    return Batches(corpora or {"made": made()}, noise(), student(), config, seed)


def changed(**augment: object) -> DataConfig:
    return dataclasses.replace(PLAIN, augment=dataclasses.replace(AS_IT_IS, **augment))


def first(count: int, config: DataConfig = PLAIN, seed: int = 0, start: int = 0) -> list[Batch]:
    return list(islice(batches(config, seed).steps(start), count))


def heard(batch: Batch) -> list[Reference]:
    found: list[Reference] = []
    for token_U in batch.targets.token_BU:
        (item,) = (r for r in made() if torch.equal(token_U[: len(r.token_U)], r.token_U.long()))
        found.append(item)
    return found


def equal(one: Batch, other: Batch) -> bool:
    pairs = [(one.samples_BS, other.samples_BS), (one.input_BU, other.input_BU)]
    pairs += [
        (getattr(one.targets, field.name), getattr(other.targets, field.name))
        for field in dataclasses.fields(one.targets)
    ]
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def test_an_epoch_holds_every_utterance_once() -> None:
    names: list[str] = []
    for batch in batches().steps():
        names += [item.id for item in heard(batch)]
        if len(names) >= len(made()):
            break

    assert sorted(names) == sorted(item.id for item in made())


def test_a_batch_stays_within_its_seconds() -> None:
    for batch in first(12):
        assert batch.samples_BS.numel() <= PLAIN.batch_s * RATE_HZ
        assert batch.seconds == pytest.approx(int(batch.num_samples_B.sum()) / RATE_HZ)


def test_batches_depend_on_seed_and_step_alone() -> None:
    config = DataConfig(batch_s=4.0, augment=AugmentConfig(noise=0.5), cut=0.5)

    one, same, other = (first(8, config, seed) for seed in (1, 1, 2))

    assert all(map(equal, one, same))
    assert not all(map(equal, one, other))


@settings(max_examples=6)
@given(start=st.integers(0, 14))
def test_skipping_ahead_arrives_where_walking_does(start: int) -> None:
    config = DataConfig(batch_s=4.0, augment=AugmentConfig(noise=0.5), cut=0.5)

    walked = first(start + 2, config)[start:]

    assert all(map(equal, walked, first(2, config, start=start)))


def test_a_whole_utterance_asks_for_its_text_and_its_end() -> None:
    for batch in first(6):
        targets = batch.targets
        for row, item in enumerate(heard(batch)):
            last = len(item.token_U) - 1
            assert targets.scored_BU[row].nonzero().flatten().tolist() == list(range(last))
            assert targets.end_BU[row].nonzero().flatten().tolist() == [last]
            frames = len(item.states_TD)
            assert int(targets.frame_BT[row].sum()) == frames
            assert torch.equal(targets.states_BTD[row, :frames], item.states_TD)


def test_a_cut_utterance_asks_for_what_was_over_before_the_cut_and_for_no_end() -> None:
    cuts = 0
    for batch in first(10, CUT):
        for row, item in enumerate(heard(batch)):
            samples = int(batch.num_samples_B[row])
            scored_U = batch.targets.scored_BU[row, : len(item.token_U)]
            if samples == item.num_samples:  # too short to be cut
                assert item.num_samples / RATE_HZ <= 2 * SHORTEST_CUT_S
                continue
            cuts += 1
            # The cut lies inside the last sample heard.
            early_U = item.end_s_U <= samples / RATE_HZ - CUT.cut_margin_s + 1 / RATE_HZ
            assert samples / RATE_HZ >= SHORTEST_CUT_S - 1 / RATE_HZ
            assert bool((scored_U <= early_U).all())
            assert int(early_U.sum()) - int(scored_U.sum()) <= int(early_U[-1])
            assert not bool(batch.targets.end_BU[row].any())
    assert cuts > 5


def test_a_cut_utterance_has_the_frames_its_samples_give() -> None:
    for batch in first(6, CUT):
        expected_B = student().num_frames(batch.num_samples_B)
        assert torch.equal(batch.targets.frame_BT.sum(1), expected_B)
        assert batch.targets.states_BTD.shape[1] == int(expected_B.max())


def test_inputs_are_the_prompt_and_the_text_without_its_last_token() -> None:
    for batch in first(4):
        assert (batch.input_BU[:, 0] == TINY.start_token).all()
        assert torch.equal(batch.input_BU[:, 1:], batch.targets.token_BU[:, :-1])


def test_plain_samples_are_the_recordings() -> None:
    (batch,) = first(1)

    for row, item in enumerate(heard(batch)):
        samples_S = batch.samples_BS[row, : item.num_samples]
        assert torch.equal(samples_S, item.samples_S.float() / 32768)
        assert not batch.samples_BS[row, item.num_samples :].any()


def test_noise_comes_at_the_ratio_asked_for() -> None:
    noisy = changed(noise=1.0, noise_db=(10.0, 10.0))

    for clean, mixed in zip(first(4), first(4, noisy), strict=True):
        for row, samples in enumerate(map(int, clean.num_samples_B)):
            speech_S = clean.samples_BS[row, :samples]
            added_S = mixed.samples_BS[row, :samples] - speech_S
            ratio = float(speech_S.square().mean() / added_S.square().mean())
            assert 10 * torch.tensor(ratio).log10() == pytest.approx(10, abs=0.1)


def test_levels_stay_in_their_range() -> None:
    quiet = changed(gain_db=(-12.0, -6.0))

    for clean, turned in zip(first(4), first(4, quiet), strict=True):
        share_B = turned.samples_BS.abs().amax(1) / clean.samples_BS.abs().amax(1)
        gain_db_B = 20 * share_B.log10()
        assert bool(((gain_db_B >= -12.01) & (gain_db_B <= -5.99)).all())


def test_samples_never_pass_full_scale() -> None:
    loud = changed(gain_db=(40.0, 40.0))

    assert all(float(batch.samples_BS.abs().max()) == 1 for batch in first(3, loud))


def test_a_corpus_is_heard_as_often_as_its_weight_says() -> None:
    one = [reference(f"one/{index}", 1.0 + index / 50) for index in range(10)]
    other = [reference(f"other/{index}", 1.5 + index / 50) for index in range(10)]
    config = dataclasses.replace(PLAIN, weights={"one": 2.0, "other": 0.5}, batch_s=1.9)

    steps = batches(config, corpora={"one": one, "other": other}).steps()
    lengths_s = [batch.seconds for batch in islice(steps, 250)]

    shorter = sum(seconds < 1.4 for seconds in lengths_s)
    assert shorter / len(lengths_s) == pytest.approx(0.8, abs=0.05)


def test_a_weight_of_an_unknown_corpus_is_refused() -> None:
    with pytest.raises(RunConfigError, match=r"out of \['made'\], got 'mode'"):
        batches(dataclasses.replace(PLAIN, weights={"mode": 2.0}))


@pytest.mark.parametrize("config", [PLAIN, dataclasses.replace(PLAIN, weights={"made": 0.0})])
def test_nothing_to_hear_is_refused(config: DataConfig) -> None:
    corpus = made() if config.weights else []

    with pytest.raises(RunConfigError, match="expected references to train on, got none"):
        batches(config, corpora={"made": corpus})


def test_corpora_are_read_by_name(tmp_path: Path) -> None:
    save_references(made()[:2], tmp_path / "one")
    save_references(made()[2:5], tmp_path / "two")

    corpora = load_corpora(tmp_path)

    assert {name: len(corpus) for name, corpus in corpora.items()} == {"one": 2, "two": 3}


def test_held_out_references_are_refused(tmp_path: Path) -> None:
    held = sorted(held_out_ids("kathleen"))[0]
    save_references([*made()[:2], dataclasses.replace(made()[2], id=held)], tmp_path / "kathleen")

    with pytest.raises(HeldOutRefused, match=f"in 'kathleen', got 1, first '{held}'"):
        load_corpora(tmp_path)
