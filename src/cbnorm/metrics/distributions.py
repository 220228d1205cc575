"""How the values of channels are distributed: shapes, distance to a normal distribution, fitted mixtures."""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from cbnorm.data.streams import generator
from cbnorm.mixtures import fit_mixture

#: Channels that Fig. 2 shows, of a layer of 128.
CHANNELS = (4, 12, 28, 32, 60, 96, 108)
#: Components fitted to every shown channel, bins of its histogram.
COMPONENTS, BINS = 3, 100


def channels(outputs: Tensor) -> dict[str, NDArray[Any]]:
    """How the values of channels are distributed.

    Args:
        outputs: (n, C, positions).

    Returns:
        ``skewness``, ``kurtosis`` (excess) and ``distance`` (Kolmogorov-Smirnov, to the normal distribution
        of the same mean and deviation), each (C,); of the shown channels ``channels`` (S,), ``counts``
        (S, bins), ``edges`` (S, bins + 1), and of a mixture fitted to each ``weights``, ``means``,
        ``deviations`` (S, K) and ``fitted_distance`` (S,). Of a constant channel skewness and kurtosis are
        NaN and all components are equal.
    """
    values = outputs.transpose(0, 1).flatten(1).double().numpy()
    shown = [channel for channel in CHANNELS if channel < len(values)]
    fits = [_fit(values[channel]) for channel in shown]
    histograms = [np.histogram(values[channel], BINS) for channel in shown]
    with warnings.catch_warnings():
        # Of a channel that is constant, for which NaN says it.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        skewness, kurtosis = stats.skew(values, axis=1), stats.kurtosis(values, axis=1)
    return {
        "skewness": skewness,
        "kurtosis": kurtosis,
        "distance": np.array([_distance(row, *_normal(row)) for row in values]),
        "channels": np.array(shown),
        "counts": np.array([counts for counts, _ in histograms], dtype=np.int32),
        "edges": np.array([edges for _, edges in histograms], dtype=np.float32),
        "weights": np.array([fit[0] for fit in fits]),
        "means": np.array([fit[1] for fit in fits]),
        "deviations": np.array([fit[2] for fit in fits]),
        "fitted_distance": np.array(
            [_distance(values[channel], *fit) for channel, fit in zip(shown, fits, strict=True)]
        ),
    }


def _fit(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Weights, means and deviations of a mixture of one channel's values, left to right."""
    scale = max(values.std(), 1e-12)
    if len(np.unique(values)) < COMPONENTS:
        # A dead channel: nothing to tell apart.
        alike = np.ones(COMPONENTS)
        return alike / COMPONENTS, alike * values.mean(), alike * scale
    data = torch.from_numpy((values - values.mean()) / scale)[:, None]
    found = fit_mixture(data, COMPONENTS, generator=generator(0, "look"))
    order = found.means[:, 0].argsort()
    means, deviations = found.means[order, 0].numpy(), found.covariances[order, 0].sqrt().numpy()
    return found.weights[order].numpy(), means * scale + values.mean(), deviations * scale


def _normal(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return np.ones(1), values.mean(keepdims=True), values.std(keepdims=True)


def _distance(values: NDArray[np.float64], *mixture: NDArray[np.float64]) -> float:
    """Largest difference between the distribution of values and that of a mixture."""
    ordered, (lambdas, means, deviations) = np.sort(values)[:, None], mixture
    expected = (stats.norm.cdf(ordered, means, np.maximum(deviations, 1e-12)) * lambdas).sum(1)
    places = np.arange(len(values) + 1) / len(values)
    return float(max((places[1:] - expected).max(), (expected - places[:-1]).max()))
