"""A ResNet-18 with 512 features and a learned last layer, and with K features and a fixed simplex ETF.

The claim of Zhu et al., "A Geometric Analysis of Neural Collapse with Unconstrained Features" (2021), on
scikit-learn's digits: a fifth fewer trained parameters at the same accuracy. Both networks of a seed see the
same batches; optimiser and schedule are the same, and tuned for neither. There is no augmentation. On a GPU
convolutions run in bfloat16, and the whole set lies on the device.

Run:  python -m benchmarks.fixed_etf_resnet [--device cuda] [--epochs 60] [--seeds 5] [--size 32]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from benchmarks.timing import environment
from ddn_etf.batches import ShuffledBatches
from ddn_etf.data import Dataset, digits
from ddn_etf.heads import FixedETFHead, Head, LinearHead, NearestETFHead
from ddn_etf.models import resnet18

BATCH = 128
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4
K = 10

# The published fixed classifier takes the features as they are, so temperature=None.
HEADS: dict[str, tuple[int, Callable[[int], Head]]] = {
    "learned, d = 512": (512, lambda d: LinearHead(d, K)),
    "fixed ETF, d = K": (K, lambda d: FixedETFHead(d, K, temperature=None)),
    "nearest ETF, d = K": (K, lambda d: NearestETFHead(d, K)),
}


def trained_parameters(*modules: nn.Module) -> int:
    """Numbers that the optimiser changes."""
    return sum(
        parameter.numel()
        for module in modules
        for parameter in module.parameters()
        if parameter.requires_grad
    )


def accuracy(backbone: nn.Module, head: Head, inputs: Tensor, labels: Tensor) -> float:
    """Per cent, in evaluation mode."""
    with torch.no_grad():
        predicted = torch.cat(
            [head(backbone(part).float()).argmax(1) for part in inputs.split(512)]
        )
    return 100 * (predicted == labels).double().mean().item()


def train(
    dim: int, make: Callable[[int], Head], dataset: Dataset, epochs: int, seed: int
) -> tuple[float, float]:
    """Train and test accuracy after the last epoch, per cent."""
    torch.manual_seed(seed)
    device = dataset.train_labels.device
    backbone = resnet18(dim, channels=dataset.input_shape[0]).to(
        device, memory_format=torch.channels_last
    )
    head = make(dim).to(device)
    optimizer = torch.optim.SGD(
        [*backbone.parameters(), *head.parameters()],
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
    )
    batches = ShuffledBatches(len(dataset.train_labels), BATCH, seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    narrow = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        for batch in batches:
            labels = dataset.train_labels[batch]
            with narrow:
                features = backbone(dataset.train_inputs[batch])
            loss = cross_entropy(head(features.float(), labels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    backbone.eval()
    head.eval()
    with narrow:
        return (
            accuracy(backbone, head, dataset.train_inputs, dataset.train_labels),
            accuracy(backbone, head, dataset.test_inputs, dataset.test_labels),
        )


def prepared(size: int, device: torch.device, images: int | None) -> Dataset:
    """The digits on the device, enlarged to ``size`` x ``size`` pixels."""
    dataset = digits()

    def inputs(pixels: Tensor) -> Tensor:
        enlarged = interpolate(pixels, size=(size, size), mode="bilinear")
        return enlarged.to(device, memory_format=torch.channels_last)

    return Dataset(
        "digits",
        K,
        inputs(dataset.train_inputs[:images]),
        dataset.train_labels[:images].to(device),
        inputs(dataset.test_inputs),
        dataset.test_labels.to(device),
    )


def main() -> None:
    """Print a table: parameters, and accuracy over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--images", type=int, help="use the first train images only")
    options = parser.parse_args()
    dataset = prepared(options.size, torch.device(options.device), options.images)
    print(environment(), f"| {options.epochs} epochs, {options.size} x {options.size} pixels")
    baseline = None
    for name, (dim, make) in HEADS.items():
        start = time.perf_counter()
        results = [train(dim, make, dataset, options.epochs, seed) for seed in range(options.seeds)]
        seconds = (time.perf_counter() - start) / options.seeds
        size = trained_parameters(resnet18(dim), make(dim))
        baseline = baseline or size
        train_accuracy, test_accuracy = zip(*results, strict=True)
        listed = " ".join(f"{value:.2f}" for value in test_accuracy)
        print(
            f"{name:20} {size:12,d} parameters with 3 channels ({100 * (size / baseline - 1):+.2f} %)"
            f"  train {statistics.mean(train_accuracy):.2f} %"
            f"  test {statistics.mean(test_accuracy):.2f} % ({listed})  {seconds:.0f} s per run"
        )


if __name__ == "__main__":
    main()
