"""Few-shot class-incremental learning of digits: one simplex ETF for all classes, present and future.

After Yang et al., "Neural Collapse Inspired Feature-Classifier Alignment for Few-Shot Class-Incremental
Learning" (2023): six digits are learned from all their samples; then the backbone is frozen, and two new
digits at a time arrive with five samples each. A projection goes on learning from these and from one mean
feature per old class. With the fixed ETF and dot-regression the class vectors never move; the baseline
learns them by cross entropy in the same way. Printed is the accuracy on all classes seen so far.
"""

from __future__ import annotations

import torch
from torch import nn

from ddn_etf import FixedETFHead, LinearHead
from ddn_etf.batches import ShuffledBatches
from ddn_etf.data import digits
from ddn_etf.heads import Head
from ddn_etf.losses import CrossEntropy, DotRegression, Loss
from ddn_etf.models import small_convnet
from ddn_etf.protocols import few_shot_sessions, predict_seen


def learn(layers: nn.Module, head: Head, loss: Loss, split: tuple, epochs: int) -> None:
    """Gradient descent on the layers and on what the head learns."""
    inputs, labels = split
    parameters = [*layers.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    batches = ShuffledBatches(len(labels), min(64, len(labels)), seed=0)
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        for batch in batches:
            value = loss(head.outputs(layers(inputs[batch]), labels[batch]), labels[batch])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()


def main() -> None:
    torch.manual_seed(0)
    first, *later = few_shot_sessions(digits(), base=6, way=2, shot=5)
    for name, head, loss in (
        ("fixed-etf", FixedETFHead(32, 10), DotRegression()),
        ("learned", LinearHead(32, 10, temperature=5.0), CrossEntropy()),
    ):
        backbone, projection = small_convnet(64, width=16), nn.Linear(64, 32)
        learn(nn.Sequential(backbone, projection), head, loss, first.train[:], epochs=30)
        backbone.eval().requires_grad_(False)
        means, old = torch.zeros(0, 64), torch.zeros(0, dtype=torch.int64)
        for session in (first, *later):
            features, labels = backbone(session.train.inputs), session.train.labels
            if session is not first:
                both = torch.cat([means, features]), torch.cat([old, labels])
                learn(projection, head, loss, both, epochs=100)
            new = [features[labels == k].mean(0) for k in session.new_classes]
            means, old = torch.vstack([means, *new]), torch.tensor(session.seen_classes)
            with torch.no_grad():
                logits = head(projection(backbone(session.test.inputs)))
            right = (predict_seen(logits, session) == session.test.labels).double().mean().item()
            print(f"{name:9}  classes {len(old):2}  accuracy {right:.3f}")


if __name__ == "__main__":
    main()
