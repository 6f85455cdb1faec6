"""What several seeds say of a figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """The mean of a figure over seeds, and how well it is known.

    Args:
      values: one a seed, at least one.

    Returns:
      n, mean, std (of the sample, n - 1) and the 95 % confidence interval of the mean by
      Student's t; std and interval are None for one value.

    >>> summarize([0.9, 0.92])["mean"]
    0.91
    """
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return {"n": 1, "mean": mean, "std": None, "low": None, "high": None}
    from scipy.stats import t  # half a second to import

    std = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, n - 1)) * std / n**0.5
    return {"n": n, "mean": mean, "std": std, "low": mean - half, "high": mean + half}
