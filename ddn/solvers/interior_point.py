"""Primal-dual interior-point method, for problems with inequalities or bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddn.kkt.dense import assemble
from ddn.lagrangian import Lagrangian
from ddn.linear_solve import equilibrate
from ddn.problem import Problem
from ddn.solution import SolverResult, Status

__all__ = ["InteriorPoint"]


@dataclass(frozen=True)
class InteriorPoint:
    """argmin f s.t. h = 0, g ≤ 0 (first version)."""

    max_iterations: int = 200
    tolerance: float | None = None
    barrier: float = 0.0

    def solve(
        self, problem: Problem, operands: Sequence[Tensor], start: Tensor | None = None
    ) -> SolverResult:
        batch = problem.batch_shape(operands)
        flat = problem.flatten_batch(operands)
        y = problem.starting_point(operands) if start is None else start
        y = y.reshape(batch.numel(), problem.num_variables).clone()
        found = [self._one(problem, problem.select(flat, torch.tensor([i])), y[i : i + 1]) for i in range(len(y))]
        y = torch.cat([part[0] for part in found])
        multipliers = torch.cat([part[1] for part in found])
        status = torch.tensor([part[2] for part in found], device=y.device)
        iterations = torch.tensor([part[3] for part in found], device=y.device)
        return SolverResult(
            y.reshape(*batch, -1), multipliers.reshape(*batch, -1), status.reshape(batch), iterations.reshape(batch)
        )

    def _one(self, problem, operands, y):
        eps = torch.finfo(y.dtype).eps
        lagrangian = Lagrangian(problem)
        g, h = problem.inequality(y, operands), problem.equality(y, operands)
        q, p = g.shape[-1], h.shape[-1]
        J = problem.constraint_jacobian(y, operands)
        exists = (J[..., p:, :].abs().amax(-1) > 0) | (g != -1)
        grad = problem.gradient(y, operands)
        norm = J[..., p:, :].norm(dim=-1)
        length = y.abs().amax(-1, keepdim=True)
        s = torch.maximum(-g, 0.1 * torch.where(norm > 0, norm, 1) * length)
        nu = 0.1 * grad.abs().amax().clamp_min(eps) * length / s * exists
        lam = torch.zeros_like(h)
        every = torch.ones_like(exists)
        status = Status.MAX_ITERATIONS
        active = every
        for k in range(self.max_iterations):
            A, G = J[..., :p, :], J[..., p:, :]
            mu_now = (nu * s).sum() / exists.sum().clamp_min(1)
            rd = grad + (J.mT @ torch.cat([lam, nu], -1).unsqueeze(-1)).squeeze(-1)
            H = lagrangian.hessian(y, torch.cat([lam, nu], -1), every, operands)
            sd = max(grad.abs().amax(), (J.abs().mT @ torch.cat([lam, nu], -1).abs().unsqueeze(-1)).amax(), eps**0.5 * 1e-3)
            ll = y.abs().amax().clamp_min(eps)
            err = max(rd.abs().amax() / sd, (h.abs() / (A.norm(dim=-1) * ll).clamp_min(eps)).amax() if p else 0,
                      ((g + s).abs() * exists / (norm * ll).clamp_min(eps)).amax() if q else 0,
                      ((nu * s - self.barrier).abs() / (self.barrier or sd * ll)).amul(exists).amax() if False else (((nu * s - self.barrier) * exists).abs() / (self.barrier or sd * ll)).amax() if q else 0)
            if not torch.isfinite(torch.as_tensor(err)):
                status = Status.NOT_FINITE
                break
            if err < eps ** (2 / 3):
                status = Status.CONVERGED
                break
            W = nu / s
            K = assemble(H + G.mT @ (W.unsqueeze(-1) * G), A)
            size = equilibrate(K)
            shift = 0.0
            from ddn.linear_solve import factorize
            for _ in range(30):
                D = torch.cat([torch.full_like(y, shift), torch.full_like(h, -(eps**0.75))], -1)
                F = factorize(K * size.unsqueeze(-1) * size.unsqueeze(-2) + torch.diag_embed(D))
                ev = F.block_eigenvalues()
                if bool(((ev < 0).sum(-1) == p).all()) and bool((ev.abs() > 10 * eps).all()):
                    break
                shift = max(10 * shift, 1e-8)

            def direction(mu, extra=0.0):
                comp = mu - nu * s - extra
                t = (comp + nu * (g + s)) / s * exists
                r = torch.cat([rd + (G.mT @ t.unsqueeze(-1)).squeeze(-1), h], -1)
                sol = F.solve(-(r * size).unsqueeze(-1)).squeeze(-1) * size
                d, dl = sol[..., : y.shape[-1]], sol[..., y.shape[-1] :]
                ds = -(g + s) - (G @ d.unsqueeze(-1)).squeeze(-1)
                return d, dl, ds * exists, (comp - nu * ds) / s * exists

            def reach(v, dv):
                return torch.where(dv < 0, -v / dv, torch.inf).amin().clamp_max(1) if q else torch.tensor(1.0)

            mu = max(0.1 * float(mu_now), self.barrier)
            d, dl, ds, dn = direction(mu)
            tau = 0.995
            a = min(1.0, tau * reach(s, ds) if reach(s, ds) < 1 or q else 1.0, tau * reach(nu, dn) if q else 1.0)
            a = torch.as_tensor(a, dtype=y.dtype)
            if self.barrier and a > 0.99 and min(reach(s, ds), reach(nu, dn)) >= 1:
                a = torch.ones_like(a)
            for _ in range(40):
                trial = y + a * d
                values = torch.cat([problem.objective(trial, operands).unsqueeze(-1), problem.constraints(trial, operands)], -1)
                if bool(values.isfinite().all()):
                    break
                a = a / 2
            y, s, nu, lam = trial, s + a * ds, nu + a * dn, lam + a * dl
            h, g = values[..., 1 : 1 + p], values[..., 1 + p :]
            grad, J = problem.gradient(y, operands), problem.constraint_jacobian(y, operands)
        if status == Status.CONVERGED and not self.barrier:
            nu = torch.where(nu * norm / sd > s / (norm * ll).clamp_min(eps), nu, 0)
        return y, torch.cat([lam, nu], -1), int(status), k
