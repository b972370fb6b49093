"""LeNet-5, as it was published in 1998."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfast._core.arguments import integer
from cnnfast._core.arrays import Array
from cnnfast.layers import (
    Conv2d,
    Flatten,
    Linear,
    RadialBasis,
    ScaledTanh,
    Sequential,
    Subsampling2d,
    TableConv2d,
)
from cnnfast.layers.parameters import Seed

#: Which maps of S2 each map of C3 reads: three in a row, four in a row, two and two, all.
C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip

#: The digits in 7x12 points, as F6 is to show them.
GLYPHS = """
 .#####.  ...#...  .#####.  .#####.  .....#.  #######  ..####.  #######  .#####.  .#####.
 ##...##  ..##...  ##...##  ##...##  ....##.  ##.....  .##....  .....##  ##...##  ##...##
 #.....#  .###...  .....##  .....##  ...###.  ##.....  ##.....  .....##  #.....#  #.....#
 #.....#  ...#...  .....##  .....##  ..##.#.  ##.....  #......  ....##.  #.....#  #.....#
 #.....#  ...#...  ....##.  ....##.  .##..#.  ######.  #.####.  ....##.  ##...##  ##...##
 #.....#  ...#...  ....##.  ..###..  ##...#.  .....##  ###..##  ...##..  .#####.  .######
 #.....#  ...#...  ...##..  ....##.  #....#.  .....##  ##....#  ...##..  ##...##  ......#
 #.....#  ...#...  ..##...  .....##  #######  .....##  #.....#  ..##...  #.....#  ......#
 #.....#  ...#...  .##....  .....##  .....#.  .....##  #.....#  ..##...  #.....#  .....##
 ##...##  ...#...  ##.....  ##...##  .....#.  ##...##  ##...##  .##....  ##...##  ....##.
 .#####.  .#####.  #######  .#####.  .....#.  .#####.  .#####.  .##....  .#####.  .####..
 .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""


def digit_codes() -> Array:
    """What F6 is to give for each digit: its picture in 7x12 points, 1 or -1, as (10, 84).

    The paper's own pictures are hand-drawn in this way; these are others.

    >>> digit_codes().shape
    (10, 84)
    """
    lines = [line.split() for line in GLYPHS.split("\n") if line]
    pictures = ["".join(line[digit] for line in lines) for digit in range(10)]
    return np.array([[1 if point == "#" else -1 for point in picture] for picture in pictures])


def lenet5_1998(classes: int = 10, *, dtype: Any = np.float32, rng: Seed = None) -> Sequential:
    """LeNet-5 as published, for (N, 1, 32, 32) images: 60,000 parameters, 0.34 M multiply-adds.

    Subsampling has coefficients and biases, C3 reads S2 by a table, and the squashing function is
    ``1.7159 tanh(2 x / 3)``. The result is the squared distance of F6 from a code for each class:
    the class is that of the least, and minus a half of it serves ``CrossEntropyLoss`` as logits.

    Parameters
    ----------
    classes : int
        For ten the codes are pictures of the digits, for others random signs.
    dtype : float dtype
    rng : int, numpy.random.Generator or None
        What initial values are drawn with.

    Returns
    -------
    Sequential, giving (N, classes) squared distances.

    Source: LeCun et al. 1998.

    Examples
    --------
    >>> lenet5_1998().output_shape((1, 1, 32, 32))
    (1, 10)
    """
    generator = np.random.default_rng(rng)
    made: dict[str, Any] = {"dtype": dtype, "rng": generator}
    count = integer("lenet5_1998: classes", classes, 1)
    codes = digit_codes() if count == 10 else generator.choice([-1, 1], (count, 84))
    return Sequential(
        {
            "c1": Conv2d(1, 6, 5, **made),
            "act1": ScaledTanh(),
            "s2": Subsampling2d(6, **made),
            "act2": ScaledTanh(),
            "c3": TableConv2d(6, C3_TABLE, 5, **made),
            "act3": ScaledTanh(),
            "s4": Subsampling2d(16, **made),
            "act4": ScaledTanh(),
            "c5": Conv2d(16, 120, 5, **made),
            "act5": ScaledTanh(),
            "flatten": Flatten(),
            "f6": Linear(120, 84, **made),
            "act6": ScaledTanh(),
            "output": RadialBasis(codes, dtype=dtype),
        }
    )
