from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ddn_etf.errors import FrameSizeError
from ddn_etf.frames import centering_matrix
from ddn_etf.metrics import SplitStatistics, nc2, nc3
from ddn_etf.ufm import (
    FreeBias,
    MeanSquaredError,
    NoBias,
    RegularizedBias,
    UnconstrainedFeatures,
    cross_entropy_minimum,
    extended_minimum,
    mean_squared_error_minimum,
    normalized_lower_bound,
)
from tests.ddn_etf.ufm.cases import EXTENDED, ONE_LAYER, REFERENCE, K, at_minimum, d, n, name

EXACT = 1e-12
ROUNDING = 1e-14

decays = st.floats(-4, 0).map(lambda power: 10.0**power)


@pytest.mark.parametrize("case", REFERENCE["ce"], ids=str)
def test_cross_entropy_of_the_reference(case):
    found = cross_entropy_minimum(case["K"], case["n"], case["lam_W"], case["lam_H"])
    assert float(found) == pytest.approx(case["f"], rel=EXACT)
    assert found.rho == pytest.approx(case["rho"], rel=EXACT)
    assert found.margin == pytest.approx(case["margin"], rel=EXACT)
    W, H, b = found.minimizer(case["K"] - 1)
    assert W.square().sum().item() == pytest.approx(case["rho"], rel=EXACT)
    logits = H @ W.mT + b
    assert (logits[0, 0] - logits[0, 1]).item() == pytest.approx(case["margin"], rel=EXACT)


@pytest.mark.parametrize("case", REFERENCE["mse"], ids=str)
def test_mean_squared_error_of_the_reference(case):
    sizes = (case["K"], case["n"], case["lam_W"], case["lam_H"])
    K = case["K"]
    none, free = case["bias_free_OF"], case["unreg_bias_ETF"]
    regular = case["reg_bias"]
    found = mean_squared_error_minimum(*sizes)
    assert found.c == pytest.approx(case["c"], rel=EXACT)
    assert found.value == pytest.approx(none["f"], rel=EXACT)
    assert found.gram_scale == pytest.approx(none["gram_scale"], rel=EXACT)
    assert_close(found.gram, none["gram_scale"] * torch.eye(K).double(), rtol=EXACT, atol=EXACT)
    found = mean_squared_error_minimum(*sizes, FreeBias())
    assert found.value == pytest.approx(free["f"], rel=EXACT)
    assert found.b == pytest.approx(free["b"], rel=EXACT)
    expected = free["gram_scale"] * centering_matrix(K, dtype=torch.float64)
    assert_close(found.gram, expected, rtol=EXACT, atol=EXACT)
    found = mean_squared_error_minimum(*sizes, RegularizedBias(regular["lam_b"]))
    assert found.value == pytest.approx(regular["f"], rel=EXACT)
    assert found.b == pytest.approx(regular["b"], rel=EXACT)
    gain = regular["ones_direction_gain"]
    assert found.ones_direction_gain == pytest.approx(gain, rel=EXACT)
    threshold = regular["threshold_lam_b"]
    for factor, is_simplex in ((1 - 1e-9, True), (1 + 1e-9, False)):
        near = mean_squared_error_minimum(*sizes, RegularizedBias(factor * threshold))
        assert (near.ones_direction_gain == 0) is is_simplex


def test_extended_minimum_of_the_facts_sheet():
    found = extended_minimum(4, 5, 2e-3, 1e-3, 2e-3)
    assert found.value == pytest.approx(0.0162273460, abs=1e-10)
    # The sheet has the argmin of values, which are flat there.
    assert found.sigma == pytest.approx(2.2117006511, abs=1e-9)
    slope = (found.sigma - math.sqrt(5)) / 20 + math.cbrt(4e-9) / math.cbrt(found.sigma)
    assert abs(slope) < 1e-16


@pytest.mark.parametrize("case", [*ONE_LAYER, EXTENDED], ids=name)
@pytest.mark.parametrize("seed", [None, 0])
def test_minimizers_are_critical_and_have_the_value(case, seed):
    model, minimum = case
    value, gradient = model.value_and_gradient(at_minimum(model, minimum, seed))
    assert value.item() == pytest.approx(minimum.value, rel=EXACT)
    assert gradient.norm() < ROUNDING


@given(st.integers(2, 30), st.integers(1, 50), decays, decays)
def test_cross_entropy_against_minimization_over_the_margin(K, n, W, H):
    q = math.sqrt(n * W * H)

    def value(margin):
        return math.log1p((K - 1) * math.exp(-margin)) + (K - 1) * q * margin

    found = cross_entropy_minimum(K, n, W, H)
    best = scipy.optimize.minimize_scalar(value, bounds=(0, 60), method="bounded").fun
    assert found.value == pytest.approx(min(best, value(0.0)), abs=1e-8)
    assert found.is_trivial == (K * q >= 1)
    assert value(found.margin) == pytest.approx(found.value, rel=EXACT)


