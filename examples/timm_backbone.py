"""A timm network whose last layer follows the class means."""

from __future__ import annotations

import torch
from torch import nn

from ddn_etf.heads import NearestETFHead
from ddn_etf.replace import replace_head

CLASSES = 5


def images(samples: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of one pattern per class with noise, (samples, 3, 32, 32), and labels."""
    patterns = torch.randn(CLASSES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(samples) % CLASSES
    noise = torch.randn(samples, 3, 32, 32, generator=generator)
    return patterns[labels] + 0.5 * noise, labels


def main() -> None:
    try:
        import timm
    except ImportError:
        print("timm is missing: pip install timm")
        return
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    # pretrained=True for a pretrained one. timm says itself which layer is the last, and its inputs.
    network = timm.create_model("resnet10t", pretrained=False)
    model = replace_head(network, NearestETFHead(network.num_features, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for step in range(1, 16):
        inputs, labels = images(20, generator)
        loss = nn.functional.cross_entropy(model(inputs, labels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}  loss {loss.item():.3f}")
    inputs, labels = images(50, generator)
    with torch.no_grad():
        accuracy = (model.eval()(inputs).argmax(1) == labels).double().mean().item()
    print(f"accuracy {accuracy:.2f}")


if __name__ == "__main__":
    main()
