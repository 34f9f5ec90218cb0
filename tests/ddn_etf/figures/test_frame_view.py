from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from torch import Tensor

from ddn_etf.figures import (
    animation_gif,
    animation_html,
    frame_animation,
    frame_figure,
    view_basis,
)
from ddn_etf.frames import simplex_etf


@dataclass
class At:
    epoch: int
    means: Tensor
    weight: Tensor


def rotated_etf(num_classes: int, dim: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return simplex_etf(num_classes, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("num_classes", [3, 4, 7, 10])
def test_an_etf_looks_like_a_regular_polygon(num_classes):
    W = rotated_etf(num_classes, 12)
    basis = view_basis(W)
    assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    angles = 2 * math.pi * np.arange(num_classes) / num_classes
    radius = math.sqrt(2 / (num_classes - 1))
    expected = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert_allclose(W @ basis, expected, atol=1e-12)


def test_four_classes_look_like_a_regular_tetrahedron():
    W = rotated_etf(4, 6)
    seen = W @ view_basis(W, 3)
    assert_allclose(seen @ seen.T, (4 * np.eye(4) - 1) / 3, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((2, 5), 2, "use fewer axes"),
        ((3, 5), 3, "use fewer"),
        ((5, 1), 2, "use fewer"),
        ((5, 5), 4, "2 or 3"),
    ],
)
def test_what_cannot_be_drawn(shape, axes, message):
    with pytest.raises(ValueError, match=message):
        view_basis(torch.randn(shape), axes)


@pytest.mark.parametrize("axes", [2, 3])
def test_dots_are_means_and_lines_end_at_the_weight(axes):
    weight, means = rotated_etf(5, 8), torch.randn(5, 8, dtype=torch.float64) + 3
    [place] = frame_figure(means, weight, axes=axes).axes
    lines = [np.stack(line.get_data_3d() if axes == 3 else line.get_data()) for line in place.lines]
    basis = view_basis(weight, axes).numpy()
    centred = means.numpy() - means.numpy().mean(0)
    dots = centred / np.sqrt((centred**2).sum(1).mean()) @ basis
    for k in range(5):
        ray, dot = lines[2 * k], lines[2 * k + 1]
        assert_allclose(ray[:, 0], 0, atol=1e-12)
        assert_allclose(ray[:, 1], weight[k].numpy() @ basis, atol=1e-12)
        assert_allclose(dot[:, 0], dots[k], atol=1e-12)
    assert [text.get_text() for text in place.texts] == list("01234")
    assert place.get_xlabel()
    assert place.get_ylabel()


def test_at_collapse_every_dot_is_at_the_end_of_its_line():
    weight = rotated_etf(6, 9)
    [place] = frame_figure(4.2 * weight + 1, weight).axes
    for ray, dot in zip(place.lines[::2], place.lines[1::2], strict=True):
        assert_allclose(
            [ray.get_xdata()[1], ray.get_ydata()[1]], np.ravel(dot.get_data()), atol=1e-12
        )


@pytest.fixture(scope="module")
def animation():
    weight = rotated_etf(4, 5)
    start = torch.randn(4, 5, dtype=torch.float64)
    moments = [At(epoch, start + epoch * weight, weight) for epoch in (0, 1, 5)]
    return frame_animation(moments, name="nearest, ")


def test_a_gif_has_a_frame_per_moment_and_repeats(animation):
    image = Image.open(io.BytesIO(animation_gif(animation)))
    assert image.format == "GIF"
    assert image.n_frames == 3
    assert image.info["loop"] == 0
    frames = []
    for number in range(3):
        image.seek(number)
        frames.append(np.asarray(image.convert("L"), dtype=float))
    assert np.abs(frames[0] - frames[2]).max() > 50


def test_the_page_holds_its_pictures_and_refers_to_nothing_else(animation):
    html = animation_html(animation)
    assert len(re.findall(r"frames\[\d+\] = \"data:image/png;base64,", html)) == 3
    assert "http" not in html
    assert 'class="fa' not in html
    assert html.count("<button") == 9
    assert re.search(r"<button[^>]*>\s*<i>[^<]+</i></button>", html)


def test_no_moments():
    with pytest.raises(ValueError, match="no moments to draw"):
        frame_animation([])
