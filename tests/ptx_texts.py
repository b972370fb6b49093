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


def bits(values, kind):
    """Values as a matrix type holds them: (what is multiplied, bits of 16 or 32)."""
    values = np.asarray(values, "f4")
    if kind == "f16":
        half = values.astype("f2")
        return half.astype("f8"), half.view("u2")
    whole = values.view("u4")
    if kind == "bf16":
        kept = whole & np.uint32(0xFFFF0000)
        return kept.view("f4").astype("f8"), (kept >> np.uint32(16)).astype("u2")
    kept = whole & np.uint32(0xFFFFE000)
    return kept.view("f4").astype("f8"), whole


def launch(body, inputs, out, block=32, before="", machine=None, extra=()):
    """Run a body on byte images p0, ...; the result is the next pointer."""
    machine = machine or Machine(1 << 20)
    where = [machine.allocate(max(a.nbytes, 1)) for a in inputs]
    for p, a in zip(where, inputs, strict=True):
        machine.write(p, a)
    result = machine.allocate(out.nbytes)
    ptx = text(body, before=before)
    machine.launch(ptx, "k", 1, block, 0, pointers([*where, result, *extra]))
    return np.frombuffer(machine.read(result, out.nbytes), out.dtype).reshape(out.shape)


def loads(parameter, registers, kind="b32", size=4):
    """PTX that loads element (register, thread) of an array of rows of 32."""
    lines = [f"ld.param.u64 %rd1, [p{parameter}];", "mov.u32 %r31, %tid.x;"]
    lines.append(f"mad.wide.u32 %rd1, %r31, {size}, %rd1;")
    for k, name in enumerate(registers):
        lines.append(f"ld.global.{kind} {name}, [%rd1+{k * 32 * size}];")
    return "\n".join(lines)


def stores(parameter, registers, kind="b32", size=4, threads=32):
    lines = [f"ld.param.u64 %rd2, [p{parameter}];", "mov.u32 %r31, %tid.x;"]
    lines.append(f"mad.wide.u32 %rd2, %r31, {size}, %rd2;")
    for k, name in enumerate(registers):
        lines.append(f"st.global.{kind} [%rd2+{k * threads * size}], {name};")
    return "\n".join(lines)


def braces(registers):
    return "{" + ", ".join(registers) + "}"
