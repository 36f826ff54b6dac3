"""A second device without a GPU: it computes with the processor, and refuses whatever a GPU would.

Its tensors say that they are on the device `elsewhere`. An operation on one of them and on a tensor
of the processor raises, unless that one is a single number, and so does reading one as numpy before
it was brought back. Whoever forgets to move something is found out.
"""

import functools
from typing import Any

import torch
from torch import Tensor, library
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

NAME = "elsewhere"
BRINGS_OVER = ("aten::_to_copy", "aten::copy_")
"""What may have a tensor of either device."""

CPU = torch.device("cpu")


class _Device:
    """What torch asks of a device's module; there is one device and it draws no numbers."""

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        del seed


class Distant(Tensor):
    """A tensor of the device; `near` holds its numbers."""

    near: Tensor

    @staticmethod
    def __new__(cls: type["Distant"], near: Tensor) -> "Distant":
        make: Any = Tensor._make_wrapper_subclass
        made: Distant = make(
            cls,
            near.shape,
            strides=near.stride(),
            dtype=near.dtype,
            device=torch.device(NAME, 0),
        )
        made.near = near
        return made

    def tolist(self) -> Any:
        """Give the numbers, as a GPU's tensor does too."""
        numbers: Any = self.near
        return numbers.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        # Views of what was made before inference mode cannot be had of such tensors within it.
        with torch.inference_mode(mode=False), torch.no_grad():
            return _compute(func, args, kwargs or {})

    __torch_function__ = getattr(torch._C, "_disabled_torch_function_impl")  # noqa: B009


class SecondDevice(TorchFunctionMode):
    """What a test runs in that uses the device: what torch cannot ask of one written in Python.

    That is making a tensor of numbers, also of those in an index.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        named = dict(kwargs or {})
        if func is torch.tensor and torch.device(named.get("device") or CPU).type == NAME:
            return func(*args, **(named | {"device": CPU})).to(named["device"])
        if func is Tensor.__getitem__ and isinstance(args[0], Distant):
            args = (args[0], _moved(args[1]))
        return func(*args, **named)


def _moved(index: Any) -> Any:
    return pytree.tree_map_only(
        list,
        lambda one: torch.tensor(one).to(NAME),
        index,
        is_leaf=lambda one: isinstance(one, list),
    )


@functools.cache
def second_device() -> torch.device:
    """Give the device, known to torch from the first call on."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Device())
    _operations().fallback(_compute_plainly, "PrivateUse1")
    return torch.device(NAME, 0)


@functools.cache
def _operations() -> library.Library:
    return library.Library("_", "IMPL")


def _compute_plainly(func: Any, *args: Any, **kwargs: Any) -> Any:
    with torch.inference_mode(mode=False), torch.no_grad():
        return _compute(func, args, kwargs)


def _compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the numbers, and say of what comes out that it is on the device."""
    name = func._schema.name
    given, shape = pytree.tree_flatten((args, kwargs))
    tensors = [one for one in given if isinstance(one, Tensor)]
    strangers = [one for one in tensors if one.dim() and not isinstance(one, Distant)]
    if strangers and name not in BRINGS_OVER:
        raise RuntimeError(
            f"expected all tensors of {name} on {NAME}, "
            f"got one of shape {tuple(strangers[0].shape)} on {strangers[0].device}"
        )
    to = kwargs.get("device")
    stays = any(isinstance(one, Distant) for one in tensors)
    goes = stays if to is None else torch.device(to).type == NAME
    near_args, near_kwargs = pytree.tree_unflatten([_near(one) for one in given], shape)
    result = func(*near_args, **near_kwargs)
    known = {id(one.near): one for one in tensors if isinstance(one, Distant)}

    def told(one: Any) -> Any:
        if not goes or not isinstance(one, Tensor):
            return one
        return known[id(one)] if id(one) in known else Distant(one)

    return args[0] if name == "aten::copy_" else pytree.tree_map(told, result)


def _near(one: Any) -> Any:
    if isinstance(one, Distant):
        return one.near
    return CPU if isinstance(one, torch.device) else one
