"""The training loop: one plan a step, resumable to the step, seeded."""

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model_store.backbones import SpeechModule
from model_store.training.config import OptimiserConfig, RunConfig, to_table
from model_store.training.objective import Depth, Objective, ReadOut
from model_store.training.ranks import ALONE, Ranks
from model_store.training.sampling import DepthSampler

logger = logging.getLogger(__name__)

STATE_FILE = "training.safetensors"
NORM_LIKE = ("norm", "pool_RD", "give_RD")

Report = Callable[[int, SpeechModule], None]
"""Called every `evaluate_steps` with the step and the student."""

Groups = list[dict[str, object]]
"""Parameters with their peak rates, as torch's optimisers take them."""


class TrainingBatch(Protocol):
    """One step's audio and targets, as far as the loop is concerned."""

    @property
    def seconds(self) -> float: ...  # noqa: D102 of audio, padding left out
    @property
    def num_frames(self) -> int: ...  # noqa: D102 encoder frames of the longest utterance
    def to(self: "BatchT", device: torch.device) -> "BatchT":
        """Bring it to a device."""
        ...


BatchT = TypeVar("BatchT", bound=TrainingBatch)
StudentT = TypeVar("StudentT", bound=nn.Module)


class BatchSource(Protocol[BatchT]):  # pyright: ignore[reportInvalidTypeVarUse]
    """Endless batches; each depends on seed and step alone."""

    def steps(self, start: int = 0) -> Iterator[BatchT]:
        """Give the batches from a step on, without computing those before."""
        ...


@dataclass(slots=True)
class Running:
    """Losses since the last report, by depth plan."""

    total: dict[str, list[float]]
    parts: dict[str, list[float]]
    seconds: float = 0.0

    @classmethod
    def empty(cls) -> "Running":
        """Nothing heard yet."""
        return cls(defaultdict(list), defaultdict(list))


