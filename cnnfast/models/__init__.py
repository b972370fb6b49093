"""Networks, as builders of layers.

>>> from cnnfast import models
>>> sum(parameter.size for parameter in models.lenet5(rng=0).params.values())
61706
"""

from .alexnet import alexnet
from .lenet import lenet5
from .lenet_1998 import lenet5_1998
from .mobilenet import mobilenet_v1
from .resnet import resnet18
from .vgg import vgg11, vgg16
from .xception import xception_small

__all__ = [
    "alexnet",
    "lenet5",
    "lenet5_1998",
    "mobilenet_v1",
    "resnet18",
    "vgg11",
    "vgg16",
    "xception_small",
]
