"""A long tail of handwritten digits: learned, fixed ETF and nearest ETF classifier.

The train split keeps 133 zeros and ever fewer of the other digits, down to a single nine. Printed after
training are the accuracies (%) of classes with many, medium and few samples, the mean cosine between the
vectors of the classes with few (minority collapse would bring it to 1), and how far the classifier is from a
simplex ETF and from the geometry of imbalanced learning (SELI).
"""

from __future__ import annotations

import torch
from torch import nn

from ddn_etf import FixedETFHead, LinearHead, NearestETFHead
from ddn_etf.batches import StratifiedBatches
from ddn_etf.data import Dataset, ExponentialProfile, digits, imbalanced
from ddn_etf.frames import centering_matrix
from ddn_etf.models import small_convnet
from ddn_etf.protocols import frequency_groups, group_accuracies, seli_distance, seli_weight_gram

DIM, EPOCHS = 16, 60


def train(head: nn.Module, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """The predictions for the test samples, and the classifier's weight."""
    torch.manual_seed(0)
    backbone = small_convnet(DIM, width=16)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
    batches = StratifiedBatches(dataset.train_labels, batch_size=64, seed=0)
    for epoch in range(EPOCHS):
        batches.set_epoch(epoch)
        for batch in batches:
            inputs, labels = dataset.train_split[batch]
            loss = nn.functional.cross_entropy(head(backbone(inputs), labels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    backbone.eval()
    head.eval()
    with torch.no_grad():
        return head(backbone(dataset.test_inputs)).argmax(1), head.weight.detach()


def main() -> None:
    torch.manual_seed(0)
    dataset = imbalanced(digits(), ExponentialProfile(100))
    counts = dataset.train_counts
    print("train samples", *counts)
    groups, simplex, seli = frequency_groups(counts), centering_matrix(10), seli_weight_gram(counts)
    for name, head in (
        ("learned", LinearHead(DIM, 10, temperature=5.0)),
        ("fixed-etf", FixedETFHead(DIM, 10)),
        ("nearest-etf", NearestETFHead(DIM, 10, class_balanced=True)),
    ):
        predicted, weight = train(head, dataset)
        accuracy = group_accuracies(predicted, dataset.test_labels, groups)
        few = nn.functional.normalize(weight[groups["few"]])
        n = len(few)
        values = accuracy | {
            "cosine": ((few @ few.mT).sum() - n) / (n * n - n),
            "to-ETF": seli_distance(weight, simplex),
            "to-SELI": seli_distance(weight, seli),
        }
        print(f"{name:11}", *(f" {label} {value:6.3f}" for label, value in values.items()))


if __name__ == "__main__":
    main()
