"""What cross entropy can reach with features and classifier of fixed length."""

from __future__ import annotations

import math

from ddn_etf.validation import check_num_classes

__all__ = ["normalized_lower_bound"]


def normalized_lower_bound(num_classes: int, temperature: float) -> float:
    """min over ‖h_i‖ = τ, ‖w_k‖ = 1, b of the mean cross entropy: log(1 + (K-1) e^{-τK/(K-1)}).

    It is reached where w_k form a simplex equiangular tight frame, h_{k,i} = τ w_k and b is a
    constant vector: the margin of every sample is then τ K/(K-1). Classes have equally many samples.

    Derivation: a sample's loss is at least log(1 + (K-1) e^{-m}) with m its margin averaged over the
    wrong classes, and the mean loss at least the same with the mean margin m̄, by convexity. In m̄ the
    bias cancels, and with the class means h̄_k of h and the mean w̄ of the w_k

        m̄ = (1/(K-1)) Σ_k ⟨w_k - w̄, h̄_k⟩ <= τ/(K-1) Σ_k ‖w_k - w̄‖ <= τ/(K-1) √K √(Σ_k ‖w_k‖²) = τ K/(K-1).

    Args:
        num_classes: K >= 2.
        temperature: τ >= 0, the length of the features.

    Raises:
        TypeError: ``num_classes`` is not an integer.
        FrameSizeError: K < 2.
        ValueError: the temperature is not a finite number of at least 0.

    Source: Markou, Ajanthan and Gould, "Guiding Neural Collapse" (2024); Yaras et al., "Neural
    Collapse with Normalized Features" (2022), theorem 1; Lu and Steinerberger (2022).
    """
    check_num_classes(num_classes)
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be a finite number of at least 0, found {temperature}")
    return math.log1p((num_classes - 1) * math.exp(-temperature * num_classes / (num_classes - 1)))
