"""What a batch of blocks runs on: its lanes, registers, shared and local memory.

Lane ``l`` is thread ``l % padded`` of block ``l // padded``, where `padded` is the block's number
of threads rounded up to whole warps; the lanes in between never live. A register is a row with one
element per lane; views of the row give it every type.
"""

import numpy as np

from .copies import Copies
from .counts import Observer
from .errors import Fault, MachineError
from .kinds import DTYPES, LOCAL_BASE, SHARED_BASE
from .memory import Window
from .operands import Imm, Pair, Reg, Sym
from .phases import Phases
from .races import Races
from .readings import Readings


def param_layout(program):
    """({parameter: (offset, size)}, total size): every parameter naturally aligned."""
    places, at = {}, 0
    for v in program.params:
        at = -(-at // v.align) * v.align
        places[v.name] = (at, v.size)
        at += v.size
    return places, at


class Batch:
    """The state of the blocks that run together.

    Parameters
    ----------
    program : Program
        The entry.
    symbols : dict
        Addresses of the module's global and const variables.
    blocks : int
        How many blocks.
    block : tuple of int
        Threads of a block along x, y, z.
    dynamic : int
        Bytes of dynamic shared memory.
    """

    def __init__(self, program, symbols, blocks, block, dynamic):
        self.program = program
        self.blocks = blocks
        self.block = block
        self.dynamic = dynamic
        self.symbols = dict(symbols)
        self.threads = block[0] * block[1] * block[2]
        self.warps = -(-self.threads // 32)
        self.padded = self.warps * 32
        self.lanes = blocks * self.padded
        self.every = np.arange(self.lanes)
        self.thread = self.every % self.padded
        self.block_of = self.every // self.padded
        self.warp_of = self.every >> 5
        self.alive = np.zeros(self.lanes, bool)
        rows = {}
        self.registers = {}
        for name, (size, number) in program.rows.items():
            if (size, number) not in rows:
                rows[size, number] = np.zeros(self.lanes, f"u{size}" if size else bool)
            self.registers[name] = rows[size, number]
        self.carry = np.zeros(self.lanes, bool)
        self.scratch = [np.zeros(self.lanes) for _ in range(2)]
        self.layout, size = param_layout(program)
        self.params = np.zeros(max(size, 1), np.uint8)
        self.param_rows = {}
        self.special = self.special_registers()
        self.variables()

    def special_registers(self):
        """Rows of %tid and its kin that stay as they are; %ctaid is set for each batch."""
        x, y, _ = self.block
        t = self.thread
        rows = {
            "%tid.x": t % x,
            "%tid.y": t // x % y,
            "%tid.z": t // (x * y),
            "%laneid": t & 31,
            "%warpid": t >> 5,
            "%nwarpid": np.full(self.lanes, self.warps),
            "%smid": np.zeros(self.lanes),
            "%clock": np.zeros(self.lanes),
            "%dynamic_smem_size": np.full(self.lanes, self.dynamic),
        }
        for axis, threads in zip("xyz", self.block, strict=True):
            rows[f"%ntid.{axis}"] = np.full(self.lanes, threads)
            rows[f"%nctaid.{axis}"] = np.zeros(self.lanes)
            rows[f"%ctaid.{axis}"] = np.zeros(self.lanes)
        bit = np.uint32(1) << (t & 31).astype(np.uint32)
        rows |= {
            "%lanemask_eq": bit, "%lanemask_lt": bit - np.uint32(1),
            "%lanemask_le": bit + (bit - np.uint32(1)), "%lanemask_ge": ~(bit - np.uint32(1)),
            "%lanemask_gt": ~(bit + (bit - np.uint32(1))),
        }  # fmt: skip
        rows = {name: row.astype(np.uint32) for name, row in rows.items()}
        for name in ("%clock64", "%globaltimer"):
            rows[name] = np.zeros(self.lanes, np.uint64)
        return rows

    def variables(self):
        """Lay out shared and local variables and parameters of calls."""
        module = self.program.module.variables.values()
        shared = SHARED_BASE
        local = LOCAL_BASE
        dynamic = []
        for v in (*module, *self.program.variables.values()):
            if v.space == "shared" and v.size is None:
                dynamic.append(v)
            elif v.space == "shared":
                shared = -(-shared // v.align) * v.align
                self.symbols[v.name] = shared
                shared += v.size
            elif v.space == "local":
                local = -(-local // v.align) * v.align
                self.symbols[v.name] = local
                local += v.size
            elif v.space == "param":
                self.param_rows[v.name] = np.zeros((self.lanes, v.size), np.uint8)
        for v in dynamic:
            self.symbols[v.name] = -(-shared // v.align) * v.align
        if dynamic or self.dynamic:
            shared = -(-shared // max((v.align for v in dynamic), default=16))
            shared *= max((v.align for v in dynamic), default=16)
        self.shared = Window(
            "shared", SHARED_BASE, shared - SHARED_BASE + self.dynamic, self.block_of
        )
        self.local = Window("local", LOCAL_BASE, local - LOCAL_BASE, self.every)
        self.races = Races(self)
        self.copies = Copies(self)
        self.phases = Phases(self)
        self.readings = Readings(self)
        self.observer = Observer(self)
        self.observe = self.observer.note

    def attach(self, machine):
        """Run for a machine: with its memory, switches and tensor maps."""
        self.machine = machine
        self.arena = machine.arena
        self.initcheck = machine.initcheck
        self.races.on = machine.racecheck
        self.observer.counts.clear()

    def start(self, first, grid, params):
        """Make ready to run the blocks from number `first` on of a grid."""
        self.grid = grid
        number = first + np.arange(self.blocks)
        x, y, z = grid
        live = np.repeat(number < x * y * z, self.padded) & (self.thread < self.threads)
        self.numbers = number
        for axis, values in zip(
            "xyz", (number % x, number // x % y, number // (x * y)), strict=True
        ):
            self.special[f"%ctaid.{axis}"][:] = np.repeat(values, self.padded)
        for axis, blocks in zip("xyz", grid, strict=True):
            self.special[f"%nctaid.{axis}"][:] = blocks
        self.alive[:] = live
        self.params[: len(params)] = np.frombuffer(params, np.uint8)
        self.shared.clear()
        self.local.clear()
        self.races.clear()
        self.copies.clear()
        self.phases.clear()
        self.readings.clear()

    def meet(self, blocks):
        """The threads of these blocks (None: of all) have met at a barrier."""
        self.races.barrier(blocks)
        self.copies.remind(blocks)
        self.readings.remind(blocks)

    def thread_name(self, lane):
        """The block and thread of a lane, for messages."""
        x, y, _ = self.grid
        n = int(self.numbers[lane // self.padded])
        t = int(lane % self.padded)
        bx, by, _ = self.block
        return (
            f"block ({n % x}, {n // x % y}, {n // (x * y)}) "
            f"thread ({t % bx}, {t // bx % by}, {t // (bx * by)})"
        )

    # operands ------------------------------------------------------------------------------

    def row(self, operand):
        """The raw row of a register operand."""
        if isinstance(operand, Reg):
            return self.registers[operand.name]
        raise MachineError(f"a register is wanted, not {operand}")

    def source(self, operand, kind):
        """A readable view of an operand as a type: a row, or a number spread over the lanes."""
        dtype = DTYPES[kind]
        if isinstance(operand, Reg):
            row = self.registers[operand.name]
            if "?" in (row.dtype.char, dtype.char):
                if row.dtype != dtype:
                    raise MachineError(f"{operand.name} isn't .{kind}")
                return row
            return self.narrow(row, dtype, operand.name)
        if isinstance(operand, Imm):
            return self.spread(self.number(operand, kind))
        if isinstance(operand, Sym):
            if operand.name in self.special:
                return self.narrow(self.special[operand.name], dtype, operand.name)
            if operand.name == "WARP_SZ":
                return self.spread(dtype.type(32))
            if operand.name == "%total_smem_size":
                return self.spread(dtype.type(self.shared.each))
            return self.spread(dtype.type(self.address(operand)))
        raise MachineError(f"cannot read {operand} as .{kind}")

    def narrow(self, row, dtype, name):
        """A row as a type of the same size, or as its low part."""
        width, size = row.dtype.itemsize, dtype.itemsize
        if size > width:
            raise MachineError(f"{name} of {width} bytes is too small for {size}")
        return row.view(dtype)[:: width // size] if size < width else row.view(dtype)

    def number(self, operand, kind):
        """An immediate as a NumPy scalar of the type."""
        dtype = DTYPES[kind]
        if operand.bits is not None:
            return np.frombuffer(operand.bits.to_bytes(8, "little"), dtype)[0]
        if dtype.kind in "iu":
            wrapped = int(operand.value) & ((1 << 8 * dtype.itemsize) - 1)
            return np.frombuffer(wrapped.to_bytes(dtype.itemsize, "little"), dtype)[0]
        return dtype.type(operand.value)

    def spread(self, scalar):
        """A scalar as a row without memory."""
        return np.broadcast_to(scalar, (self.lanes,))

    def address(self, symbol):
        """The address of a variable in its state space."""
        if symbol.name not in self.symbols:
            raise MachineError(f"unknown name {symbol.name}")
        return self.symbols[symbol.name] + symbol.offset

    def target(self, operand, kind):
        """A writable view for results of a type, the whole of a wider register; None for `_`."""
        if operand == Sym("_"):
            return None
        if isinstance(operand, Pair):
            operand = operand.first
        row = self.row(operand)
        dtype = DTYPES[kind]
        if "?" in (row.dtype.char, dtype.char):
            if row.dtype != dtype:
                raise MachineError(f"{operand.name} isn't .{kind}")
            return row
        if dtype.itemsize == row.dtype.itemsize:
            return row.view(dtype)
        if dtype.itemsize > row.dtype.itemsize:
            raise MachineError(f"{operand.name} is too small for .{kind}")
        return row.view(f"i{row.dtype.itemsize}") if dtype.kind == "i" else row

    def constant(self, operand):
        """The value of an operand that must be a literal."""
        if isinstance(operand, Imm):
            return int(operand.value)
        raise MachineError(f"a literal is wanted, not {operand}")

    # groups of lanes -----------------------------------------------------------------------

    def whole_warps(self, lanes, what):
        """Check that the lanes make up whole warps, of the threads still alive."""
        if len(lanes) == self.lanes:
            return
        here = np.bincount(self.warp_of[lanes], minlength=self.lanes >> 5)
        alive = np.count_nonzero(self.alive.reshape(-1, 32), axis=1)
        bad = (here > 0) & (here != alive)
        if bad.any():
            warp = int(bad.argmax())
            lane = int(np.flatnonzero(self.warp_of[lanes] == warp)[0])
            raise Fault(f"{what} by {here[warp]} of the {alive[warp]} threads of a warp", lane)
