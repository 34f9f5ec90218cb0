"""Better mistakes: heads that know a hierarchy against heads that do not.

A generated set whose classes are confused with their relatives (ddn_etf.data.hierarchical), one
network for all heads, five seeds; CRM is re-ranking by conditional risk. The set on which the
settings below were chosen (--data-seed 1) is not the one that is reported (--data-seed 0).

Run:  python -m benchmarks.hierarchy_aware [--seeds 5] [--data-seed 0]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.timing import environment
from ddn_etf.data import Dataset
from ddn_etf.data.hierarchical import hierarchical_mixture
from ddn_etf.heads import FixedETFHead, Head, LinearHead, NearestETFHead
from ddn_etf.heads.hierarchy_aware import HAFrameHead, NearestHAFrameHead
from ddn_etf.hierarchy import FeatureTransform, Hierarchy, balanced_hierarchy
from ddn_etf.losses import CrossEntropy, HierarchyAware, Loss
from ddn_etf.metrics.hierarchical import conditional_risk, hierarchical_metrics

GAMMA, ALPHA, TEMPERATURE = 2.0, 0.4, 5.0
EPOCHS, BATCH, RATE, WEIGHT_DECAY = 12, 128, 0.1, 5e-4
METRICS = ("accuracy", "mistake_severity", "hd@5", "hp@5")


@dataclass(frozen=True)
class Method:
    """A head and its loss."""

    head: Callable[[Hierarchy], Head]
    loss: Loss


def methods() -> Mapping[str, Method]:
    def nearest(hierarchy: Hierarchy, centered: bool) -> Head:
        return NearestHAFrameHead(
            hierarchy.distances,
            hierarchy.num_classes,
            GAMMA,
            centered=centered,
            temperature=TEMPERATURE,
        )

    haf = HierarchyAware(ALPHA)
    return {
        "linear, CE": Method(lambda h: LinearHead(h.num_classes, h.num_classes), CrossEntropy()),
        "fixed ETF, CE": Method(
            lambda h: FixedETFHead(h.num_classes, h.num_classes, temperature=TEMPERATURE),
            CrossEntropy(),
        ),
        "nearest ETF, CE": Method(
            lambda h: NearestETFHead(h.num_classes, h.num_classes, temperature=TEMPERATURE),
            CrossEntropy(),
        ),
        "fixed HAFrame, CE": Method(
            lambda h: HAFrameHead(h.distances, h.num_classes, GAMMA, temperature=TEMPERATURE),
            CrossEntropy(),
        ),
        "fixed HAFrame, HAF": Method(
            lambda h: HAFrameHead(h.distances, h.num_classes, GAMMA, temperature=None), haf
        ),
        "nearest HAFrame, CE": Method(lambda h: nearest(h, True), CrossEntropy()),
        "nearest HAFrame, HAF, b=-Wμ": Method(lambda h: nearest(h, True), haf),
        "nearest HAFrame, HAF, b=0": Method(lambda h: nearest(h, False), haf),
    }


def train(method: Method, hierarchy: Hierarchy, data: Dataset, seed: int) -> Tensor:
    """Test logits after training."""
    torch.manual_seed(seed)
    inputs, labels = data.train_inputs, data.train_labels
    assert isinstance(inputs, Tensor)
    backbone = nn.Sequential(
        nn.Linear(inputs.shape[1], 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        FeatureTransform(256, hierarchy.num_classes),
    )
    head = method.head(hierarchy)
    optimizer = torch.optim.SGD(
        [*backbone.parameters(), *head.parameters()], RATE, 0.9, weight_decay=WEIGHT_DECAY
    )
    steps = EPOCHS * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels))
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            loss = method.loss(head.outputs(backbone(inputs[batch]), labels[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        logits: Tensor = head.eval()(backbone.eval()(data.test_inputs))
    return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data-seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=1.2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    hierarchy = balanced_hierarchy((4, 4, 4))
    data = hierarchical_mixture(
        hierarchy,
        noise=arguments.noise,
        train_per_class=100,
        test_per_class=100,
        seed=arguments.data_seed,
    )
    D, labels = hierarchy.distances, data.test_labels
    results: dict[str, list[dict[str, float]]] = {}
    start = time.perf_counter()
    for name, method in methods().items():
        for seed in range(arguments.seeds):
            logits = train(method, hierarchy, data, seed)
            scores = {name: logits, f"{name}, CRM": -conditional_risk(logits, D)}
            for scored, values in scores.items():
                if scored == name or name == "linear, CE":
                    found = hierarchical_metrics(values, labels, D, (5,))
                    results.setdefault(scored, []).append({k: v.item() for k, v in found.items()})
    print(environment(), f"{time.perf_counter() - start:.0f} s")
    print(f"K={hierarchy.num_classes}, noise {arguments.noise}, data seed {arguments.data_seed}")
    print(f"{'median [range]':28}", *(f"{metric:>24}" for metric in METRICS))
    for name, runs in results.items():
        print(f"{name:28}", end="")
        for metric in METRICS:
            values = [run[metric] for run in runs]
            middle = statistics.median(values)
            print(f" {middle:8.3f} [{min(values):.3f}, {max(values):.3f}]", end="")
        print()


if __name__ == "__main__":
    main()
