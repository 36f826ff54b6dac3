r"""Train a CTC head on a frozen elastic encoder: its states are computed once and kept on disk.

    python -m model_store.recipes.train_head --run RUN.toml --model DIR --references DIR \
        --states DIR --out DIR [--pieces 256] [--hidden 384] [--taps 5]

The run's `sampling` says at which plans and chunk masks the states are computed, `data.weights` how
often each corpus is heard, at another depth each time. The same command goes on where a run was
stopped; runs that share `--states` compute them once. `--pieces 0` spells with letters. The
references hold the teacher's states at full depth, which the student's are trained to equal:
`--teacher-states` adds them for nothing.

Dimensions: B = utterances, S = samples, T = encoder frames, D = channels.
"""

import argparse
import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model_store.audio import SAMPLE_RATE_HZ
from model_store.backbones import SpeechModule
from model_store.backbones.ctc_head import CtcHead, HeadConfig
from model_store.backbones.precision import has_fast_bfloat16, to_bfloat16
from model_store.checkpoint import load_checkpoint
from model_store.errors import RunConfigError
from model_store.text.bpe import LETTERS, SPECIAL, train_bpe
from model_store.text.normalise import normalise
from model_store.text.tokens import Tokenizer
from model_store.training.config import RunConfig, load_run
from model_store.training.data import load_corpora
from model_store.training.head import HeadObjective, HeadStudent, Spoken, StateBatches
from model_store.training.loop import Trainer
from model_store.training.reference import Reference
from model_store.training.sampling import DepthSampler

logger = logging.getLogger(__name__)

SHARD_S = 600.0
"""Audio in one file of states, which is what a stopped run loses at most."""
BATCH_S = 80.0
LETTERS_ALONE = len(SPECIAL) + 1 + len(LETTERS)
"""Special tokens, the mark of a space, and no pair of letters joined."""
HEAD_FILE = "head.safetensors"
CONFIG_FILE = "head.json"
TOKENS_FILE = "head-tokenizer.json"


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "model", "references", "states", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=256, help="0: letters alone")
    parser.add_argument("--hidden", type=int, default=384, help="0: none")
    parser.add_argument("--taps", type=int, default=5)
    parser.add_argument("--hours", type=float, default=100.0, help="of states, at most")
    parser.add_argument("--extract-only", action="store_true")
    parser.add_argument("--teacher-states", action="store_true", help="hear those as well")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    config = load_run(options.run)
    model = load_checkpoint(options.model).model
    tokenizer = Tokenizer.from_file(options.model / "tokenizer.json")
    corpora = load_corpora(options.references)
    extract(model, tokenizer, corpora, config, options.states, options.hours)
    if options.extract_only:
        return
    frame_s = model.frame_samples / SAMPLE_RATE_HZ
    spoken = load_states(options.states)
    if options.teacher_states:
        spoken += taught(corpora, tokenizer, config)
    sizes = HeadConfig(
        dim=spoken[0].states_TD.shape[1],
        vocabulary=options.pieces or LETTERS_ALONE,
        hidden=options.hidden,
        taps=options.taps,
    )
    train(spoken, sizes, config, (model.num_layers, frame_s), options.out)


def extract(
    model: SpeechModule,
    tokenizer: Tokenizer,
    corpora: Mapping[str, Sequence[Reference]],
    config: RunConfig,
    folder: Path,
    most_hours: float = 100.0,
) -> None:
    """Write the states of every utterance that the run hears, but for files that are there.

    Args:
        model: becomes bfloat16 where that is fast.
        tokenizer: of the model, in which the references' texts are.
        corpora: by name.
        config: says how often each is heard, and at what depth.
        folder: for the states.
        most_hours: of audio; the first of the order drawn are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if has_fast_bfloat16():
        to_bfloat16(model)
    chosen = choose(corpora, config.data.weights, config.seed)
    files = _shards(chosen)[: math.ceil(most_hours * 3600 / SHARD_S)]
    for number, shard in enumerate(files):
        target = folder / f"states-{number:04d}.safetensors"
        if target.exists():
            continue
        draw = torch.Generator().manual_seed(config.seed * 10**6 + number)
        sampler = DepthSampler(config.sampling, model.num_layers, draw)
        rows: list[dict[str, object]] = []
        states: list[Tensor] = []
        for batch in _batches(shard):
            found, depth = _encode(model, batch, sampler)
            states += found
            for reference, states_TD in zip(batch, found, strict=True):
                text = _text(reference, tokenizer)
                rows.append({"id": reference.id, "T": len(states_TD), "text": text, **depth})
        target.with_suffix(".json").write_text(json.dumps(rows), encoding="utf-8")
        partial = target.with_suffix(".partial")
        save_file({"states_TD": torch.cat(states)}, partial)
        partial.replace(target)
        logger.info("states %d/%d", number + 1, len(files))


def choose(
    corpora: Mapping[str, Sequence[Reference]], weights: Mapping[str, float], seed: int
) -> list[Reference]:
    """Take each corpus as often as its weight says, in an order drawn; parts are drawn too."""
    draw = np.random.default_rng(seed)
    chosen: list[Reference] = []
    for name, corpus in corpora.items():
        whole, part = divmod(weights.get(name, 1.0), 1.0)
        chosen += list(corpus) * int(whole)
        chosen += [item for item in corpus if draw.random() < part]
    return [chosen[place] for place in draw.permutation(len(chosen))]


def load_states(folder: Path) -> list[Spoken]:
    """Read what `extract` wrote; the states stay on disk until they are used.

    Raises:
        RunConfigError: there is nothing.
    """
    found: list[Spoken] = []
    for path in sorted(folder.glob("states-*.safetensors")):
        rows = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        parts = load_file(path)["states_TD"].split([row["T"] for row in rows])
        found += [Spoken(part, row["text"]) for part, row in zip(parts, rows, strict=True)]
    if not found:
        raise RunConfigError("expected encoder states to train on, got none")
    return found


def taught(
    corpora: Mapping[str, Sequence[Reference]], tokenizer: Tokenizer, config: RunConfig
) -> list[Spoken]:
    """Give the teacher's states, as often as the run hears each corpus."""
    chosen = choose(corpora, config.data.weights, config.seed)
    return [Spoken(item.states_TD, _text(item, tokenizer)) for item in chosen]


