"""Replace the last layer of a ready-made classifier by a head.

Networks of torchvision, timm and Hugging Face end in one linear layer under one of a few names. It is
found, checked and replaced in place; what comes back takes inputs *and* labels, which a head such as
:class:`~ddn_etf.heads.NearestETFHead` learns from:

    model = torchvision.models.resnet18()
    model = replace_head(model, NearestETFHead(512, 10))
    logits = model(images, labels)          # in training
    logits = model.eval()(images)           # in evaluation
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ddn.errors import DeclarativeNodeError, ShapeError
from ddn_etf.heads import Head

__all__ = ["HeadSlot", "LastLayerError", "ModelWithHead", "find_last_layer", "replace_head"]

# Where the libraries keep their last layer: torchvision fc, classifier, head, heads; timm says it by
# get_classifier; Hugging Face classifier (and fc).
_NAMES = ("classifier", "fc", "head", "heads")
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.Softmax, nn.LogSoftmax)


class LastLayerError(DeclarativeNodeError, ValueError):
    """A model without one last linear layer, or with several that could be it."""


class HeadSlot(nn.Module):
    """A head in the place of a linear layer: features to logits, with the labels of the batch.

    In place of ``nn.Linear`` it takes features (N, d). In place of a 1×1 convolution it takes maps
    (N, d, height, width), averages them over their positions, and returns logits (N, K, 1, 1).

    Attributes:
        head: the head.
        labels: (N,) of the batch that comes next, or None; set by :class:`ModelWithHead`.
        in_features: d, as of ``nn.Linear``.
        out_features: K.

    It has no ``weight`` and no ``bias``: features are normalised first, and in training the weight
    follows the batch, so that a product with the weight would not be what the head computes.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        self.labels: Tensor | None = None

    @property
    def in_features(self) -> int:
        """d, number of features."""
        return self.head.dim

    @property
    def out_features(self) -> int:
        """K, number of classes."""
        return self.head.num_classes

    def forward(self, features: Tensor) -> Tensor:
        """Logits, of as many dimensions as the features.

        Raises:
            ShapeError: neither (N, d) nor (N, d, height, width).
        """
        if features.ndim == 4:
            logits: Tensor = self.head(features.mean(dim=(2, 3)), self.labels)
            return logits[:, :, None, None]
        if features.ndim != 2:
            raise ShapeError(
                f"the model calls its last layer with features of shape {tuple(features.shape)}, "
                "and a head classifies one vector per sample, (N, d): pool over tokens or positions "
                "before the last layer (or say which layer is the last, replace_head(..., name=...))"
            )
        return self.head(features, self.labels)  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            raise AttributeError(
                f"the model reads the {name} of its last layer, which was replaced by a "
                f"{type(self.head).__name__}: its logits are more than a product with a weight; "
                f"have the model call the layer, or read slot.head.{name} where that is meant"
            )
        return super().__getattr__(name)


class ModelWithHead(nn.Module):
    """A model whose last layer is a head; called with inputs and labels.

    Args:
        model: with a :class:`HeadSlot` in it.
        slot: that slot.
    """

    def __init__(self, model: nn.Module, slot: HeadSlot) -> None:
        super().__init__()
        self.model = model
        # Known as part of the model only, so that the state dict has it once.
        self._slot = [slot]
        parameters = inspect.signature(model.forward).parameters
        self._takes_labels = "labels" in parameters
        self._takes_one_input = len(parameters) == 1

    @property
    def slot(self) -> HeadSlot:
        """Where the head is."""
        return self._slot[0]

    @property
    def head(self) -> Head:
        """The head, with its ``weight``, ``bias`` and ``normalize``."""
        return self.slot.head

    def forward(self, *inputs: Any, labels: Tensor | None = None, **options: Any) -> Any:
        """What the model returns: logits (N, K), or an output object that has them.

        Args:
            *inputs: of the model; a second one is the labels, if the model takes one input alone, or
                if it is a vector of one integer per sample.
            labels: (N,) integers in 0..K-1; needed in training by heads that learn from them. A model
                whose own ``forward`` has an argument of that name, as those of Hugging Face have,
                gets them too, and adds its loss to the output.
            **options: further arguments of the model, by name.

        Raises:
            LabelError: in training mode, labels that are missing or out of range.
        """
        given = list(inputs)
        if len(given) == 2 and labels is None and self._is_labels(*given):
            labels = given.pop()
        if self._takes_labels and labels is not None:
            options["labels"] = labels
        self.slot.labels = labels
        try:
            return self.model(*given, **options)
        finally:
            self.slot.labels = None

    def _is_labels(self, first: Any, second: Any) -> bool:
        if self._takes_one_input:
            return True
        return (
            isinstance(second, Tensor)
            and not second.is_floating_point()
            and second.shape == first.shape[:1]
        )


