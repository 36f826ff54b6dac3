"""Several processes that train one student, as `torchrun` starts them; alone, all of it is nothing.

Every rank holds the whole student, hears batches of its own and averages gradients with the others.
The depth of a step is drawn alike on all of them, so that a parameter has a gradient everywhere or
nowhere; where a short utterance leaves one out, its gradient there is zero.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the others.

    Args:
        place: of this one, from 0.
        size: how many there are.
    """

    place: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes logs and checkpoints."""
        return self.place == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the ranks; one that a rank lacks is zero there.

        What no rank has a gradient of stays without.
        """
        if self.size == 1:
            return
        trained = list(parameters)
        present = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32)
        present = present.to(trained[0].device)
        distributed.all_reduce(present, distributed.ReduceOp.MAX)
        found: list[Tensor] = []
        for parameter, anywhere in zip(trained, present.tolist(), strict=True):
            if anywhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                found.append(parameter.grad)
        flat = torch.cat([gradient.flatten() for gradient in found])
        distributed.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(found, flat.split([g.numel() for g in found]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def largest(self, value: int) -> int:
        """Give the largest of the ranks' numbers."""
        if self.size == 1:
            return value
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        largest = torch.tensor(value, device=device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return int(largest.item())

    def share(self, module: nn.Module) -> None:
        """Give every rank the first one's parameters and statistics."""
        if self.size > 1:
            for value in module.state_dict().values():
                distributed.broadcast(value, 0)

    def wait(self) -> None:
        """Go on when every rank has come here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Ranks()
"""One process."""


def join_ranks() -> Ranks:
    """Join the processes that `torchrun` started beside this one, if it did."""
    if not distributed.is_torchelastic_launched():
        return ALONE
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(distributed.get_rank() % torch.cuda.device_count())
    return Ranks(distributed.get_rank(), distributed.get_world_size())
