"""A bilevel problem: choose the ridge penalty by the loss on validation data.

    min_s  ‖A_val y(s) − b_val‖²/m_val   where   y(s) = argmin_y ‖A y − b‖² + exp(s) ‖y‖²

The outer gradient passes through the inner argmin, and so does the outer Hessian: the outer
problem is solved by Newton's method.
"""

from __future__ import annotations

import torch

import ddn


class Ridge(ddn.DeclarativeNode):
    """argmin_y  ‖A y − b‖² + exp(s) ‖y‖²."""

    signature = "(m,n),(m),()->(n)"

    def objective(self, A, b, s, y):
        return (A @ y - b).square().sum() + s.exp() * y.square().sum()


def main() -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    truth = torch.randn(20)
    A, A_validation = torch.randn(30, 20), torch.randn(100, 20)
    b = A @ truth + 3 * torch.randn(30)
    b_validation = A_validation @ truth + 3 * torch.randn(100)
    ridge = Ridge()

    def validation_loss(s):
        return (A_validation @ ridge(A, b, s) - b_validation).square().mean()

    s = torch.tensor(0.0)
    for iteration in range(8):
        slope = torch.func.grad(validation_loss)(s)
        curvature = torch.func.hessian(validation_loss)(s)
        loss = validation_loss(s)
        print(
            f"iteration {iteration}  penalty {s.exp().item():8.4f}  "
            f"validation loss {loss.item():.6f}  slope {slope.item():+.1e}"
        )
        # Newton's step where the curvature is positive, downhill elsewhere; at most 1 in log(penalty).
        step = -slope / curvature if curvature > 0 else -slope.sign()
        s = s + step.clamp(-1, 1)

    grid = torch.linspace(-6, 8, 1401)
    solutions = ridge(A, b, grid)  # one batch: A and b are shared by all penalties
    best = (solutions @ A_validation.mT - b_validation).square().mean(dim=1).min()
    print(f"best of a grid of {len(grid)} penalties: validation loss {best.item():.6f}")


if __name__ == "__main__":
    main()
