"""The shape of a tile of an implicit GEMM: who sums what, and what is shared."""

from __future__ import annotations

from typing import NamedTuple

#: Rows of the reduction in a step.
STEP = 8
#: Elements of the table of a flat step's rows: two buffers of two numbers each.
TABLE = 2 * STEP * 2
#: Lanes of a warp along out-channels and along pixels.
LANES_K, LANES_P = 4, 8
#: A position that is outside of every input, however it is moved by a window.
NOWHERE = 1 << 29
#: Taps along an axis that have a bit each where steps are flat, and a bit that none has.
FLAT_TAPS, BEYOND = 10, 1 << 30


class Tile(NamedTuple):
    """A block's tile: warps along out-channels and pixels, a thread's chunks of ``vector`` sums
    along both, and how many blocks a multiprocessor should hold."""

    warps_k: int
    warps_p: int
    chunks_k: int
    chunks_p: int
    vector: int
    blocks: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_k * self.warps_p

    @property
    def rows(self) -> int:
        """Out-channels."""
        return self.warps_k * LANES_K * self.chunks_k * self.vector

    @property
    def columns(self) -> int:
        """Pixels."""
        return self.warps_p * LANES_P * self.chunks_p * self.vector

    @property
    def sums(self) -> tuple[int, int]:
        """Sums of a thread, along out-channels and pixels."""
        return self.chunks_k * self.vector, self.chunks_p * self.vector

    @property
    def pitch(self) -> int:
        """Pixels of a row of the input in shared memory: a chunk of padding, so that what lanes
        store of the two halves of a step lies in different banks."""
        return self.columns + self.vector

    @property
    def weights_size(self) -> int:
        """Elements of a block's weights in shared memory: two buffers."""
        return 2 * STEP * self.rows

    @property
    def input_buffer(self) -> int:
        """From one buffer of the input to the other: a power of two."""
        return 1 << (STEP * self.pitch - 1).bit_length()

    @property
    def input_size(self) -> int:
        """Elements of a block's input in shared memory."""
        return self.input_buffer + STEP * self.pitch

    @property
    def origins_size(self) -> int:
        """Elements of a block's table of where pixels' windows begin: four numbers each."""
        return 4 * self.columns

    @property
    def own_pixels(self) -> int:
        """Pixels that a thread fetches."""
        return max(1, self.columns // self.threads)

    @property
    def own_rows(self) -> int:
        """Rows of a step that a thread fetches of each of its pixels."""
        return min(STEP, STEP * self.columns // self.threads)

    @property
    def own_weights(self) -> int:
        """Vectors of four weights that a thread fetches of a step."""
        return STEP * self.rows // (4 * self.threads)


def log2(power: int) -> int:
    # Shifts and masks tell LLVM what is a multiple of four, which it needs for 128-bit loads.
    return power.bit_length() - 1
