"""PTX written by hand for the tests of the PTX machine."""

import numpy as np

from ptx_machine import Machine

HEADER = ".version 9.0\n.target sm_90a\n.address_size 64\n"

REGISTERS = """
    .reg .pred %p<8>;
    .reg .b16 %rs<16>;
    .reg .b32 %r<32>;
    .reg .f32 %f<32>;
    .reg .b64 %rd<32>;
    .reg .f64 %fd<16>;
"""


def text(body, params=8, before=""):
    """A module with the entry `k`, which takes pointers p0, p1, ..."""
    names = ", ".join(f".param .u64 p{k}" for k in range(params))
    return f"{HEADER}{before}\n.visible .entry k({names})\n{{\n{REGISTERS}\n{body}\nret;\n}}\n"


def pointers(values, params=8):
    """The packed parameters."""
    values = list(values) + [0] * (params - len(values))
    return np.array(values, np.uint64).tobytes()


def run(body, arrays, out, grid=1, block=64, shared=0, before="", **switches):
    """Run a kernel body: p0, ... point to `arrays`, the next to the result, shaped like `out`."""
    machine = Machine(1 << 20, **switches)
    where = []
    for array in arrays:
        where.append(machine.allocate(max(array.nbytes, 1)))
        machine.write(where[-1], array)
    where.append(machine.allocate(out.nbytes))
    machine.launch(text(body, before=before), "k", grid, block, shared, pointers(where))
    return np.frombuffer(machine.read(where[-1], out.nbytes), out.dtype).reshape(out.shape)
