"""The nearest rotated copy of a fixed frame: one node for the ETF and for every other frame.

The published inner problem (Markou, Ajanthan and Gould 2024),

    V* = argmin_V  ‖Y − V Fᵀ‖²_F + (δ/2) ‖V − V_prox‖²_F   subject to   VᵀV = I,

is linear on the feasible set: ‖V Fᵀ‖² = tr(VᵀV FᵀF) = ‖F‖² is constant there, and so is ‖V‖². What is left
is to maximize tr(Vᵀ C) with C = 2 Y F + δ V_prox, and V* is the orthogonal polar factor of C.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import ddn
from ddn.binding import Bound
from ddn.constraints import SymmetricConstraint
from ddn.errors import ShapeError
from ddn.forward_mode import inside_transform, is_differentiated
from ddn.nodes.procrustes import stiefel, unique_polar_factor
from ddn.polar import polar_decompose, polar_pull_back
from ddn_etf.frames import centering_matrix, simplex_basis

__all__ = ["NearestETF", "NearestFrame"]

# From here on, centring columns is faster than multiplying by the centring matrix.
_MANY_CLASSES = 64


class NearestFrame(ddn.DeclarativeNode):
    """argmin_V  ‖Y − V Fᵀ‖² + (δ/2) ‖V − V_prox‖²   subject to   VᵀV = I.

    Y holds one point per column, F one point of the fixed frame per row: V Fᵀ is the rotated copy of the
    frame that is nearest to Y.

    Shapes: Y ``(*batch, d, k)``, V_prox ``(*batch, d, r)``; returns V ``(*batch, d, r)``, with d ≥ r.

    Args:
        frame: F, (k, r); a constant of the node, used in the dtype and on the device of the inputs.
        proximal_weight: δ ≥ 0. With δ > 0 the solution is unique even where 2 Y F is rank-deficient (equal
            or absent points), unless the two cancel: directions that Y leaves free follow V_prox.
        **options: ``solver``, ``gradient``, ``on_failure`` of :class:`ddn.DeclarativeNode`. By default
            solution and derivative are in closed form, O(d r²).

    Raises:
        SolveError: where C = 2 Y F + δ V_prox is rank-deficient to rounding, so that V is not unique, or not
            finite (with ``on_failure="raise"``).
        ShapeError: if d < r, or an input does not fit.

    Source: Markou, Ajanthan and Gould (2024), eq. 10; Schönemann (1966).
    """

    def __init__(self, frame: Tensor, proximal_weight: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        if frame.ndim != 2:
            raise ShapeError(
                f"{type(self).__name__}: the frame has one point per row, (k, r), but has shape "
                f"{tuple(frame.shape)}."
            )
        if not proximal_weight >= 0:
            raise ValueError(
                f"{type(self).__name__}: proximal_weight must be at least 0, but is {proximal_weight}."
            )
        # A constant of the problem: kept exactly, rounded to the dtype of each computation.
        self.frame = frame.detach().to("cpu", torch.float64, copy=True)
        self._rounded: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self.proximal_weight = float(proximal_weight)
        points, rank = frame.shape
        self.signature = f"(d,{points}),(d,{rank})->(d,{rank})"

    def bind(  # type: ignore[override] # the second input is optional
        self, means: Tensor, proximal: Tensor | None = None
    ) -> Bound:
        """Points Y = ``means``; without ``proximal`` the proximal term is left out.

        Leaving it out is the same as V_prox = 0, where the term is constant on the feasible set.
        """
        if proximal is None and isinstance(means, Tensor) and means.ndim >= 2:
            proximal = means.new_zeros(means.shape[-2], self.frame.shape[1])
        return super().bind(means, proximal)  # type: ignore[arg-type]

    def objective(self, means: Tensor, proximal: Tensor, V: Tensor) -> Tensor:
        distance = (means - V @ self._frame(V).mT).square().sum()
        return distance + self.proximal_weight / 2 * (V - proximal).square().sum()

    def equality(self, means: Tensor, proximal: Tensor, V: Tensor) -> SymmetricConstraint:
        return ddn.symmetric(V.mT @ V - torch.eye(V.shape[-1], dtype=V.dtype, device=V.device))

    def solve_and_save(self, means: Tensor, proximal: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        target = self._target(means, proximal)
        polar = unique_polar_factor(target, type(self).__name__, self.on_failure)
        return polar.factor, polar[1:]

    def vjp(
        self, inputs: tuple[Tensor, Tensor], y: Tensor, grad_y: Tensor, *saved: Tensor
    ) -> tuple[Tensor, Tensor]:
        target = self._target(*inputs) if not saved or is_differentiated() else None
        if target is not None and not saved:
            saved = polar_decompose(target.detach())[1:]
        gradient = polar_pull_back(target, y, grad_y, *saved)
        return self._means_gradient(gradient), self.proximal_weight * gradient

    def weight(self, V: Tensor) -> Tensor:
        """The rotated copy of the frame, one point per row: W = F Vᵀ, ``(*batch, k, d)``."""
        weight: Tensor = self._frame(V) @ V.mT
        return weight

    def manifold(self, shape: torch.Size) -> Any:
        """The Stiefel manifold, for :class:`ddn.solvers.Pymanopt`."""
        return stiefel(shape)

    def _target(self, means: Tensor, proximal: Tensor) -> Tensor:
        """C = 2 Y F + δ V_prox."""
        weighted = self.proximal_weight * proximal
        return torch.add(weighted, means @ self._frame(means), alpha=2)

    def _means_gradient(self, gradient: Tensor) -> Tensor:
        """Ȳ = 2 C̄ Fᵀ."""
        return 2 * gradient @ self._frame(gradient).mT

    def _frame(self, like: Tensor) -> Tensor:
        """F in the dtype and on the device of ``like``."""
        key = (like.dtype, like.device)
        if key in self._rounded:
            return self._rounded[key]
        with torch.inference_mode(False):
            rounded = self.frame.to(like.device, like.dtype)
        # A tensor made inside a transform belongs to it and must not outlive it.
        if not inside_transform():
            self._rounded[key] = rounded
        return rounded


class NearestETF(NearestFrame):
    """The simplex equiangular tight frame nearest to class means, by its orthonormal factor V.

    ``form="published"``:  argmin_V ‖Y − V M/√(K−1)‖² + (δ/2) ‖V − V_prox‖²  s.t.  VᵀV = I_K,  with
    M = I − 11ᵀ/K. V is (d, K) and needs d ≥ K. M is singular along 1: without a proximal point the
    solution is not unique.

    ``form="intrinsic"``:  F = Q/√(K−1) with Q (K, K−1) an orthonormal basis of 1^⊥, M = Q Qᵀ. V is
    (d, K−1), needs only d ≥ K−1 and no proximal point (one may be given, to make the solution unique
    where classes coincide), and the problem is better conditioned.

    Shapes: means Y ``(*batch, d, K)``, columns are classes; proximal ``(*batch, d, r)``; returns V
    ``(*batch, d, r)`` with r = K or K−1.

    Args:
        num_classes: K ≥ 2.
        dim: d, the number of features.
        proximal_weight: δ.
        form: "published" or "intrinsic".
        **options: ``solver``, ``gradient``, ``on_failure`` of :class:`ddn.DeclarativeNode`.

    Raises:
        ValueError: K < 2, or d too small for the form.
        SolveError: means that leave V undetermined to rounding (equal or absent classes without a proximal
            point), NaN or infinite means.
        ShapeError, DtypeError: means that are not ``(*batch, d, K)`` floating-point tensors.

    Source: Markou, Ajanthan and Gould (2024), eq. 8 to 11.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        proximal_weight: float = 1e-3,
        *,
        form: str = "published",
        **options: Any,
    ) -> None:
        bases = {"published": centering_matrix, "intrinsic": simplex_basis}
        if form not in bases:
            raise ValueError(f'form is "published" or "intrinsic", but was given {form!r}.')
        if num_classes < 2:
            raise ValueError(
                f"A simplex ETF needs at least 2 classes, but num_classes={num_classes}."
            )
        needed = num_classes if form == "published" else num_classes - 1
        if dim < needed:
            advice = ' or form="intrinsic"' if dim == num_classes - 1 else ""
            raise ValueError(
                f"The {form} form with {num_classes} classes needs dim >= {needed}, but dim={dim}. Use "
                f"more feature dimensions{advice}."
            )
        # On CPU whatever the default device, which may be "meta": it is a constant of the node.
        frame = bases[form](num_classes, dtype=torch.float64, device="cpu")
        frame = frame / (num_classes - 1) ** 0.5
        super().__init__(frame, proximal_weight, **options)
        self.num_classes = num_classes
        self.dim = dim
        self.form = form
        self.signature = f"({dim},{num_classes}),({dim},{needed})->({dim},{needed})"

    def bind(  # type: ignore[override] # the second input is optional
        self, means: Tensor, proximal: Tensor | None = None
    ) -> Bound:
        """Class means Y; the published form needs the proximal point."""
        if proximal is None and self.form == "published":
            raise ValueError(
                "The published form is rank-deficient along the vector of ones and needs a proximal "
                'point: node(means, proximal), with the previous V, say. form="intrinsic" needs none.'
            )
        return super().bind(means, proximal)

    def _target(self, means: Tensor, proximal: Tensor) -> Tensor:
        if not self._centres:
            return super()._target(means, proximal)
        centred = means - means.mean(-1, keepdim=True)
        if inside_transform():  # vmap refuses to write mapped values into shared ones
            return torch.add(self.proximal_weight * proximal, centred, alpha=2 * self._scale)
        return centred.mul_(2 * self._scale).add_(proximal, alpha=self.proximal_weight)

    def _means_gradient(self, gradient: Tensor) -> Tensor:
        if not self._centres:
            return super()._means_gradient(gradient)
        return (gradient - gradient.mean(-1, keepdim=True)).mul_(2 * self._scale)

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.num_classes - 1)

    @property
    def _centres(self) -> bool:
        """Whether products with M are done by subtracting the mean of the columns."""
        return self.form == "published" and self.num_classes >= _MANY_CLASSES

    def weight(self, V: Tensor) -> Tensor:
        """Classifier W = √(K/(K−1)) M Vᵀ, ``(*batch, K, d)``: unit rows, pairwise cosine −1/(K−1)."""
        weight: Tensor = self.num_classes**0.5 * super().weight(V)
        return weight
