"""The options of ``ufm``: each flag and its default, once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

if TYPE_CHECKING:
    from ddn_etf.ufm.experiment import ExperimentSettings

__all__ = ["UfmOptions"]


@dataclass(frozen=True, kw_only=True)
class UfmOptions:
    """One experiment; what is not given is as the experiment has it."""

    command: ClassVar[str] = "ufm"

    experiment: Annotated[str, typer.Option(help="ufm-10, ufm-100, ufm-200 or ufm-1000.")] = (
        "ufm-10"
    )
    classes: Annotated[
        int | None, typer.Option(help="K; that of the experiment by default, as the next two.")
    ] = None
    samples_per_class: Annotated[int | None, typer.Option(help="n.")] = None
    dim: Annotated[int | None, typer.Option(help="d, at least K - 1.")] = None
    heads: Annotated[str, typer.Option(help="Heads, separated by commas.")] = (
        "linear,fixed-etf,nearest-etf"
    )
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, ...")] = 5
    temperature: Annotated[float, typer.Option(help="Length of the features.")] = 5.0
    momentum: Annotated[float, typer.Option(help="Of gradient descent.")] = 0.9
    gap: Annotated[float, typer.Option(help="How near the lower bound the loss must come.")] = 1e-2
    hold: Annotated[
        int, typer.Option(min=0, help="For how many further iterations it must stay there.")
    ] = 0
    max_iterations: Annotated[
        int | None, typer.Option(min=1, help="Iterations after which a run is given up.")
    ] = None
    feature_rates: Annotated[
        str | None,
        typer.Option(help="Learning rates of the features divided by N, separated by commas."),
    ] = None
    weight_rates: Annotated[
        str | None, typer.Option(help="Learning rates of a learned weight divided by K.")
    ] = None
    stable: Annotated[
        bool,
        typer.Option(help="Only rates of the features at which descent is stable at the start."),
    ] = False
    double: Annotated[bool, typer.Option(help="Compute in float64.")] = False
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of PyTorch.")] = 1

    def settings(self) -> ExperimentSettings:
        """The settings of the experiment.

        Raises:
            ValueError: an unknown experiment or head, or a number out of its range.
            FrameSizeError: fewer than two classes, or too few features for them.
        """
        from ddn_etf.ufm.experiment import EXPERIMENTS

        if self.experiment not in EXPERIMENTS:
            raise ValueError(
                f"unknown experiment {self.experiment!r}; known experiments: "
                f"{', '.join(EXPERIMENTS)}"
            )
        settings = EXPERIMENTS[self.experiment]
        changes: dict[str, Any] = {
            "num_classes": self.classes,
            "samples_per_class": self.samples_per_class,
            "dim": self.dim,
            "max_iterations": self.max_iterations,
            "feature_rates": _numbers("feature-rates", self.feature_rates),
            "weight_rates": _numbers("weight-rates", self.weight_rates),
        }
        return replace(
            settings,
            **{name: value for name, value in changes.items() if value is not None},
            heads=tuple(name.strip() for name in self.heads.split(",") if name.strip()),
            seeds=tuple(range(self.seeds)),
            temperature=self.temperature,
            momentum=self.momentum,
            gap=self.gap,
            hold=self.hold,
            stable_rates_only=self.stable,
            double=self.double,
        )


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(",") if number.strip())
    except ValueError as error:
        raise ValueError(f"{name} must be numbers separated by commas, found {text!r}") from error