def train(
    spoken: Sequence[Spoken],
    sizes: HeadConfig,
    config: RunConfig,
    encoder: tuple[int, float],
    out: Path,
) -> CtcHead:
    """Train a head from the step reached to the last one, and write it.

    Args:
        spoken: what is heard.
        sizes: of the head; a vocabulary larger than the texts give becomes smaller.
        config: steps, rate (`optimiser.layers`) and seconds a step.
        encoder: its layers, and the seconds of a frame.
        out: folder of the run.
    """
    num_layers, frame_s = encoder
    out.mkdir(parents=True, exist_ok=True)
    trained = train_bpe((item.text for item in spoken), sizes.vocabulary)
    trained.save(str(out / TOKENS_FILE))
    sizes = dataclasses.replace(sizes, vocabulary=trained.get_vocab_size())
    torch.manual_seed(config.seed)
    student = HeadStudent(CtcHead(sizes), num_layers)
    batches = StateBatches(spoken, Tokenizer(trained), config.data.batch_s, frame_s, config.seed)
    rate = config.optimiser.layers
    group: dict[str, object] = {
        "params": list(student.parameters()),
        "lr": rate,
        "peak": rate,
        "weight_decay": config.optimiser.weight_decay,
    }

    def report(step: int, reached: HeadStudent) -> None:
        del step
        save_head(reached.head, out)

    logger.info("%d parameters, %d utterances", student.head.num_parameters, len(spoken))
    Trainer(student, batches, config, out, report, objective=HeadObjective(), groups=[group]).run()
    return student.head


def save_head(head: CtcHead, folder: Path) -> None:
    """Write a head's weights and sizes."""
    save_file(
        {n: v.detach().contiguous() for n, v in head.state_dict().items()}, folder / HEAD_FILE
    )
    sizes = json.dumps(dataclasses.asdict(head.config), indent=1)
    (folder / CONFIG_FILE).write_text(sizes + "\n", encoding="utf-8")


def load_head(folder: Path) -> tuple[CtcHead, Tokenizer]:
    """Read a head that `train` wrote, in eval mode, and its tokens."""
    sizes = HeadConfig(**json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    head = CtcHead(sizes)
    head.load_state_dict(load_file(folder / HEAD_FILE))
    return head.eval(), Tokenizer.from_file(folder / TOKENS_FILE)


def _text(reference: Reference, tokenizer: Tokenizer) -> str:
    return normalise(tokenizer.decode(reference.token_U[:-1].tolist()))


def _shards(chosen: Sequence[Reference]) -> list[list[Reference]]:
    shards: list[list[Reference]] = [[]]
    for item in chosen:
        if sum(map(attrgetter("num_samples"), shards[-1])) > SHARD_S * SAMPLE_RATE_HZ:
            shards.append([])
        shards[-1].append(item)
    return shards


def _batches(shard: Sequence[Reference]) -> list[list[Reference]]:
    batches: list[list[Reference]] = [[]]
    for item in sorted(shard, key=attrgetter("num_samples", "id")):
        if batches[-1] and (len(batches[-1]) + 1) * item.num_samples > BATCH_S * SAMPLE_RATE_HZ:
            batches.append([])
        batches[-1].append(item)
    return batches


def _encode(
    model: SpeechModule, batch: Sequence[Reference], sampler: DepthSampler
) -> tuple[list[Tensor], dict[str, object]]:
    samples = [reference.samples_S.float() / 32768 for reference in batch]
    num_samples_B = torch.tensor([len(samples_S) for samples_S in samples])
    num_frames = int(model.num_frames(num_samples_B).max())
    schedule, chunk_frames = sampler.draw(0.0, num_frames)
    with torch.inference_mode():
        encoded = model.encode(
            pad_sequence(samples, batch_first=True), num_samples_B, schedule, chunk_frames
        )
    states_BTD = encoded.states_BTD.half()
    found = [
        states_TD[:frames].clone()
        for states_TD, frames in zip(states_BTD, encoded.num_frames_B.tolist(), strict=True)
    ]
    return found, {"plan": str(schedule.parts[0][1]), "chunk_frames": chunk_frames}


if __name__ == "__main__":
    main()
