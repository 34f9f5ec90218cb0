"""Two processes train one network, each on half of every batch, as on two GPUs: run it with ``python``.

Class means are exchanged, so both have the same frame in every step, although neither ever sees a
sample of the classes that the other one has.
"""

from __future__ import annotations

import socket

import torch
import torch.multiprocessing as multiprocessing
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ddn_etf.heads import NearestETFHead

CLASSES, INPUTS, FEATURES, WORLD = 6, 16, 8, 2


class Network(nn.Module):
    """Backbone and head in one module, so that DDP calls both."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(INPUTS, 32), nn.ReLU(), nn.Linear(32, FEATURES))
        self.head = NearestETFHead(FEATURES, CLASSES)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Logits."""
        return self.head(self.backbone(inputs), labels)


def work(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=WORLD)
    train(rank)  # its DDP wrapper must be gone before the group is, or it may block for ever
    distributed.destroy_process_group()


def train(rank: int) -> None:
    torch.manual_seed(0)
    centres = torch.randn(CLASSES, INPUTS)
    labels = torch.arange(600) % CLASSES
    inputs = centres[labels] + torch.randn(600, INPUTS)
    own = labels % WORLD == rank  # every class is on one rank only
    network = DistributedDataParallel(Network())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(1, 6):
        for batch in own.nonzero().flatten().split(50):
            loss = nn.functional.cross_entropy(network(inputs[batch], labels[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        frames = [torch.empty(CLASSES, FEATURES) for _ in range(WORLD)]
        distributed.all_gather(frames, network.module.head.weight)
        difference = (frames[0] - frames[1]).abs().max().item()
        if rank == 0:
            print(f"epoch {epoch}  loss {loss.item():.3f}  frames differ by {difference:.1e}")
    if rank == 0:
        hits = network.module.eval()(inputs).argmax(1) == labels
        print(f"accuracy {hits.double().mean().item():.3f}")


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(work, args=(port,), nprocs=WORLD)