def find_last_layer(model: nn.Module) -> str:
    """The name of the last linear layer, as in ``model.get_submodule(name)``.

    It is an ``nn.Linear`` or a 1×1 ``nn.Conv2d``, found in this order:

    1. what ``model.get_classifier()`` returns (timm);
    2. the last such layer inside the one of ``model.classifier``, ``model.fc``, ``model.head`` and
       ``model.heads`` that has any (torchvision, Hugging Face), provided no other part whose name
       ends in ``classifier`` or begins with ``head_`` or ``fc_`` has one;
    3. the last module of an ``nn.Sequential``;
    4. the only ``nn.Linear`` of the model.

    Raises:
        LastLayerError: there is none, or there are several; the message lists all linear layers.
    """
    if any(isinstance(module, HeadSlot) for module in model.modules()):
        raise LastLayerError(
            f"the last layer of this {type(model).__name__} was replaced by a head already; give "
            "replace_head what it returned the first time to put another head there"
        )
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    get_classifier = getattr(model, "get_classifier", None)
    if callable(get_classifier):
        found = get_classifier()
        if isinstance(found, nn.Module) and (inside := list(_linear_layers(found))):
            if len(inside) > 1:
                raise _ambiguous(model, [names[layer] for _, layer in inside])
            return names[inside[0][1]]
        if isinstance(found, tuple | list):
            raise _ambiguous(model, [names[part] for part in found if part in names])
    # Distilled transformers and segmentation networks have another one beside it.
    places = {
        name: part
        for name, part in model.named_children()
        if name in _NAMES or name.startswith(("head_", "fc_")) or name.endswith("classifier")
    }
    filled = {
        name: layers for name, place in places.items() if (layers := list(_linear_layers(place)))
    }
    if len(filled) > 1:
        raise _ambiguous(model, [names[layers[-1][1]] for layers in filled.values()])
    if filled:
        return names[next(iter(filled.values()))[-1][1]]
    if isinstance(model, nn.Sequential) and len(model) and _is_linear_layer(model[-1]):
        return names[model[len(model) - 1]]
    linear: list[str] = [names[layer] for layer in model.modules() if isinstance(layer, nn.Linear)]
    if len(linear) == 1:
        return linear[0]
    raise _ambiguous(model, [])


