from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from ddn_etf.ufm import FreeBias, RegularizedBias
from ddn_etf.ufm.landscape import certify, negative_curvature, smallest_eigenvalue
from tests.ddn_etf.ufm.cases import (
    BIASES,
    EXTENDED,
    ONE_LAYER,
    at_minimum,
    cross_entropy_model,
    extended_model,
    name,
    squared_error_model,
    start,
)
from tests.ddn_etf.ufm.landscape.cases import SEARCHES, saddle, zero

MODELS = [*map(cross_entropy_model, BIASES[1:]), *map(squared_error_model, BIASES)]


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)
def test_second_derivative_along_the_direction(model, search):
    vector = saddle(model, 1, search)
    found = negative_curvature(model, vector)
    certificate = certify(model, vector)
    assert found.expected == pytest.approx(2 * certificate.margin, rel=1e-12)
    assert found.expected < -1e-4
    assert found.curvature == pytest.approx(found.expected, rel=1e-8)
    # Once more without a Hessian-vector product: second difference of values.
    step = 1e-3
    values = [model.objective(vector + s * step * found.direction).item() for s in (-1, 0, 1)]
    difference = (values[0] - 2 * values[1] + values[2]) / step**2
    assert difference == pytest.approx(found.expected, rel=1e-3)
    assert values[0] < values[1]
    assert values[2] < values[1]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_direction_is_an_upper_bound_of_the_smallest_eigenvalue(model):
    vector = saddle(model, 2)
    found = negative_curvature(model, vector)
    assert smallest_eigenvalue(model, vector).value <= found.rayleigh_quotient + 1e-12


def test_at_a_minimum_the_curvature_is_zero():
    model, minimum = ONE_LAYER[1]
    found = negative_curvature(model, at_minimum(model, minimum, seed=0))
    assert abs(found.curvature) < 1e-14
    assert abs(found.expected) < 1e-14


@pytest.mark.parametrize("model", [*MODELS, extended_model()], ids=str)
def test_lanczos_against_the_dense_spectrum(model):
    for vector in (start(model, 0), zero(model), start(model, 1, 0.1)):
        values = torch.linalg.eigvalsh(model.hessian(vector))
        found = smallest_eigenvalue(model, vector)
        spread = values.abs().max().item()
        assert found.value == pytest.approx(values[0].item(), abs=1e-8 * spread)
        assert found.residual < 1e-4 * spread
        assert found.vector.norm().item() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("case", [*ONE_LAYER, EXTENDED], ids=name)
def test_minima_have_no_negative_eigenvalue(case):
    model, minimum = case
    found = smallest_eigenvalue(model, at_minimum(model, minimum, seed=0))
    assert found.value > -1e-10


def test_small_models_are_dense():
    model = squared_error_model(RegularizedBias(1.0), dim=1)
    assert model.size <= 64
    vector = start(model, 0)
    found = smallest_eigenvalue(model, vector)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(model.hessian(vector))[0].item())


def test_first_eigenvector_is_one():
    model = cross_entropy_model(FreeBias())
    found = smallest_eigenvalue(model, start(model, 0))
    image = model.curvature(start(model, 0))(found.vector)
    assert_close(image, found.value * found.vector, rtol=1e-5, atol=1e-5)


def test_bad_input():
    model = squared_error_model(dim=3)
    with pytest.raises(ValueError, match="no common null vector"):
        negative_curvature(model, start(model, 0))
    with pytest.raises(TypeError, match="two layers or ReLU"):
        negative_curvature(extended_model(), zero(extended_model()))
    bad = zero(model)
    bad[0] = torch.inf
    for function in (negative_curvature, smallest_eigenvalue):
        with pytest.raises(ValueError, match="NaN or infinity"):
            function(model, bad)