class Trainer(Generic[StudentT, BatchT]):
    """Trains one student.

    Args:
        student: of the reference's initialisation.
        batches: what it hears.
        config: the run.
        folder: where the resolved config, the log and the checkpoints go.
        report: evaluates on the way; may be slow.
        objective: what a step makes smaller; None for the losses of an attention decoder.
        groups: parameters and their peak rates; None for the student's own, see `parameter_groups`.
        ranks: trains beside others, each on batches of its own.
    """

    def __init__(  # noqa: PLR0913 a run's parts, each made elsewhere
        self,
        student: StudentT,
        batches: BatchSource[BatchT],
        config: RunConfig,
        folder: Path,
        report: Callable[[int, StudentT], None],
        *,
        objective: Objective[StudentT, BatchT] | None = None,
        groups: Groups | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._student = student
        self._batches = batches
        self._config = config
        self._folder = folder
        self._report = report
        self._device = next(student.parameters()).device
        self._draw = torch.Generator().manual_seed(config.seed)
        self._sampler = DepthSampler(config.sampling, num_layers_of(student), self._draw)
        self._optimiser = torch.optim.AdamW(
            groups or parameter_groups(student, config.optimiser),
            betas=(0.9, 0.98),
            eps=1e-8,
            fused=True,
        )
        self._objective: Objective[StudentT, BatchT] = objective or ReadOut()  # pyright: ignore[reportAttributeAccessIssue]
        self._ranks = ranks
        self._step = 0
        self._trained_s = 0.0

    def run(self) -> None:
        """Train from the step reached to the last one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        resolved = json.dumps(to_table(self._config), indent=1)
        (self._folder / "config.json").write_text(resolved + "\n", encoding="utf-8")
        self._resume()
        self._ranks.share(self._student)
        running, saved = Running.empty(), time.monotonic()
        for batch in self._remaining():
            started = time.monotonic()
            self._take(batch, running)
            self._step += 1
            self._trained_s += time.monotonic() - started
            if self._step % self._config.report_steps == 0:
                if self._ranks.first:
                    self._log(running)
                running = Running.empty()
            last = self._step == self._config.optimiser.steps
            if not self._ranks.first:
                continue
            if last or time.monotonic() - saved > self._config.save_s:
                self._save()
                saved = time.monotonic()
            if last or self._step % self._config.evaluate_steps == 0:
                self._report(self._step, self._student)

    def _remaining(self) -> Iterator[BatchT]:
        first = self._step * self._ranks.size + self._ranks.place
        batches = islice(self._batches.steps(first), 0, None, self._ranks.size)
        while self._step < self._config.optimiser.steps:
            yield next(batches)

    def _take(self, batch: BatchT, running: Running) -> None:
        optimiser = self._config.optimiser
        batch = batch.to(self._device)
        progress = self._step / optimiser.steps
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * learning_rate(self._step, optimiser)
        # All ranks draw alike: one schedule a step.
        num_frames = self._ranks.largest(batch.num_frames)
        schedule, chunk_frames = self._sampler.draw(progress, num_frames)
        # Dropout draws from torch's own generator, which no checkpoint keeps: each step seeds it.
        torch.manual_seed(step_seed(self._config.seed, self._step, self._ranks.place))
        self._student.train()
        loss, parts = self._objective(
            self._student, batch, Depth(schedule, chunk_frames), self._config.loss, self._draw
        )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        trained = [p for g in self._optimiser.param_groups for p in g["params"]]
        self._ranks.average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, optimiser.clip)
        self._optimiser.step()
        running.total[str(schedule.parts[0][1])].append(float(loss.detach()))
        for name, value in parts.items():
            running.parts[name].append(value)
        running.seconds += batch.seconds

    def _log(self, running: Running) -> None:
        steps = self._config.optimiser.steps
        heard = {name: _mean(values) for name, values in running.parts.items()}
        line = {
            "step": self._step,
            "of": steps,
            "trained_s": round(self._trained_s, 1),
            "audio_s": round(running.seconds, 1),
            **{name: round(value, 4) for name, value in heard.items()},
            "by_plan": {name: round(_mean(v), 3) for name, v in running.total.items()},
        }
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        done = int(30 * self._step / steps)
        bar = "#" * done + "." * (30 - done)
        losses = " ".join(f"{name} {value:.3f}" for name, value in heard.items())
        pace_s = self._trained_s / max(1, self._step - self._first)
        logger.info("[%s] %d/%d %.2f s/step %s", bar, self._step, steps, pace_s, losses)

    def _save(self) -> None:
        state: dict[str, Tensor] = {
            f"model.{name}": value.contiguous()
            for name, value in self._student.state_dict().items()
        }
        names = {id(p): name for name, p in self._student.named_parameters()}
        for parameter, moments in self._optimiser.state.items():
            for moment, value in moments.items():
                state[f"{moment}.{names[id(parameter)]}"] = value
        state["generator"] = self._draw.get_state()
        target = self._folder / STATE_FILE
        partial = target.with_suffix(".partial")
        # One file, so that weights and step are of the same moment whenever a run is cut off.
        save_file(state, partial, {"step": str(self._step), "trained_s": str(self._trained_s)})
        partial.replace(target)

    def _resume(self) -> None:
        target = self._folder / STATE_FILE
        self._first = 0
        if not target.exists():
            return
        with safe_open(target, framework="pt") as saved:
            progress = saved.metadata()
        state = load_file(target)
        model = {n.removeprefix("model."): v for n, v in state.items() if n.startswith("model.")}
        self._student.load_state_dict(model)
        trained = {id(p) for group in self._optimiser.param_groups for p in group["params"]}
        for name, parameter in self._student.named_parameters():
            if id(parameter) in trained and f"exp_avg.{name}" in state:
                self._optimiser.state[parameter] = {
                    moment: state[f"{moment}.{name}"].to(parameter.device)
                    for moment in ("step", "exp_avg", "exp_avg_sq")
                }
        self._draw.set_state(state["generator"])
        self._step, self._trained_s = int(progress["step"]), float(progress["trained_s"])


def parameter_groups(student: nn.Module, config: OptimiserConfig) -> Groups:
    """Sort the parameters by learning rate; front end and token embedding stay as they are."""
    groups: dict[str, list[nn.Parameter]] = {"layers": [], "decoder": [], "norms": [], "bypass": []}
    for name, parameter in student.named_parameters():
        if _stays(name, config):
            parameter.requires_grad_(False)  # noqa: FBT003
            continue
        groups[_group(name)].append(parameter)
    rates = {
        "layers": config.layers,
        "decoder": config.decoder,
        "norms": config.norms,
        "bypass": config.bypass,
    }
    return [
        {
            "params": parameters,
            "lr": rates[name],
            "peak": rates[name],
            "weight_decay": 0.0 if name == "norms" else config.weight_decay,
        }
        for name, parameters in groups.items()
        if parameters
    ]


def learning_rate(step: int, config: OptimiserConfig) -> float:
    """Give the share of the peak rate: linear warm-up, then half a cosine to zero, or Noam's decay."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.decay == "noam":
        return math.sqrt(max(1, config.warmup_steps) / (step + 1))
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def step_seed(seed: int, step: int, place: int) -> int:
    """Give what a step's dropout is drawn from on the rank at this place."""
    return int(np.random.SeedSequence((seed, step, place)).generate_state(1, np.uint64)[0])


def num_layers_of(student: nn.Module) -> int:
    """Give the encoder layers of any student."""
    num_layers = getattr(student, "num_layers", None)
    assert isinstance(num_layers, int), "expected a student that says how many layers it has"
    return num_layers


def _stays(name: str, config: OptimiserConfig) -> bool:
    if name.startswith("encoder.front_end") or "embedding" in name:
        return True
    cross = ".cross" in name or "pool_RD" in name
    return name.startswith("decoder.") and config.decoder_parts == "cross" and not cross


def _group(name: str) -> str:
    if ".bypass." in name:
        return "bypass"
    if name.startswith("encoder."):
        return "norms" if any(part in name for part in NORM_LIKE) else "layers"
    return "norms" if "pool_RD" in name else "decoder"


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))
