"""A small backbone whose last layer is the simplex ETF nearest to the class means.

The data are synthetic: ten clusters in 32 dimensions, bent by a random map so that they are not
linearly separable.
"""

from __future__ import annotations

import torch
from torch import nn

from ddn_etf import NearestETFHead, metrics

CLASSES, INPUTS, FEATURES = 10, 32, 16


def synthetic(samples: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (samples, INPUTS) and labels (samples,)."""
    fixed = torch.Generator().manual_seed(0)  # the same clusters for training and test
    centers = torch.randn(CLASSES, INPUTS, generator=fixed)
    bend = torch.randn(INPUTS, INPUTS, generator=fixed) / INPUTS**0.5
    labels = torch.arange(samples) % CLASSES
    points = centers[labels] + 0.5 * torch.randn(samples, INPUTS, generator=generator)
    return torch.sin(2 * points @ bend), labels


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    inputs, labels = synthetic(1000, generator)
    test_inputs, test_labels = synthetic(500, generator)

    backbone = nn.Sequential(nn.Linear(INPUTS, 64), nn.ReLU(), nn.Linear(64, FEATURES))
    head = NearestETFHead(FEATURES, CLASSES)  # nothing to learn: it follows the features
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.05, momentum=0.9)

    for epoch in range(1, 11):
        head.train()
        for batch in torch.randperm(len(inputs)).split(100):
            logits = head(backbone(inputs[batch]), labels[batch])
            loss = nn.functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        head.eval()
        with torch.no_grad():
            features = backbone(test_inputs)
            accuracy = (head(features).argmax(1) == test_labels).double().mean().item()
            collapse = metrics.neural_collapse(head.normalize(features), test_labels, head.weight)
        nc1 = collapse["NC1"].item()
        print(f"epoch {epoch:2}  loss {loss.item():.3f}  accuracy {accuracy:.3f}  NC1 {nc1:.3f}")


if __name__ == "__main__":
    main()
