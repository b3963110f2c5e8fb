"""Whether an operator is the one that earlier work was about: one product with a vector that was multiplied before."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from landscape.spectra.operators import Operator


def moments(operator: Operator, v: torch.Tensor, product: torch.Tensor | None = None) -> np.ndarray:
    """Return vᵀAv and |Av|², relative to |v|²: an operator is known again by them.

    ``product`` is Av, (n,) as ``v`` is; it is made where there is none.
    """
    if product is None:
        product = (operator @ v[:, None])[:, 0]
    found = np.array([operator.dot(v, product), operator.dot(product, product)])
    return found / operator.dot(v, v)


def agree(earlier: Any, now: np.ndarray, eps: float) -> bool:
    """Whether these are moments of one operator, to half of the digits: sums on an accelerator vary in order."""
    first, second = np.abs(np.asarray(earlier) - now)
    size = float(now[1])
    return bool(first <= eps**0.5 * size**0.5 and second <= 2 * eps**0.5 * size)
