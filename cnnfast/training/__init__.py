"""Training a classifier: data, the loop, checkpoints, curves.

>>> import numpy as np
>>> from cnnfast import models, training
>>> images = np.eye(28, dtype=np.float32)[None, None].repeat(8, 0)
>>> data = training.Data("diagonals", images, np.zeros(8, int), images[:2], np.zeros(2, int))
>>> history = training.fit(models.lenet5(rng=0), data, training.Settings(epochs=2, batch=4))
>>> history.test_accuracy
[1.0, 1.0]

data.py        scikit-learn's digits, and MNIST in IDX files
batches.py     which images a batch has, and how they are moved
loop.py        epochs, batches, the learning rate's schedule
checkpoint.py  everything that going on needs, in one file
curves.py      loss and accuracy as a picture
command.py     ``cnnfast train``
"""

from .checkpoint import Checkpoint
from .curves import draw
from .data import Data, digits, mnist
from .history import History
from .loop import Diverged, Interrupted, Progress, evaluate, fit
from .settings import Settings

__all__ = [
    "Checkpoint",
    "Data",
    "Diverged",
    "History",
    "Interrupted",
    "Progress",
    "Settings",
    "digits",
    "draw",
    "evaluate",
    "fit",
    "mnist",
]
