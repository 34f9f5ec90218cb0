from __future__ import annotations

import copy
import io
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ddn.errors import ShapeError
from ddn_etf.errors import LabelError
from ddn_etf.heads import FixedETFHead, LinearHead, NearestETFHead
from ddn_etf.replace import LastLayerError, find_last_layer, replace_head

D, K, N = 6, 4, 12


class Network(nn.Module):
    """A backbone on images, and last layers under the names that are given."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, D, 3), nn.ReLU(), nn.Conv2d(D, D, 1))
        self.parts = list(parts)
        for name, part in parts.items():
            self.add_module(name, part)

        # SqueezeNet's classifier takes feature maps, the others take vectors.
        self.pools = not any(
            isinstance(layer, nn.Conv2d) for part in parts.values() for layer in part.modules()
        )

    def forward(self, images):
        features = self.features(images)
        return getattr(self, self.parts[0])(features.mean(dim=(2, 3)) if self.pools else features)


class Timm(Network):
    """As timm says which layer is the last."""

    num_classes = 1000

    def get_classifier(self):
        found = [getattr(self, name) for name in self.parts]
        return found[0] if len(found) == 1 else tuple(found)


class HuggingFace(nn.Module):
    """Labels by name, an output object, a loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=1000)
        self.num_labels = 1000
        self.backbone = nn.Sequential(nn.Conv2d(3, D, 3), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(D, 1000))

    def forward(self, pixel_values=None, labels=None):
        logits = self.classifier(self.backbone(pixel_values))
        loss = None if labels is None else cross_entropy(logits.view(-1, self.num_labels), labels)
        return SimpleNamespace(loss=loss, logits=logits)


# The last layers of the networks in torchvision and timm.
MODELS = {
    "resnet": (lambda: Network(fc=nn.Linear(D, 1000)), "fc"),
    "vgg": (
        lambda: Network(
            classifier=nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 1000))
        ),
        "classifier.3",
    ),
    "mobilenet": (
        lambda: Network(classifier=nn.Sequential(nn.Dropout(), nn.Linear(D, 1000))),
        "classifier.1",
    ),
    "vit": (lambda: Network(heads=nn.Sequential()), None),
    "swin": (lambda: Network(head=nn.Linear(D, 1000)), "head"),
    "squeezenet": (
        lambda: Network(
            classifier=nn.Sequential(
                nn.Dropout(),
                nn.Conv2d(D, 1000, 1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
        ),
        "classifier.1",
    ),
    "timm": (lambda: Timm(head=nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 1000))), "head.1"),
    "own": (lambda: Network(out=nn.Linear(D, 1000)), "out"),
}


def build(name):
    model, layer = MODELS[name]
    model = model()
    if name == "vit":
        model.heads.add_module("head", nn.Linear(D, 1000))
        layer = "heads.head"
    return model, layer, 16 if name == "vgg" else D


def batch():
    return torch.randn(N, 3, 5, 5), torch.arange(N) % K


@pytest.mark.parametrize("name", MODELS)
def test_last_layer_is_found_and_replaced(name):
    model, layer, dim = build(name)
    assert find_last_layer(model) == layer
    others = {key for key in model.state_dict() if not key.startswith(f"{layer}.")}
    head = NearestETFHead(dim, K)
    wrapped = replace_head(model, head)
    assert wrapped.head is head
    assert {f"model.{key}" for key in others} <= wrapped.state_dict().keys()
    images, labels = batch()
    logits = wrapped(images, labels)
    assert logits.shape == (N, K)
    cross_entropy(logits, labels).backward()
    assert model.features[0].weight.grad.abs().sum() > 0
    assert head.class_means.step == 1
    # Logits have both signs: no activation is left behind them.
    assert (logits < 0).any()
    wrapped.eval()
    assert wrapped(images).shape == (N, K)
    assert head.class_means.step == 1


def test_logits_are_those_of_the_head():
    model, _, _ = build("resnet")
    wrapped = replace_head(model, FixedETFHead(D, K))
    images, _ = batch()
    features = model.features(images).mean(dim=(2, 3))
    assert torch.equal(wrapped(images), wrapped.head(features))


def test_hugging_face_models_give_their_output_with_its_loss():
    model = HuggingFace()
    wrapped = replace_head(model, NearestETFHead(D, K))
    assert (model.num_labels, model.config.num_labels) == (K, K)
    images, labels = batch()
    output = wrapped(pixel_values=images, labels=labels)
    assert output.logits.shape == (N, K)
    torch.testing.assert_close(output.loss, cross_entropy(output.logits, labels))
    output = wrapped.eval()(pixel_values=images)
    assert output.loss is None
    assert output.logits.shape == (N, K)


def test_number_of_classes_of_a_timm_model():
    model, _, _ = build("timm")
    replace_head(model, LinearHead(D, K))
    assert model.num_classes == K


def test_labels_do_not_outlive_a_call():
    model, _, _ = build("resnet")
    wrapped = replace_head(model, NearestETFHead(D, K))
    images, labels = batch()
    wrapped(images, labels)
    with pytest.raises(LabelError, match=r"labels are missing"):
        wrapped(images)
    with pytest.raises(LabelError, match=r"outside 0\.\.3"):
        wrapped(images, labels + 4)
    assert wrapped.slot.labels is None


