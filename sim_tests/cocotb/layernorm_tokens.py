"""Tokens that LayerNorm finds hard: no variance, all of it, ties of the mean, and the limits of the 16 bits."""

import numpy as np

LOW, HIGH = -32768, 32767


def tokens(embed_dim: int, numbers: np.random.Generator) -> list[np.ndarray]:
    half = embed_dim // 2
    alternating = np.tile([LOW, HIGH], half)
    quarter = np.r_[np.ones(embed_dim // 4, dtype=np.int64), np.zeros(embed_dim - embed_dim // 4, dtype=np.int64)]
    return [
        quarter,  # mean2 is a half, exactly where embed_dim is a power of two
        -quarter,
        np.full(embed_dim, HIGH),
        np.full(embed_dim, LOW),
        np.zeros(embed_dim, dtype=np.int64),
        np.full(embed_dim, -5),
        alternating,
        np.sort(alternating),
        np.r_[LOW, np.full(embed_dim - 1, HIGH)],
        np.r_[np.full(embed_dim - 1, LOW), HIGH],
        np.eye(1, embed_dim, dtype=np.int64)[0],
        np.eye(1, embed_dim, embed_dim - 1, dtype=np.int64)[0] * -1,
        np.r_[np.full(half, 7), np.full(half, 8)],
        np.r_[np.full(half, LOW), np.full(half, LOW + 1)],
        numbers.integers(LOW, HIGH + 1, embed_dim),
        numbers.integers(-40, 40, embed_dim) + 20000,
        np.clip(numbers.normal(0, 900, embed_dim), LOW, HIGH).astype(np.int64),
        numbers.choice([LOW, HIGH], embed_dim),
    ]
