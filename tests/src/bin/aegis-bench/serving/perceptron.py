"""The perceptron of the bench, from the weights that libtorch's own copy was saved with.

The same three matrix products in numpy, whose BLAS is held to one thread: a peer needs no PyTorch,
and pays less for a run than PyTorch's Python front would cost it.
"""

import numpy as np

SIZES = (784, 512, 512, 10)


class Perceptron:
    def __init__(self, file):
        flat = np.fromfile(file, dtype="<f4")
        self.layers, at = [], 0
        for rows, columns in zip(SIZES, SIZES[1:]):
            matrix = flat[at : at + rows * columns].reshape(rows, columns)
            at += rows * columns
            self.layers.append((matrix, flat[at : at + columns]))
            at += columns
        assert at == flat.size, f"{flat.size} weights in place of {at}"

    def __call__(self, x):
        last = len(self.layers) - 1
        for index, (matrix, bias) in enumerate(self.layers):
            x = x @ matrix + bias
            if index < last:
                np.maximum(x, 0, out=x)
        return x
