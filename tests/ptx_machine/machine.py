"""The machine: global memory and launches."""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

import numpy as np

from .batch import Batch
from .bulk import TensorMap
from .errors import MachineError
from .executor import Executor
from .flow import build
from .liveness import share
from .memory import ALLOCATED, WRITTEN, Arena
from .parse import parse


@dataclass(slots=True)
class Loaded:
    """A PTX text on the machine: its module, programs and the addresses of its variables."""

    module: object
    programs: dict = field(default_factory=dict)
    symbols: dict = field(default_factory=dict)


#: Parsed texts, shared by all machines: parsing is the slow part.
_PARSED = OrderedDict()


def parsed(text):
    """The module of a text, from the cache if it was seen."""
    if text not in _PARSED:
        _PARSED[text] = parse(text)
        if len(_PARSED) > 64:
            _PARSED.popitem(last=False)
    _PARSED.move_to_end(text)
    return _PARSED[text]


class Machine:
    """A GPU with one arena of global memory.

    Parameters
    ----------
    bytes : int, optional
        Size of global memory.
    initcheck : bool, optional
        Whether reading memory never written is an error.
    racecheck : bool, optional
        Whether data races in shared memory are.
    profile : bool, optional
        Whether `counts` gets sectors and bank conflicts (which costs time).
    lanes : int, optional
        About how many threads run together.

    Attributes
    ----------
    counts : collections.Counter
        Of the last launch: instructions executed by opcode, counted per warp; with `profile` also
        "global sectors", "global load sectors", "global store sectors" and "bank conflicts".
    """

    def __init__(self, bytes=64 << 20, initcheck=True, racecheck=True, profile=False, lanes=4096):
        self.arena = Arena(bytes)
        self.initcheck = initcheck
        self.racecheck = racecheck
        self.profile = profile
        self.lanes = lanes
        self.counts = Counter()
        self.tensor_maps = {}
        self._loaded = {}
        self._bound = OrderedDict()

    def allocate(self, nbytes):
        """The address of fresh memory, aligned to 256 bytes and never written."""
        return self.arena.allocate(nbytes)

    def free(self, address):
        """Give memory back; touching it is an error from now on."""
        self.arena.free(address)

    def write(self, address, data):
        """Copy bytes (or an array's) to the machine."""
        if isinstance(data, np.ndarray):
            data = data.tobytes()
        into, state = self.arena.span(address, len(data))
        into[:] = np.frombuffer(data, np.uint8)
        state[:] = ALLOCATED | WRITTEN

    def read(self, address, nbytes):
        """Copy bytes from the machine; all of them must have been written."""
        data, state = self.arena.span(address, nbytes)
        if self.initcheck and not (state & WRITTEN).all():
            first = int((state & WRITTEN == 0).argmax())
            raise MachineError(f"byte {first} of the {nbytes} read was never written")
        return data.tobytes()

    def tensor_map(
        self, address, element, sizes, strides, box, steps=None, swizzle=0, lower=None, upper=None
    ):
        """The address of a stand-in for a CUtensorMap (zeros outside, no interleaving).

        Parameters
        ----------
        address : int
            Of the tensor.
        element : int
            Bytes of an element.
        sizes : tuple of int
            Of the tensor, innermost dimension first.
        strides : tuple of int
            In bytes, of all dimensions but the innermost.
        box : tuple of int
            Elements of a tile; (channels, pixels) for im2col copies.
        steps : tuple of int, optional
            The traversal strides, 1 by default.
        swizzle : int, optional
            0, 32, 64 or 128 bytes.
        lower, upper : tuple of int, optional
            Corners of the bounding box of an im2col copy along w, h, ..., as
            cuTensorMapEncodeIm2col takes them.
        """
        steps = tuple(steps or (1,) * len(sizes))
        corners = [None if corner is None else tuple(corner) for corner in (lower, upper)]
        described = TensorMap(
            address, element, tuple(sizes), tuple(strides), tuple(box), steps, swizzle, *corners
        )
        described.check()
        where = self.allocate(128)
        self.tensor_maps[where] = described
        return where

    def launch(self, ptx, entry, grid, block, shared_bytes=0, params=b""):
        """Run a kernel to its end.

        Parameters
        ----------
        ptx : str
            The text.
        entry : str
            Name of its entry.
        grid, block : int or tuple of int
            Blocks, and threads of a block, along x, y, z.
        shared_bytes : int
            Dynamic shared memory.
        params : bytes
            The packed parameters, each aligned to its size (or .align).
        """
        grid, block = _three(grid), _three(block)
        program = self.program(ptx, entry)
        threads = block[0] * block[1] * block[2]
        total = grid[0] * grid[1] * grid[2]
        size = self.param_layout(program)[1]
        if len(params) != size:
            raise MachineError(f"{entry} takes {size} bytes of parameters, not {len(params)}")
        if not 0 < threads <= 1024 or total < 1:
            raise MachineError(f"a launch of {grid} blocks of {block} threads")
        padded = -(-threads // 32) * 32
        blocks = min(total, max(1, self.lanes // padded))
        executor = self.bind(ptx, program, blocks, block, shared_bytes)
        batch = executor.batch
        executor.executions[:] = 0
        batch.observer.counts.clear()
        with np.errstate(all="ignore"):
            for first in range(0, total, blocks):
                batch.start(first, grid, params)
                executor.run()
        self.counts = executor.opcodes() + batch.observer.counts

    def program(self, ptx, entry):
        """The program of an entry; loading a text allocates its global and const variables."""
        if ptx not in self._loaded:
            loaded = self._loaded[ptx] = Loaded(parsed(ptx))
            for v in loaded.module.variables.values():
                if v.space in ("global", "const") and v.size is not None:
                    loaded.symbols[v.name] = self.allocate(v.size)
                    self.write(loaded.symbols[v.name], v.data or b"")
                    rest = v.size - len(v.data or b"")
                    self.write(loaded.symbols[v.name] + v.size - rest, bytes(rest))
        loaded = self._loaded[ptx]
        if entry not in loaded.programs:
            program = loaded.programs[entry] = build(loaded.module, entry)
            program.rows = share(program)
            program.loaded = loaded
        return loaded.programs[entry]

    def bind(self, ptx, program, blocks, block, shared_bytes):
        """The executor for a shape of batch; the last few are kept."""
        key = (ptx, program.name, blocks, block, shared_bytes)
        if key not in self._bound:
            self._bound[key] = Executor(Batch(program, self, blocks, block, shared_bytes))
            if len(self._bound) > 8:
                self._bound.popitem(last=False)
        self._bound.move_to_end(key)
        return self._bound[key]

    @staticmethod
    def param_layout(program):
        """({parameter: (offset, size)}, total size): every parameter naturally aligned."""
        places, at = {}, 0
        for v in program.params:
            at = -(-at // v.align) * v.align
            places[v.name] = (at, v.size)
            at += v.size
        return places, at


def _three(sizes):
    """A launch dimension as three numbers."""
    sizes = (sizes,) if isinstance(sizes, int) else tuple(int(size) for size in sizes)
    return (*sizes, 1, 1)[:3]
