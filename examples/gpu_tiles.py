"""A kernel of one's own from cnnfast's tiles: the energy of pairs of filters, on a GPU.

    python examples/gpu_tiles.py                              on a GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/gpu_tiles.py       in Numba's simulator

A cell that answers to an edge wherever it lies has two filters, an even and an odd one, and gives
``sqrt(even ** 2 + odd ** 2)`` of their answers. As convolutions that would write and read both
answers; here they stay in the registers in which a tile sums them, and energies alone are stored.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import config, cuda, float32, int32

from cnnfast import ConvGeometry
from cnnfast.kernels.numba_cuda.tiles import STEP, TABLE, Tile, pack, tile_functions

Array = np.ndarray[Any, Any]

#: 128 filters x 128 pixels of 256 threads; a warp's in the simulator, whose threads are Python's.
TILE = Tile(1, 1, 1, 1, 4, 1) if config.ENABLE_CUDASIM else Tile(4, 2, 2, 2, 4, 2)
#: Taps and channels as one: images have few channels.
FLAT = True
TILED = tile_functions(TILE, "float32", FLAT, False)
place, clear, accumulate, row, column = (
    TILED.place, TILED.clear, TILED.accumulate, TILED.row, TILED.column,
)  # fmt: skip
FILTERS, PIXELS, SUMS = TILE.rows, TILE.columns, TILE.sums
FILTERS_OF_THREAD, PIXELS_OF_THREAD = SUMS
WEIGHTS, INPUT, ORIGINS = TILE.weights_size, TILE.input_size, TILE.origins_size


@cuda.jit
def energies(x, weights, out, problem, strides, pitch, steps):
    """``out[pair, pixel]``, of images whose pixels n, p, q count as one axis."""
    a = cuda.shared.array(WEIGHTS, float32)
    b = cuda.shared.array(INPUT, float32)
    table = cuda.shared.array(TABLE, int32)
    origins = cuda.shared.array(ORIGINS, int32)
    sums = cuda.local.array(SUMS, float32)
    pixel = int32(cuda.blockIdx.x * PIXELS)
    first = int32(cuda.blockIdx.y * FILTERS)
    place(problem, strides, int32(0), pixel, origins)
    clear(sums)
    accumulate(
        x, weights, problem, strides, pitch, first, int32(0), steps, origins, a, b, table, sums
    )
    for i in range(0, FILTERS_OF_THREAD, 2):
        pair = int32((first + row(i)) // 2)
        for j in range(PIXELS_OF_THREAD):
            at = int32(pixel + column(j))
            if pair < out.shape[0] and at < out.shape[1]:
                out[pair, at] = math.sqrt(sums[i, j] ** 2 + sums[i + 1, j] ** 2)


def energy(images: Array, filters: Array) -> Array:
    """The energies of pairs of filters.

    Parameters
    ----------
    images : (N, C, H, W) float32 array
    filters : (2 pairs, C, R, S) float32 array
        An even and an odd filter, one after the other.

    Returns
    -------
    (pairs, N, P, Q) float32 array
    """
    geometry = ConvGeometry.of(images, filters, padding="same")
    problem = geometry.problem
    packed = pack(filters[:, :, None], TILE, FLAT)
    strides = tuple(step // images.itemsize for step in geometry.input.canonical(images).strides)
    pixels = problem.n * problem.p * problem.q
    out = cuda.device_array((len(filters) // 2, pixels), np.float32)
    grid = -(-pixels // PIXELS), -(-len(filters) // FILTERS)
    energies[grid, TILE.threads](
        cuda.to_device(images.ravel()),
        cuda.to_device(packed.ravel()),
        out,
        problem,
        strides,
        packed.shape[1],
        len(packed) // STEP,
    )
    result: Array = out.copy_to_host()
    return result.reshape(-1, problem.n, problem.p, problem.q)


def gabor(size: int, angles: int) -> Array:
    """Even and odd filters (2 angles, 1, size, size) for edges of ``angles`` directions."""
    y, x = np.mgrid[:size, :size] - size // 2
    filters = []
    for angle in np.arange(angles) * np.pi / angles:
        along = x * np.cos(angle) + y * np.sin(angle)
        window = np.exp(-(x**2 + y**2) / size)
        filters += [window * np.cos(along), window * np.sin(along)]
    return np.array(filters, np.float32)[:, None]


def main() -> None:
    """Print what two directions see of a small picture, and how far NumPy is from that."""
    size = 8 if config.ENABLE_CUDASIM else 512
    image = np.zeros((1, 1, size, size), np.float32)
    image[..., size // 2 :] = 1
    filters = gabor(5, 2)
    seen = energy(image, filters)
    padded = np.pad(image, ((0, 0), (0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (2, 3))
    answers = np.einsum("ncpqrs,kcrs->knpq", windows, filters)
    expected = np.sqrt((answers**2).reshape(2, 2, 1, size, size).sum(1))
    middle = seen[:, 0, size // 2, size // 2]
    print(f"an upright edge: energy {middle[0]:.3f} across it, {middle[1]:.3f} along it")
    print(f"NumPy's differ by {abs(seen - expected).max():.1e} at most")


if __name__ == "__main__":
    main()
