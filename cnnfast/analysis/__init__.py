"""Counting: parameters, FLOP, shapes, receptive fields.

Nothing is run and no parameter made: a network of 138 million is counted in milliseconds.

>>> from cnnfast import analysis, models
>>> net = models.lenet5(rng=0)
>>> analysis.count_parameters(net), analysis.flops(net, (1, 1, 28, 28))
(61706, 839344)
>>> analysis.output_shape(net, (1, 1, 28, 28))
(1, 10)
>>> rows, columns = analysis.receptive_field(net, (1, 1, 28, 28))["s4"]
>>> rows.size, rows.stride, rows.offset
(16, 4, -2)
"""

from .counting import Row, Summary, count_parameters, flops, output_shape, receptive_field, summary
from .fields import Field

__all__ = [
    "Field",
    "Row",
    "Summary",
    "count_parameters",
    "flops",
    "output_shape",
    "receptive_field",
    "summary",
]
