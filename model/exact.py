"""Integer products in floating point, exact: BLAS is an order of magnitude quicker than numpy's integers."""

from __future__ import annotations

import numpy as np

#: Integers up to these are exact, so sums that stay below them are exact in any order.
_FLOAT32_EXACT, _FLOAT64_EXACT = 1 << 24, 1 << 53


def exact_matmul(a: np.ndarray, b: np.ndarray, bound: int) -> np.ndarray:
    """``a @ b`` of integers as int64; ``bound`` is at least the sum of the absolute products."""
    kind = exact_kind(bound)
    return np.matmul(a.astype(kind), b.astype(kind)).astype(np.int64)


def exact_kind(bound: int) -> type:
    """The float type whose every integer up to ``bound`` is exact."""
    if bound >= _FLOAT64_EXACT:
        raise OverflowError(f"an exact product needs sums below 2**53: {bound} is not")
    return np.float32 if bound < _FLOAT32_EXACT else np.float64