@given(
    st.integers(2, 30), st.integers(1, 50), decays, decays, st.floats(-3, 2).map(lambda p: 10.0**p)
)
def test_mean_squared_error_against_minimization_over_gains(K, n, W, H, bias_decay):
    c = K * math.sqrt(n * W * H)
    for bias, quadratic in (
        (NoBias(), None),
        (FreeBias(), 0.0),
        (RegularizedBias(bias_decay), bias_decay),
    ):
        found = mean_squared_error_minimum(K, n, W, H, bias)
        # Bounded least squares in (x, a, t): an independent solver of the same convex problem.
        t_limit = 0.0 if quadratic is None else 2.0

        def value(z, quadratic=quadratic):
            x, a, t = z
            ones = (a + t - 1) ** 2 / 2 + c * a + (quadratic or 0.0) * t**2 / 2
            return ((K - 1) * ((x - 1) ** 2 / 2 + c * x) + ones) / K

        best = scipy.optimize.minimize(
            value, np.array([0.5, 0.5, 0.0]), bounds=[(0, 2), (0, 2), (0, t_limit)]
        )
        assert found.value == pytest.approx(best.fun, abs=1e-7)
        point = (found.gain, found.ones_direction_gain, found.b * K)
        assert value(point) == pytest.approx(found.value, rel=EXACT)


@given(st.integers(2, 30), st.integers(1, 50), decays, decays, decays)
def test_extended_minimum_against_a_fine_grid(K, n, W2, W1, H):
    L = math.cbrt(W2 * W1 * H)
    sigma = np.linspace(0, math.sqrt(n), 20001)
    values = K * ((sigma - math.sqrt(n)) ** 2 / (2 * K * n) + 1.5 * L * sigma ** (2 / 3))
    found = extended_minimum(K, n, W2, W1, H)
    assert values.min() >= found.value - 1e-12
    assert found.value == pytest.approx(values.min(), abs=1e-5)


@pytest.mark.parametrize("factor", [1 - 1e-12, 1 + 1e-12])
def test_extended_minimum_at_the_threshold(factor):
    # κ = K (nλ³)^{1/3} = 2^{-4/3}, where zero and t = ½ have the same value.
    decay = factor * 2 ** (-4 / 3) / 2
    found = extended_minimum(2, 1, decay, decay, decay)
    assert found.is_trivial is (factor > 1)
    assert found.value == pytest.approx(0.5, rel=1e-11)
    assert found.sigma == pytest.approx(0.0 if factor > 1 else 0.5, rel=1e-11)


def test_weak_weight_decay_is_computed_to_full_relative_accuracy():
    # f* ~ p (1 + m), far below the rounding of 1 - p.
    found = cross_entropy_minimum(10, 1, 1e-40, 1e-40)
    assert found.value == pytest.approx(9e-40 * (1 - math.log(1e-40)), rel=1e-12)
    found = mean_squared_error_minimum(10, 1, 1e-40, 1e-40)
    assert found.value == pytest.approx(1e-39, rel=1e-12)
    found = extended_minimum(10, 1, 1e-40, 1e-40, 1e-40)
    assert found.value == pytest.approx(1.5 * 1e-39, rel=1e-12)


def test_structure_of_the_minimizers():
    W, H, _ = cross_entropy_minimum(K, n, 5e-3, 1e-3).minimizer(d)
    assert nc2(W) < 1e-14
    means = H[::n]
    assert_close(means, math.sqrt(5e-3 / (1e-3 * n)) * W)
    minimum = mean_squared_error_minimum(K, n, 4e-3, 2e-3, RegularizedBias(0.05))
    W, H, _ = minimum.minimizer(d, generator=torch.Generator().manual_seed(1))
    assert_close(H[::n] @ H[::n].mT, minimum.gram)
    assert_close(W, math.sqrt(n * 2e-3 / 4e-3) * H[::n])
    labels = torch.arange(K).repeat_interleave(n)
    free = mean_squared_error_minimum(K, n, 4e-3, 2e-3, FreeBias()).minimizer(d)
    assert nc3(SplitStatistics.from_features(free.H, labels, K), free.W) < 1e-14
    minimum = extended_minimum(K, n, 2e-3, 1e-3, 2e-3)
    W2, W1, H = minimum.minimizer(d, 7, generator=torch.Generator().manual_seed(1))
    for frame in (H[::n], H[::n] @ W1.mT):
        gram = frame @ frame.mT
        assert_close(gram, gram[0, 0] * torch.eye(K).double())
    for a, b in ((W2, H[::n] @ W1.mT), (W2 @ W1, H[::n])):
        assert_close(a / a.norm(), b / b.norm())
    for decay, block in ((2e-3, W2), (1e-3, W1), (2e-3, H)):
        assert decay * block.square().sum().item() == pytest.approx(minimum.rho, rel=EXACT)


