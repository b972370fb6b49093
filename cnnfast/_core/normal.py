"""The normal distribution function, for gelu (NumPy has no erf)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Rational approximations of degree 4 / 4, 8 / 8 and 5 / 5 by W. J. Cody, "Rational Chebyshev
# approximations for the error function", Math. Comp. 23 (1969), in the form of his ANORM (ACM
# Algorithm 715, TOMS 19, 1993): numerator and denominator from the highest power down, leading ones
# of the denominators included.
CENTRE_LIMIT, MIDDLE_LIMIT = 0.66291, math.sqrt(32)
CENTRE = (
    (6.5682337918207449113e-2, 2.2352520354606839287, 161.02823106855587881,
     1067.6894854603709582, 18154.981253343561249),
    (1.0, 47.20258190468824187, 976.09855173777669322, 10260.932208618978205,
     45507.789335026729956),
)  # fmt: skip
MIDDLE = (
    (1.0765576773720192317e-8, 0.39894151208813466764, 8.8831497943883759412,
     93.506656132177855979, 597.27027639480026226, 2494.5375852903726711,
     6848.1904505362823326, 11602.651437647350124, 9842.7148383839780218),
    (1.0, 22.266688044328115691, 235.38790178262499861, 1519.377599407554805,
     6485.558298266760755, 18615.571640885098091, 34900.952721145977266,
     38912.003286093271411, 19685.429676859990727),
)  # fmt: skip
FAR = (
    (2.307344176494017303e-2, 0.21589853405795699, 0.1274011611602473639,
     2.2235277870649807e-2, 1.421619193227893466e-3, 2.9112874951168792e-5),
    (1.0, 1.28426009614491121, 0.468238212480865118, 6.59881378689285515e-2,
     3.78239633202758244e-3, 7.29751555083966205e-5),
)  # fmt: skip

#: Behind this both tails are constant in float64: the distribution function is 0 or 1.
UNDERFLOW = 40.0


def _ratio(x: Array, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Array:
    """A rational function by Horner's rule."""
    values = []
    for first, *others in coefficients:
        value = np.full_like(x, first)
        for coefficient in others:
            value *= x
            value += coefficient
        values.append(value)
    values[0] /= values[1]
    return values[0]


def _tail(distance: Array) -> Array:
    """exp(-distance**2 / 2), with the square in two parts, the first of them exact."""
    coarse = np.trunc(distance * 16) / 16
    rest = (distance - coarse) * (distance + coarse)
    result: Array = np.exp(-0.5 * coarse * coarse) * np.exp(-0.5 * rest)
    return result


@np.errstate(under="ignore", invalid="ignore")
def normal_cdf(x: Array) -> Array:
    """The normal distribution function of a float64 array, to a few units in the last place, in
    both tails too.

    >>> normal_cdf(np.array([0.0, -10.0]))
    array([5.00000000e-01, 7.61985302e-24])
    """
    result = np.empty_like(x)
    distance = np.minimum(np.abs(x), UNDERFLOW)
    centre = distance <= CENTRE_LIMIT
    middle = ~centre & (distance <= MIDDLE_LIMIT)
    far = ~(centre | middle)
    if centre.any():
        near = x[centre]
        result[centre] = 0.5 + near * _ratio(near * near, CENTRE)
    if middle.any():
        away = distance[middle]
        result[middle] = _tail(away) * _ratio(away, MIDDLE)
    if far.any():
        away = distance[far]
        inverse = 1 / (away * away)
        mills = 1 / math.sqrt(2 * math.pi) - inverse * _ratio(inverse, FAR)
        result[far] = _tail(away) * mills / away
    np.subtract(1, result, out=result, where=~centre & (x > 0))
    return result
