"""The options of ``ufm-minimize`` and ``ufm-saddles``: each flag and its default, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

import typer

if TYPE_CHECKING:
    import ddn_etf.ufm.solvers
    from ddn_etf.ufm import Bias, FeaturesModel, UnconstrainedFeatures

__all__ = ["ModelOptions", "UfmMinimizeOptions", "UfmSaddlesOptions"]

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Sizes, loss, bias and weight decays of a model with one layer."""

    classes: Annotated[int, typer.Option(help="K, number of classes.")]
    samples_per_class: Annotated[int, typer.Option(help="n, samples of each class.")]
    dim: Annotated[int, typer.Option(help="d, number of features.")]
    loss: Annotated[str, typer.Option(help="cross-entropy or mean-squared-error.")] = (
        "cross-entropy"
    )
    bias: Annotated[str, typer.Option(help="none, free or regularized.")] = "free"
    weight_decay_w: Annotated[float, typer.Option(help="Of the last layer, λ_W.")] = 5e-3
    weight_decay_h: Annotated[float, typer.Option(help="Of the features, λ_H.")] = 1e-3
    weight_decay_b: Annotated[
        float | None, typer.Option(help="Of the bias, λ_b; with --bias regularized.")
    ] = None
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of PyTorch.")] = 1

    def bias_object(self) -> Bias:
        """The bias that ``bias`` and ``weight_decay_b`` describe.

        Raises:
            ValueError: an unknown name, or a weight decay that is missing or has no bias.
        """
        from ddn_etf.ufm import FreeBias, NoBias, RegularizedBias

        decay = self.weight_decay_b
        if self.bias == "regularized" and decay is None:
            raise ValueError("bias regularized needs its weight decay: give --weight-decay-b")
        if self.bias != "regularized" and decay is not None:
            raise ValueError(
                f"weight-decay-b belongs to bias regularized, and the bias is {self.bias}: leave one "
                "of them out"
            )
        known: dict[str, Bias] = {"none": NoBias(), "free": FreeBias()}
        if decay is not None:
            return RegularizedBias(decay)
        return _find("bias", self.bias, known, also=("regularized",))

    def one_layer(self) -> UnconstrainedFeatures:
        """The linear model with one layer.

        Raises:
            ValueError: an unknown name, or a number out of its range.
            FrameSizeError: fewer than two classes.
        """
        from ddn_etf.ufm import CrossEntropy, DataTerm, MeanSquaredError, UnconstrainedFeatures

        losses: dict[str, DataTerm] = {
            "cross-entropy": CrossEntropy(),
            "mean-squared-error": MeanSquaredError(),
        }
        return UnconstrainedFeatures(
            num_classes=self.classes,
            samples_per_class=self.samples_per_class,
            dim=self.dim,
            loss=_find("loss", self.loss, losses),
            bias=self.bias_object(),
            weight_decay_W=self.weight_decay_w,
            weight_decay_H=self.weight_decay_h,
        )


