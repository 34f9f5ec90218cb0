"""A declarative node between two linear layers, trained with them.

The node projects its input onto the simplex in the geometry of entropy, and learns how strictly: the
temperature is a parameter of the problem.

    argmin_y  t Σ y_i log y_i − xᵀy   subject to   Σ y_i = 1,   with t = exp(s) learned
"""

from __future__ import annotations

import torch
from torch import nn

import ddn


class SoftSelection(ddn.DeclarativeNode):
    """argmin_y  exp(s) Σ y_i log y_i − xᵀy   subject to   Σ y_i = 1."""

    signature = "(n)->(n)"

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def objective(self, x, y):
        return self.log_temperature.exp() * torch.special.xlogy(y, y).sum() - x @ y

    def equality(self, x, y):
        return y.sum() - 1


def main() -> None:
    torch.manual_seed(0)
    points = torch.rand(100, 2) * 2 - 1
    targets = points.amax(dim=1, keepdim=True)  # the larger coordinate: something to select

    selection = SoftSelection()
    network = nn.Sequential(nn.Linear(2, 8), selection, nn.Linear(8, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    for step in range(41):
        loss = nn.functional.mse_loss(network(points), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            temperature = selection.log_temperature.exp().item()
            print(f"step {step:3}  loss {loss.item():.5f}  temperature {temperature:.3f}")

    solution = selection.solution(network[0](points))
    print(f"solved {int(solution.converged.sum())} of {len(points)} problems")


if __name__ == "__main__":
    main()
