"""Who sets the depth of a simulated replica: the service's controller, or nobody."""

from dataclasses import dataclass
from typing import Literal, get_args

from service.engine.base import AUTO, DepthChoice
from service.scheduling.load_control import ControlConfig

PolicyName = Literal["fixed", "brownout", "slack"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How depth is set.

    Args:
        name: of the law.
        drop: that every stream asks for, with `fixed`; the others leave it to the service.
        max_wer_increase: word errors that the laws may cost, relative to full depth.
        partial_interval_s: between partials, whatever the load; 0 lets the load say.
        setpoint_s: that the laws keep the latency of chunks to.
        early_refusal: whether streams are refused that even the least depth could not carry.
    """

    name: PolicyName
    drop: float = 0.0
    max_wer_increase: float = 0.5
    partial_interval_s: float = 0.0
    setpoint_s: float = 0.4
    early_refusal: bool = True

    @property
    def label(self) -> str:
        """Its name in a table."""
        return f"fixed {self.drop:g}" if self.name == "fixed" else self.name

    @property
    def choice(self) -> DepthChoice:
        """What every stream asks for."""
        return DepthChoice(self.drop if self.name == "fixed" else AUTO)

    @property
    def control(self) -> ControlConfig:
        """What the service's controller is set to; the rest as it comes."""
        return ControlConfig(
            law=self.name,
            setpoint_s=self.setpoint_s,
            max_wer_increase=self.max_wer_increase,
            partial_interval_s=self.partial_interval_s,
            early_refusal=self.early_refusal,
        )
