"""A machine that runs PTX in NumPy, with the checks of compute-sanitizer.

``Machine`` stands in for a GPU where there is none: it takes the PTX text that a compiler made (of
kernels written with numba-cuda, say), a grid and a packed parameter buffer, executes the text
thread by thread and gives back what it left in memory.

What a run proves: that the compiled code (inline PTX included), the layout of its parameters and
the launch geometry compute the right thing; that no load or store leaves its allocation or is
misaligned; that nothing is read before it was written; that accesses to shared memory are ordered
by barriers; that barriers and instructions of whole warps are reached by all the threads they need.

What it can't: anything about time; what the memory model allows between blocks, or where accesses
of different warps are ordered by other means than barriers; the rounding of tensor cores and of
approximate functions (here products are exact and sums are rounded once); that ptxas and hardware
do what PTX says. Of global memory only what one block writes and another touches later is noticed,
and registers read before they are written aren't.

Not modelled, and refused by name: clusters, tensor copies to global memory and to several blocks,
matrix products of integers, of 8-bit floats and of sparse matrices or with sums in float16,
textures, recursion, indirect calls and calls of what isn't in the text (printf, malloc).
"""

from . import bits, convert, floats, integers, moves, tensor, warp, wgmma  # noqa: F401 (they fill a table)
from .errors import MachineError
from .machine import Machine

__all__ = ["Machine", "MachineError"]
