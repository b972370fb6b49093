"""Arrays of channels as tensor cores' rows read them: in chunks, where they lie or packed."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..shapes import ceil_div, round_up
from . import _tensor_pack as pack
from ._tensor_tile import CHUNK
from .program import STORED, At, Entry, Launch, Strides


def itemsize_of(dtype: str) -> int:
    """Bytes of an element."""
    return 4 if dtype == "float32" else 2


def elements_of(dtype: str) -> int:
    """Elements of a chunk."""
    return CHUNK // itemsize_of(dtype)


class Operand(NamedTuple):
    """An array (n, g c, *size) by its element strides; ``c`` channels of a group."""

    name: str
    dtype: str
    n: int
    g: int
    c: int
    size: tuple[int, int, int]
    strides: Strides
    aligned: bool

    @property
    def lies_in_chunks(self) -> bool:
        """Whether its channels are contiguous, whole aligned chunks of them everywhere."""
        n, c, d, h, w = self.strides
        used = zip((n, d, h, w), (self.n, *self.size), strict=True)
        steps = [step for step, size in used if size > 1]
        whole = all(step % elements_of(self.dtype) == 0 for step in (*steps, self.c))
        return whole and c == 1 and self.aligned

    @property
    def filled(self) -> int:
        """Channels of a group filled up to whole chunks."""
        return round_up(self.c, elements_of(self.dtype))

    @property
    def packed_bytes(self) -> int:
        """Scratch that it takes packed."""
        pixels = self.n * math.prod(self.size)
        return pixels * self.g * self.filled * itemsize_of(self.dtype)

    def source(self, packed_at: int | None) -> tuple[At, tuple[int, ...]]:
        """Where it is read, and its strides (n, d, h, w, g): packed to a byte of scratch, or where
        it lies."""
        if packed_at is None:
            n, _, d, h, w = self.strides
            return At(self.name), (n, d, h, w, self.c)
        w = self.g * self.filled
        h, d = w * self.size[2], w * self.size[2] * self.size[1]
        at = At("scratch", packed_at // itemsize_of(self.dtype))
        return at, (d * self.size[0], d, h, w, self.filled)

    def pack(self, packed_at: int) -> Launch:
        """The launch that copies it to a byte of scratch."""
        pointer = f"{STORED[self.dtype]}*"
        entry = Entry(
            pack.build_pack_input,
            (self.dtype,),
            (pointer, pointer, *pack.INPUT_SIGNATURE),
            pack.THREADS,
        )
        blocks = self.g * ceil_div(self.n * math.prod(self.size), pack.PIXELS)
        args = (
            At(self.name),
            self.source(packed_at)[0],
            (self.n, self.g, self.c, *self.size),
            self.strides,
            self.filled,
            int(abs(self.strides[1]) < abs(self.strides[4])),
        )
        return Launch(entry, (blocks, ceil_div(self.filled, pack.CHANNELS), 1), args)