@dataclass(frozen=True, kw_only=True)
class UfmMinimizeOptions(ModelOptions):
    """A model, a solver, and how many random starts."""

    command: ClassVar[str] = "ufm-minimize"

    classes: Annotated[int, typer.Option(help="K, number of classes.")] = 10
    samples_per_class: Annotated[int, typer.Option(help="n, samples of each class.")] = 10
    dim: Annotated[int, typer.Option(help="d, number of free features.")] = 16
    layers: Annotated[int, typer.Option(min=1, max=2, help="After the free features.")] = 1
    width: Annotated[
        int | None, typer.Option(help="Features between two layers; as many as --dim by default.")
    ] = None
    weight_decay_w1: Annotated[
        float | None,
        typer.Option(help="Of the first of two layers; that of the last one by default."),
    ] = None
    activation: Annotated[
        str, typer.Option(help="Of what the last layer sees: linear or relu.")
    ] = "linear"
    solver: Annotated[
        str, typer.Option(help="lbfgs, newton-cg (in a trust region) or gradient-descent.")
    ] = "lbfgs"
    learning_rate: Annotated[
        float | None, typer.Option(help="Of gradient descent; 0.5 by default.")
    ] = None
    momentum: Annotated[float | None, typer.Option(help="Of gradient descent; 0.9 by default.")] = (
        None
    )
    tolerance: Annotated[
        float | None, typer.Option(help="Of the gradient, to stop at; the solver's by default.")
    ] = None
    max_iterations: Annotated[
        int | None, typer.Option(help="Steps at most; the solver's by default.")
    ] = None
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, ...")] = 5
    scale: Annotated[float, typer.Option(help="Of the entries of the random starts.")] = 1.0

    def check(self) -> None:
        """Find out whether every name and number is good, before anything takes time.

        Raises:
            ValueError: one is not.
            FrameSizeError: fewer than two classes.
        """
        from ddn_etf.ufm.checks import check_number

        self.model()
        self.solver_object()
        check_number("scale", self.scale)

    def model(self) -> FeaturesModel:
        """The model.

        Raises:
            ValueError: an unknown name, a number out of its range, or an option of two layers where
                there is one.
            FrameSizeError: fewer than two classes.
        """
        from ddn_etf.ufm import Activation, ExtendedUnconstrainedFeatures, Linear, ReLU

        activations: dict[str, Activation] = {"linear": Linear(), "relu": ReLU()}
        activation = _find("activation", self.activation, activations)
        simple = replace(self.one_layer(), activation=activation)
        if self.layers == 1:
            for name in ("width", "weight_decay_w1"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name.replace('_', '-')} belongs to two layers, and there is one: leave it "
                        "out, or give --layers 2"
                    )
            return simple
        first = self.weight_decay_w if self.weight_decay_w1 is None else self.weight_decay_w1
        return ExtendedUnconstrainedFeatures(
            num_classes=self.classes,
            samples_per_class=self.samples_per_class,
            dim=self.dim,
            width=self.dim if self.width is None else self.width,
            loss=simple.loss,
            bias=simple.bias,
            activation=activation,
            weight_decay_W2=self.weight_decay_w,
            weight_decay_W1=first,
            weight_decay_H=self.weight_decay_h,
        )

    def solver_object(self) -> ddn_etf.ufm.solvers.Solver:
        """The solver.

        Raises:
            ValueError: an unknown name, a number out of its range, or an option of gradient descent
                for another solver.
        """
        from ddn_etf.ufm import LBFGS, GradientDescent, TrustRegion

        solvers: dict[str, ddn_etf.ufm.solvers.Solver] = {
            "lbfgs": LBFGS(),
            "newton-cg": TrustRegion(),
            "gradient-descent": GradientDescent(0.5),
        }
        chosen = _find("solver", self.solver, solvers)
        of_descent = {"learning_rate": self.learning_rate, "momentum": self.momentum}
        of_all = {"tolerance": self.tolerance, "max_iterations": self.max_iterations}
        given = {n: v for n, v in (of_descent | of_all).items() if v is not None}
        for name in of_descent:
            if name in given and self.solver != "gradient-descent":
                raise ValueError(
                    f"{name.replace('_', '-')} belongs to gradient descent, and the solver is "
                    f"{self.solver}: leave it out, or give --solver gradient-descent"
                )
        changed: ddn_etf.ufm.solvers.Solver = replace(chosen, **given)  # type: ignore[type-var]
        return changed


@dataclass(frozen=True, kw_only=True)
class UfmSaddlesOptions(ModelOptions):
    """A model, and how many of its critical points are looked for."""

    command: ClassVar[str] = "ufm-saddles"

    classes: Annotated[int, typer.Option(help="K, number of classes.")] = 5
    samples_per_class: Annotated[int, typer.Option(help="n, samples of each class.")] = 3
    dim: Annotated[
        int, typer.Option(help="d, number of features; theory speaks of more than K.")
    ] = 7
    count: Annotated[int, typer.Option(min=1, help="Number of critical points wanted.")] = 100
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that is random.")] = 0
    max_attempts: Annotated[
        int | None,
        typer.Option(min=1, help="Searches after which to give up; ten per point by default."),
    ] = None


def _find(what: str, name: str, known: Mapping[str, Found], *, also: tuple[str, ...] = ()) -> Found:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; give one of {', '.join((*known, *also))}")
    return known[name]
