"""Networks, as builders of layers.

>>> from cnnfast import models
>>> sum(parameter.size for parameter in models.lenet5(rng=0).params.values())
61706
"""

from .lenet import lenet5

__all__ = ["lenet5"]
