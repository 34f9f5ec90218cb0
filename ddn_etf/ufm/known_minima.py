"""What is known of the minimum of a given model, and what the closed form means for it.

The closed forms hold for enough features and linear layers. With fewer features, or with ReLU before
the last layer, they may still be bounds:

* Fewer features restrict the variables, so that no value is lower.
* With one layer and ReLU, (W, ReLU(H)) has the same logits in the linear model, at no larger cost,
  since ‖ReLU(H)‖ <= ‖H‖. So no value is lower, and the minimum is the same where a linear minimiser has
  no negative feature: where it is an orthogonal frame, or zero.
* With two layers and ReLU the linear minimiser may be chosen with W₁H >= 0, so that the value is
  attained; that none is lower has been observed, not proved.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ddn_etf.ufm.activations import Linear, ReLU
from ddn_etf.ufm.biases import FreeBias, NoBias, RegularizedBias
from ddn_etf.ufm.cross_entropy import CrossEntropyMinimum, cross_entropy_minimum
from ddn_etf.ufm.extended import ExtendedMinimum, extended_minimum
from ddn_etf.ufm.features_model import FeaturesModel
from ddn_etf.ufm.losses import CrossEntropy, MeanSquaredError
from ddn_etf.ufm.mean_squared_error import MeanSquaredErrorMinimum, mean_squared_error_minimum
from ddn_etf.ufm.models import ExtendedUnconstrainedFeatures, UnconstrainedFeatures

__all__ = ["ClosedForm", "Standing", "closed_form"]


class Standing(Enum):
    """What a value in closed form is for a model."""

    MINIMUM = "the global minimum"
    """No value is lower, and some point has it."""

    LOWER_BOUND = "a lower bound of the minimum"
    """No value is lower; the minimum may be larger."""

    ATTAINED = "a value that is attained; that none is lower is not proved"
    """Some point has it."""


@dataclass(frozen=True)
class ClosedForm:
    """A minimum in closed form, and what it is for a model; ``float()`` of it is the value.

    Attributes:
        minimum: with the value, and the frame of its minimisers.
        standing: what the value is for the model that was asked about.
    """

    minimum: CrossEntropyMinimum | MeanSquaredErrorMinimum | ExtendedMinimum
    standing: Standing

    def __float__(self) -> float:
        return self.minimum.value


def closed_form(model: FeaturesModel) -> ClosedForm | None:
    """The closed form for a model with its sizes, loss, bias and weight decays.

    Args:
        model: any.

    Returns:
        None where nothing is known: two layers with cross entropy, with a bias, or with ReLU and fewer
        than K features; a loss, bias or activation of one's own.
    """
    if model.activation not in (Linear(), ReLU()):
        return None
    if isinstance(model, UnconstrainedFeatures):
        return _one_layer(model)
    if isinstance(model, ExtendedUnconstrainedFeatures):
        return _two_layers(model)
    return None


def _one_layer(model: UnconstrainedFeatures) -> ClosedForm | None:
    if not isinstance(model.bias, NoBias | FreeBias | RegularizedBias):
        return None
    K, n = model.num_classes, model.samples_per_class
    decays = (model.weight_decay_W, model.weight_decay_H)
    minimum: CrossEntropyMinimum | MeanSquaredErrorMinimum
    is_orthogonal = False
    if model.loss == CrossEntropy():
        minimum = cross_entropy_minimum(K, n, *decays)
        rank = K - 1
    elif model.loss == MeanSquaredError():
        minimum = mean_squared_error_minimum(K, n, *decays, model.bias)
        has_ones = minimum.ones_direction_gain > 0
        rank = K if has_ones else K - 1
        is_orthogonal = has_ones and model.bias == NoBias()
    else:
        return None
    if minimum.is_trivial:
        return ClosedForm(minimum, Standing.MINIMUM)
    attained = model.dim >= rank and (model.activation == Linear() or is_orthogonal)
    return ClosedForm(minimum, Standing.MINIMUM if attained else Standing.LOWER_BOUND)


def _two_layers(model: ExtendedUnconstrainedFeatures) -> ClosedForm | None:
    if model.loss != MeanSquaredError() or model.bias != NoBias():
        return None
    minimum = extended_minimum(
        model.num_classes,
        model.samples_per_class,
        model.weight_decay_W2,
        model.weight_decay_W1,
        model.weight_decay_H,
    )
    is_wide = min(model.dim, model.width) >= model.num_classes
    if model.activation == Linear():
        attained = is_wide or minimum.is_trivial
        return ClosedForm(minimum, Standing.MINIMUM if attained else Standing.LOWER_BOUND)
    return ClosedForm(minimum, Standing.ATTAINED) if is_wide or minimum.is_trivial else None