def test_copies_and_state_dicts():
    wrapped = replace_head(build("resnet")[0], NearestETFHead(D, K))
    images, labels = batch()
    wrapped(images, labels)
    copied = copy.deepcopy(wrapped)
    assert copied.head is not wrapped.head
    assert copied.head is copied.model.fc.head
    file = io.BytesIO()
    torch.save(wrapped.state_dict(), file)
    file.seek(0)
    fresh = replace_head(build("resnet")[0], NearestETFHead(D, K))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh.eval()(images), wrapped.eval()(images))
    assert torch.equal(copied.eval()(images), wrapped(images))
    file = io.BytesIO()
    torch.save(wrapped, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert loaded.head is loaded.model.fc.head


def test_the_head_takes_dtype_device_and_mode_of_the_layer():
    model = build("resnet")[0].double().eval()
    wrapped = replace_head(model, NearestETFHead(D, K))
    assert wrapped.head.weight.dtype == torch.float64
    assert not wrapped.head.training


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (lambda: Timm(head=nn.Linear(D, 9), head_dist=nn.Linear(D, 9)), "'head', 'head_dist'"),
        (lambda: Network(head=nn.Linear(D, 9), head_dist=nn.Linear(D, 9)), "'head', 'head_dist'"),
        (lambda: Network(fc=nn.Linear(D, 9), classifier=nn.Linear(D, 9)), "'fc', 'classifier'"),
        (lambda: Network(first=nn.Linear(D, D), second=nn.Linear(D, 9)), "second: Linear"),
        (lambda: Network(out=nn.Conv2d(D, 9, 3)), "linear layers are: none"),
        (lambda: Network(fc=nn.Identity()), "linear layers are: none"),
    ],
)
def test_what_is_not_clear_is_an_error_that_lists_the_layers(model, named):
    with pytest.raises(LastLayerError, match="say which") as error:
        replace_head(model(), NearestETFHead(D, K))
    assert named in str(error.value)


def test_the_layer_can_be_named():
    model = Network(first=nn.Linear(D, D), second=nn.Linear(D, 9))
    wrapped = replace_head(model, NearestETFHead(D, K), name="first")
    assert model.first.head is wrapped.head
    for name in ("third", "features", ""):
        with pytest.raises(LastLayerError, match="second: Linear"):
            replace_head(model, NearestETFHead(D, K), name=name)


def test_another_number_of_features_is_refused_and_changes_nothing():
    model = build("resnet")[0]
    with pytest.raises(ShapeError, match="make the head with dim=6"):
        replace_head(model, NearestETFHead(D + 1, K))
    assert isinstance(model.fc, nn.Linear)
    with pytest.raises(TypeError, match="a model and a head"):
        replace_head(model, nn.Linear(D, K))
    with pytest.raises(TypeError, match="a model and a head"):
        replace_head("resnet18", NearestETFHead(D, K))


def test_sequential_models_end_in_their_last_module():
    model = nn.Sequential(nn.Flatten(), nn.Linear(75, D), nn.ReLU(), nn.Linear(D, 9))
    assert find_last_layer(model) == "3"
    images, labels = batch()
    assert replace_head(model, NearestETFHead(D, K))(images, labels).shape == (N, K)


class _Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(8, 3)

    def forward(self, x, mask=None):
        return self.fc(x if mask is None else x * mask)


def test_a_second_input_of_the_model_is_not_taken_for_labels():
    model = replace_head(_Masked(), FixedETFHead(8, 3, temperature=None)).eval()
    x, mask = torch.randn(5, 8), torch.tensor([1.0, 0.0] * 4)
    assert torch.equal(model(x, mask), model(x, mask=mask))
    assert not torch.equal(model(x, mask), model(x))
    labels = torch.arange(5) % 3
    assert torch.equal(model(x, labels), model(x))


class TwoPlaces(nn.Module):
    """One layer under two names, as with tied weights; ``forward`` calls both."""

    def __init__(self):
        super().__init__()
        self.middle = nn.Linear(D, D)
        self.fc = self.middle

    def forward(self, features):
        return self.fc(torch.relu(self.middle(features)))


@pytest.mark.parametrize("name", [None, "fc", "middle"])
def test_a_layer_at_two_places_is_refused(name):
    model = TwoPlaces()
    with pytest.raises(LastLayerError, match=r"several places, middle, fc: .* a layer of its own"):
        replace_head(model, FixedETFHead(D, K), name=name)
    assert isinstance(model.fc, nn.Linear)
    model.fc = copy.deepcopy(model.fc)
    assert replace_head(model, FixedETFHead(D, K)).eval()(torch.randn(N, D)).shape == (N, K)


def test_another_head_in_the_place_of_the_first():
    model, _, _ = build("resnet")
    model = replace_head(model.double().eval(), NearestETFHead(D, K))
    images = torch.randn(N, 3, 5, 5).double()
    assert replace_head(model, FixedETFHead(D, 3)) is model
    assert model.head.weight.dtype == torch.float64
    assert not model.head.training
    assert model(images).shape == (N, 3)
    with pytest.raises(ShapeError, match=f"head there has {D} inputs .* dim={D + 1}"):
        replace_head(model, FixedETFHead(D + 1, K))
    with pytest.raises(LastLayerError, match="replaced by a head already; give"):
        replace_head(model.model, FixedETFHead(D, K))


def test_sequences_of_features_are_refused():
    model = nn.Sequential(nn.Identity(), nn.Linear(D, 1000))
    with pytest.raises(ShapeError, match=r"shape \(2, 5, 6\).*pool over tokens"):
        replace_head(model, FixedETFHead(D, K))(torch.randn(2, 5, D))


def test_a_model_that_reads_the_weight_of_its_last_layer_gets_a_clear_word():
    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(D, 1000)

        def forward(self, features):
            return nn.functional.linear(features, self.fc.weight, self.fc.bias)

    model = replace_head(Direct(), FixedETFHead(D, K))
    assert (model.slot.in_features, model.slot.out_features) == (D, K)
    with pytest.raises(AttributeError, match=r"reads the weight .* FixedETFHead.* call the layer"):
        model(torch.randn(N, D))
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        _ = model.slot.other
