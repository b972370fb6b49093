"""Between dense and convolutional layers.

matrices.py   one layer as the other: weights
sliding.py    a classifier with dense layers as one that slides over larger images
folding.py    batch normalisation folded into the layers before it
"""

from .folding import fold_batch_norm
from .matrices import conv_to_linear, linear_to_conv
from .sliding import to_fully_convolutional

__all__ = ["conv_to_linear", "fold_batch_norm", "linear_to_conv", "to_fully_convolutional"]
