"""CVXPY's atoms one by one: however CVXPY rewrites them, the gradient is that of the solution."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import torch

from ddn.conic import CvxpyNode


def on_vectors():
    """Objectives f(x) that are added to ‖x − p‖²."""
    ones = np.ones(4)
    return {
        "norm1": lambda x: 0.5 * cp.norm1(x),
        "norm_inf": lambda x: 0.5 * cp.norm_inf(x),
        "norm2": lambda x: 0.5 * cp.norm(x),
        "pnorm": lambda x: 0.5 * cp.pnorm(x, 3),
        "power_three_halves": lambda x: cp.sum(cp.power(cp.abs(x), 1.5)),
        "power_four": lambda x: cp.sum(cp.power(x, 4)),
        "log_sum_exp": lambda x: cp.log_sum_exp(3 * x),
        "max": cp.max,
        "sum_largest": lambda x: cp.sum_largest(x, 2),
        "exp": lambda x: cp.sum(cp.exp(x)),
        "inv_pos": lambda x: cp.sum(cp.inv_pos(x + 4)),
        "geo_mean": lambda x: -cp.geo_mean(x + 4),
        "harmonic_mean": lambda x: -cp.harmonic_mean(x + 4),
        "rel_entr": lambda x: cp.sum(cp.rel_entr(x + 4, ones)),
        "kl_div": lambda x: cp.sum(cp.kl_div(x + 4, 2 * ones)),
        "log": lambda x: -cp.sum(cp.log(x + 4)),
        "tv": lambda x: 0.3 * cp.tv(x),
        "logistic": lambda x: cp.sum(cp.logistic(2 * x)),
        "xexp": lambda x: cp.sum(cp.xexp(cp.pos(x))),
        "huber": lambda x: cp.sum(cp.huber(x, 0.3)),
        "quad_over_lin": lambda x: cp.quad_over_lin(x, cp.sum(x) + 12),
    }


def on_matrices():
    """Objectives f(S) that are added to ‖S − P‖², S symmetric."""
    return {
        "norm_nuc": lambda S: 0.7 * cp.normNuc(S),
        "sigma_max": lambda S: 0.7 * cp.sigma_max(S),
        "lambda_max": cp.lambda_max,
        "lambda_sum_largest": lambda S: cp.lambda_sum_largest(S, 2),
        "log_det": lambda S: -cp.log_det(S),
        "tr_inv": lambda S: cp.tr_inv(S + 6 * np.eye(3)),
        "matrix_frac": lambda S: cp.matrix_frac(np.ones(3), S),
        "rows": lambda S: 0.8 * cp.sum(cp.norm(S, axis=1)),
        "condition": lambda S: cp.lambda_max(S) - cp.lambda_min(S),
    }


def constrained():
    """Feasible sets of x onto which p is projected."""
    return {
        "ball": lambda x: [cp.norm(x) <= 1],
        "ball_of_norm_3": lambda x: [cp.pnorm(x, 3) <= 1],
        "ball_of_norm_1": lambda x: [cp.norm1(x) <= 1],
        "softmax_cap": lambda x: [cp.log_sum_exp(x) <= 0.5],
        "entropy_floor": lambda x: [cp.sum(cp.entr(x)) >= 1.0, cp.sum(x) == 1],
        "hyperbola": lambda x: [cp.geo_mean(x[:2]) >= 1],
        "second_order_cone": lambda x: [cp.SOC(x[0], x[1:])],
    }


def check(problem, parameter, variable):
    """Against finite differences, wherever these agree among themselves; somewhere they must."""
    node = CvxpyNode(problem, [parameter], [variable])
    compared = 0
    for scale in (0.3, 1.0, 3.0):
        p = scale * torch.randn(parameter.shape, dtype=torch.float64)
        p.requires_grad_()
        direction, weight = torch.randn_like(p), torch.randn_like(p)
        (gradient,) = torch.autograd.grad((weight * node(p)).sum(), p)

        def difference(h, p=p.detach(), direction=direction, weight=weight):
            return (weight * (node(p + h * direction) - node(p - h * direction))).sum() / (2 * h)

        coarse, fine = difference(2e-5), difference(1e-5)
        if abs(coarse - fine) < 1e-5:
            slope = (gradient * direction).sum()
            torch.testing.assert_close(slope, (4 * fine - coarse) / 3, rtol=1e-6, atol=1e-6)
            compared += 1
    assert compared


@pytest.mark.parametrize("name", on_vectors())
def test_on_vectors(name):
    p, x = cp.Parameter(4), cp.Variable(4)
    objective = cp.sum_squares(x - p) + on_vectors()[name](x)
    check(cp.Problem(cp.Minimize(objective)), p, x)


@pytest.mark.parametrize("name", on_matrices())
def test_on_matrices(name):
    p, S = cp.Parameter((3, 3)), cp.Variable((3, 3), symmetric=True)
    objective = cp.sum_squares(S - p) + on_matrices()[name](S)
    check(cp.Problem(cp.Minimize(objective)), p, S)


@pytest.mark.parametrize("name", constrained())
def test_constrained(name):
    p, x = cp.Parameter(4), cp.Variable(4)
    check(cp.Problem(cp.Minimize(cp.sum_squares(x - p)), constrained()[name](x)), p, x)


def test_optimal_transport():
    C, T = cp.Parameter((3, 3)), cp.Variable((3, 3))
    objective = cp.sum(cp.multiply(C, T)) - 0.1 * cp.sum(cp.entr(T))
    margins = [cp.sum(T, axis=0) == 1 / 3, cp.sum(T, axis=1) == 1 / 3]
    check(cp.Problem(cp.Minimize(objective), margins), C, T)
