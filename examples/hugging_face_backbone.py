"""A Hugging Face image classifier whose last layer follows the class means.

Its output has the loss of the labels, as its trainer expects.
"""

from __future__ import annotations

import torch

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
        from transformers import ResNetConfig, ResNetForImageClassification
    except ImportError:
        print("transformers is missing: pip install transformers")
        return
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    # ResNetForImageClassification.from_pretrained(...) for a pretrained one.
    config = ResNetConfig(
        hidden_sizes=[32, 64], depths=[1, 1], embedding_size=32, layer_type="basic"
    )
    network = ResNetForImageClassification(config)
    model = replace_head(network, NearestETFHead(64, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for step in range(1, 16):
        inputs, labels = images(20, generator)
        loss = model(pixel_values=inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}  loss {loss.item():.3f}")
    inputs, labels = images(50, generator)
    with torch.no_grad():
        accuracy = (
            (model.eval()(pixel_values=inputs).logits.argmax(1) == labels).double().mean().item()
        )
    print(f"accuracy {accuracy:.2f}")


if __name__ == "__main__":
    main()