def test_fewest_features():
    # Rank K - 1 fits in K - 1 features, rank K does not.
    free = mean_squared_error_minimum(K, n, 4e-3, 2e-3, FreeBias())
    model = UnconstrainedFeatures(
        num_classes=K,
        samples_per_class=n,
        dim=K - 1,
        weight_decay_W=4e-3,
        weight_decay_H=2e-3,
        bias=FreeBias(),
        loss=MeanSquaredError(),
    )
    assert model.value_and_gradient(at_minimum(model, free))[1].norm() < ROUNDING
    with pytest.raises(FrameSizeError, match=r"dim is 3 and this minimum has rank 4"):
        mean_squared_error_minimum(K, n, 4e-3, 2e-3).minimizer(K - 1)
    with pytest.raises(FrameSizeError, match="rank 3"):
        cross_entropy_minimum(K, n, 5e-3, 1e-3).minimizer(K - 2)
    with pytest.raises(FrameSizeError, match="width"):
        extended_minimum(K, n, 2e-3, 1e-3, 2e-3).minimizer(d, K - 1)
    assert cross_entropy_minimum(K, n, 0.5, 0.5).minimizer(1).W.shape == (K, 1)


def test_lower_bound_of_normalized_features():
    K, tau = 10, 5.0
    W = torch.eye(K).double() - 1 / K
    W = W / W.norm(dim=1, keepdim=True)
    loss = torch.nn.functional.cross_entropy(tau * W @ W.mT, torch.arange(K))
    assert normalized_lower_bound(K, tau) == pytest.approx(loss.item(), rel=EXACT)
    assert normalized_lower_bound(K, 0.0) == pytest.approx(math.log(K), rel=EXACT)


@given(st.integers(2, 6), st.integers(1, 6), st.floats(0.1, 10), st.integers(0, 2**31))
def test_nothing_is_below_the_lower_bound(K, n, tau, seed):
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape):
        matrix = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return matrix / matrix.norm(dim=1, keepdim=True)

    W, H = unit(K, 3), unit(K * n, 3)
    # Near the optimum as well as anywhere.
    H = H + 3 * W.repeat_interleave(n, dim=0)
    H = tau * H / H.norm(dim=1, keepdim=True)
    logits = H @ W.mT + torch.randn(K, generator=generator, dtype=torch.float64)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(K).repeat_interleave(n))
    assert loss >= normalized_lower_bound(K, tau) - 1e-12


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cross_entropy_minimum(1, 5, 1e-3, 1e-3), FrameSizeError, "num_classes is 1"),
        (lambda: cross_entropy_minimum(4, 0, 1e-3, 1e-3), ValueError, "samples_per_class"),
        (lambda: cross_entropy_minimum(4, 2.5, 1e-3, 1e-3), TypeError, "samples_per_class"),
        (lambda: cross_entropy_minimum(4, 5, 0.0, 1e-3), ValueError, "weight_decay_W"),
        (lambda: mean_squared_error_minimum(4, 5, 1e-3, math.nan), ValueError, "weight_decay_H"),
        (lambda: extended_minimum(4, 5, 1e-3, -1.0, 1e-3), ValueError, "weight_decay_W1"),
        (lambda: RegularizedBias(0.0), ValueError, r"FreeBias\(\) has none"),
        (lambda: normalized_lower_bound(4, math.inf), ValueError, "temperature"),
        (lambda: normalized_lower_bound(1, 5.0), FrameSizeError, "num_classes is 1"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("bias", [None, NoBias, FreeBias, 0.05])
def test_a_bias_that_is_none_of_the_objects_is_refused(bias):
    with pytest.raises(TypeError, match=r"NoBias\(\)"):
        mean_squared_error_minimum(4, 5, 4e-3, 2e-3, bias=bias)
    with pytest.raises(TypeError, match=r"NoBias\(\)"):
        UnconstrainedFeatures(
            num_classes=4,
            samples_per_class=5,
            dim=4,
            weight_decay_W=1e-3,
            weight_decay_H=1e-3,
            loss=MeanSquaredError(),
            bias=bias,
        )