def replace_head(model: nn.Module, head: Head, *, name: str | None = None) -> ModelWithHead:
    """Put a head in the place of the last linear layer of a classifier.

    The model is changed in place: keep what is returned. Its other parameters, pretrained ones for
    example, stay as they are. Activations that follow the layer in the same ``nn.Sequential``
    (SqueezeNet has one) are replaced by ``nn.Identity``, since logits have either sign. What the
    model says of its number of classes (``num_classes``, ``num_labels``, ``config.num_labels``) is
    brought up to date.

    Args:
        model: a classifier: of torchvision, timm, the Hugging Face models for image classification,
            or of your own; or what this function returned, to put another head there.
        head: for as many features as the layer has inputs.
        name: of the layer, where it cannot be found (:func:`find_last_layer`).

    Returns:
        The model, to be called as ``model(inputs, labels)`` in training and as ``model(inputs)`` in
        evaluation; the head is ``model.head``.

    Raises:
        LastLayerError: no last layer, several, or ``name`` is no linear layer; lists all there are.
            Or the layer is at two places of the model.
        ShapeError: the head is for another number of features.
        TypeError: not a model and a head.
    """
    if not isinstance(model, nn.Module) or not isinstance(head, Head):
        raise TypeError(
            f"replace_head takes a model and a head of ddn_etf.heads, found {type(model).__name__} "
            f"and {type(head).__name__}"
        )
    if isinstance(model, ModelWithHead) and name is None:
        return _exchange_head(model, head)
    name = find_last_layer(model) if name is None else name
    layer = dict(model.named_modules(remove_duplicate=False)).get(name)
    if layer is None or not name or not _is_linear_layer(layer):
        raise LastLayerError(
            f"{name!r} is no linear layer of {type(model).__name__}; its linear layers are:"
            f"{_listed(model)}"
        )
    places = [place for place, part in model.named_modules(remove_duplicate=False) if part is layer]
    if len(places) > 1:
        # Which of them the forward pass calls, or whether all, cannot be seen from here.
        raise LastLayerError(
            f"one layer of {type(model).__name__} has several places, {', '.join(places)}: a head "
            "in one of them would leave the layer in the others; give each place a layer of its "
            "own (copy.deepcopy) or delete those that forward does not call"
        )
    dim = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    _check_dim(f"the layer {name!r} of {type(model).__name__} has", dim, head)
    parameter = next(layer.parameters())
    slot = HeadSlot(head.to(device=parameter.device, dtype=parameter.dtype)).train(layer.training)
    place, _, key = name.rpartition(".")
    parent = model.get_submodule(place)
    setattr(parent, key, slot)
    if isinstance(parent, nn.Sequential):
        following = list(parent).index(slot) + 1
        for position in range(following, len(parent)):
            if isinstance(parent[position], _ACTIVATIONS):
                parent[position] = nn.Identity()
    _tell_number_of_classes(model, head.num_classes)
    return ModelWithHead(model, slot)


def _exchange_head(model: ModelWithHead, head: Head) -> ModelWithHead:
    """Another head in the slot of a model that has one."""
    _check_dim("the head there has", model.head.dim, head)
    before = model.head.weight
    model.slot.head = head.to(device=before.device, dtype=before.dtype).train(model.slot.training)
    _tell_number_of_classes(model.model, head.num_classes)
    return model


def _check_dim(what: str, dim: int, head: Head) -> None:
    if dim != head.dim:
        raise ShapeError(
            f"{what} {dim} inputs and the head is for dim={head.dim}; make the head with dim={dim}"
        )


def _is_linear_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    )


def _linear_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return (pair for pair in module.named_modules() if _is_linear_layer(pair[1]))


def _listed(model: nn.Module) -> str:
    lines = [
        f"\n  {name}: {layer}"
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) or (name.startswith(_NAMES) and _is_linear_layer(layer))
    ]
    more = f"\n  ... and {len(lines) - 20} before these" if len(lines) > 20 else ""
    return "".join(lines[-20:]) + more if lines else " none"


def _ambiguous(model: nn.Module, found: list[str]) -> LastLayerError:
    what = f"any of {', '.join(map(repr, found))} may be" if found else "it is not clear which is"
    return LastLayerError(
        f"{type(model).__name__}: {what} the last layer; say which, replace_head(model, head, "
        f"name=...). Its linear layers are:{_listed(model)}"
    )


def _tell_number_of_classes(model: nn.Module, num_classes: int) -> None:
    for owner in (model, getattr(model, "config", None)):
        for attribute in ("num_classes", "num_labels"):
            if isinstance(getattr(owner, attribute, None), int):
                setattr(owner, attribute, num_classes)
