"""The machine: global memory and launches."""

from collections import Counter, OrderedDict

import numpy as np

from .batch import Batch, param_layout
from .bulk import TensorMap
from .errors import MachineError
from .executor import Executor
from .flow import build
from .liveness import share, symbols
from .memory import ALLOCATED, WRITTEN, Arena
from .ownership import Owners
from .parse import parse

#: Parsed texts, programs of (text, entry) and executors, shared by all machines: they take longer
#: to make than to run once. The oldest give way.
_MODULES, _PROGRAMS, _EXECUTORS = OrderedDict(), OrderedDict(), OrderedDict()


def kept(cache, limit, key, make):
    """The value of a key, from a cache of the latest `limit` ones."""
    if key not in cache:
        cache[key] = make()
        if len(cache) > limit:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


def program_of(module, entry):
    """The program of an entry, ready to be bound to lanes."""
    program = build(module, entry)
    program.rows = share(program)
    program.used = frozenset(symbols(program))
    return program


class Machine:
    """A GPU with one arena of global memory.

    Parameters
    ----------
    bytes : int, optional
        Size of global memory.
    initcheck : bool, optional
        Whether reading memory never written is an error.
    racecheck : bool, optional
        Whether data races in shared memory are, and blocks that touch what another one wrote.
    profile : bool, optional
        Whether `counts` gets sectors and bank conflicts (which costs time).
    lanes : int, optional
        About how many threads run together.
    patience : int, optional
        How many basic blocks they may run until the kernel counts as endless.

    Attributes
    ----------
    counts : collections.Counter
        Of the last launch: instructions executed by opcode, counted per warp; with `profile` also
        "global sectors", "global load sectors", "global store sectors" and "bank conflicts".
    """

    def __init__(
        self,
        bytes=64 << 20,
        initcheck=True,
        racecheck=True,
        profile=False,
        lanes=4096,
        patience=5_000_000,
    ):
        self.arena = Arena(bytes)
        self.owners = Owners(self.arena.size)
        self.initcheck = initcheck
        self.racecheck = racecheck
        self.profile = profile
        self.lanes = lanes
        self.patience = patience
        self.counts = Counter()
        self.tensor_maps = {}
        self._symbols = {}

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
        size = param_layout(program)[1]
        if len(params) != size:
            raise MachineError(f"{entry} takes {size} bytes of parameters, not {len(params)}")
        if not 0 < threads <= 1024 or total < 1:
            raise MachineError(f"a launch of {grid} blocks of {block} threads")
        padded = -(-threads // 32) * 32
        blocks = min(total, max(1, self.lanes // padded))
        executor = self.bind(ptx, program, blocks, block, shared_bytes)
        batch = executor.batch
        executor.executions[:] = 0
        self.owners.clear()
        with np.errstate(all="ignore"):
            for first in range(0, total, blocks):
                batch.start(first, grid, params)
                executor.run()
        self.counts = executor.opcodes() + batch.observer.counts

    def load(self, ptx):
        """The addresses of a text's global and const variables; they are made when it is new."""
        if ptx not in self._symbols:
            found = self._symbols[ptx] = {}
            module = kept(_MODULES, 64, ptx, lambda: parse(ptx))
            for v in module.variables.values():
                if v.space in ("global", "const") and v.size is not None:
                    found[v.name] = self.allocate(v.size)
                    self.write(found[v.name], (v.data or b"").ljust(v.size, b"\0"))
        return self._symbols[ptx]

    def program(self, ptx, entry):
        """The program of an entry."""
        module = kept(_MODULES, 64, ptx, lambda: parse(ptx))
        return kept(_PROGRAMS, 64, (ptx, entry), lambda: program_of(module, entry))

    def bind(self, ptx, program, blocks, block, shared_bytes):
        """The executor for a shape of batch."""
        addresses = {n: a for n, a in self.load(ptx).items() if n in program.used}
        shape = (blocks, block, shared_bytes)
        key = (ptx, program.name, *shape, *addresses.items())
        executor = kept(_EXECUTORS, 12, key, lambda: Executor(Batch(program, addresses, *shape)))
        executor.batch.attach(self)
        return executor


def _three(sizes):
    """A launch dimension as three numbers."""
    sizes = (sizes,) if isinstance(sizes, int) else tuple(int(size) for size in sizes)
    return (*sizes, 1, 1)[:3]
