"""From a parsed module to basic blocks of one entry, in an order that makes threads meet again.

Calls are expanded in place (PTX from numba-cuda has no recursion), so there is no call stack.
Blocks are put in topological order, loops contiguous with their exits behind them: a scheduler that
always runs the threads in the foremost block then brings diverged threads together at the first
place where their ways can meet, as ptxas' own reconvergence does.
"""

from dataclasses import dataclass, field

from .errors import MachineError
from .operands import Addr, Not, Pair, Reg, Sym, Vec
from .parse import Instruction, Variable

#: Instructions that end a block: threads may part, wait or end there.
ENDS = {"bra", "brx", "ret", "exit", "trap", "bar", "barrier", "mbarrier"}


@dataclass(slots=True)
class Block:
    """A basic block: straight code, what ends it, and the block behind it in the text."""

    number: int
    code: list
    end: Instruction | None
    next: int | None
    targets: tuple = ()


@dataclass(slots=True)
class Program:
    """One entry with its calls expanded."""

    name: str
    params: list
    registers: dict = field(default_factory=dict)
    variables: dict = field(default_factory=dict)
    code: list = field(default_factory=list)
    labels: dict = field(default_factory=dict)
    targets: dict = field(default_factory=dict)
    blocks: list = field(default_factory=list)
    rows: dict = field(default_factory=dict)
    module: object = None
    used: frozenset = frozenset()


def _ends_block(instruction):
    op = instruction.op
    if op[0] == "mbarrier":
        return op[1] in ("try_wait", "test_wait")
    if op[0] in ("bar", "barrier"):
        return op[1] != "warp"
    return op[0] in ENDS


def rename(operand, registers, symbols):
    """The operand with its names looked up in the two functions."""
    match operand:
        case Reg(name):
            return Reg(registers(name))
        case Sym(name, offset):
            return Sym(symbols(name), offset)
        case Vec(items):
            return Vec(tuple(rename(item, registers, symbols) for item in items))
        case Addr(base, offset, rest):
            return Addr(
                rename(base, registers, symbols),
                offset,
                tuple(rename(item, registers, symbols) for item in rest),
            )
        case Pair(first, second):
            return Pair(rename(first, registers, symbols), rename(second, registers, symbols))
        case Not(inner):
            return Not(rename(inner, registers, symbols))
    return operand


class _Expander:
    """Copies a function and what it calls into one program."""

    def __init__(self, module, program):
        self.module = module
        self.program = program
        self.copies = 0

    def expand(self, function, prefix, bound, after, depth):
        """Append `function`; `bound` maps its parameters to the caller's, `after` is the label
        to go to at its end (None in the entry)."""
        if depth > 20:
            raise MachineError(f"calls of {function.name} nest too deep: recursion?")
        program = self.program
        own = {
            *function.labels,
            *function.variables,
            *(target for target in function.targets),
        }

        def registers(name):
            return prefix + name

        def symbols(name):
            if name in bound:
                return bound[name]
            return prefix + name if name in own else name

        for name, kind in function.registers.items():
            program.registers[prefix + name] = kind
        for name, v in function.variables.items():
            new = Variable(prefix + name, v.space, v.align, v.size, v.data)
            program.variables[prefix + name] = new
        for name, labels in function.targets.items():
            program.targets[prefix + name] = [prefix + label for label in labels]
        places = {}
        for label, index in function.labels.items():
            places.setdefault(index, []).append(prefix + label)
        for index, instruction in enumerate(function.body):
            for label in places.get(index, ()):
                program.labels[label] = len(program.code)
            guard = instruction.guard
            if guard:
                guard = (registers(guard[0]), guard[1])
            operands = instruction.operands
            if depth:
                operands = tuple(rename(o, registers, symbols) for o in operands)
            new = Instruction(instruction.line, instruction.text, guard, instruction.op, operands)
            if new.op[0] == "call":
                self.call(new, depth)
            elif new.op[0] == "ret" and after:
                new.op, new.operands = ("bra",), (Sym(after),)
                program.code.append(new)
            else:
                program.code.append(new)
        for label in places.get(len(function.body), ()):
            program.labels[label] = len(program.code)

    def call(self, instruction, depth):
        """Put the called function's code where the call stands."""
        operands = list(instruction.operands)
        results = operands.pop(0).items if isinstance(operands[0], Vec) else ()
        name = operands.pop(0)
        arguments = operands.pop(0).items if operands else ()
        function = self.module.functions.get(name.name) if isinstance(name, Sym) else None
        if function is None:
            raise MachineError(
                f"line {instruction.line}: calls a function not in the text: {instruction.text}"
            )
        bound = {v.name: a.name for v, a in zip(function.params, arguments, strict=True)}
        bound |= {v.name: a.name for v, a in zip(function.returns, results, strict=True)}
        self.copies += 1
        after = f"after call {self.copies}"
        if instruction.guard:
            skip = (instruction.guard[0], not instruction.guard[1])
            self.program.code.append(
                Instruction(instruction.line, instruction.text, skip, ("bra",), (Sym(after),))
            )
        self.expand(function, f"call {self.copies}: ", bound, after, depth + 1)
        self.program.labels[after] = len(self.program.code)


def _split(program):
    """Cut the code into blocks."""
    code = program.code
    starts = {0, *program.labels.values()}
    starts.update(i + 1 for i, instruction in enumerate(code) if _ends_block(instruction))
    starts = sorted(start for start in starts if start < len(code))
    number = {start: k for k, start in enumerate(starts)}
    end_number = len(starts)

    def block_of(label):
        return number.get(program.labels[label], end_number)

    for k, (start, stop) in enumerate(zip(starts, [*starts[1:], len(code)], strict=True)):
        part = code[start:stop]
        end = part.pop() if part and _ends_block(part[-1]) else None
        targets = ()
        if end is not None and end.op[0] == "bra":
            targets = (block_of(end.operands[-1].name),)
        elif end is not None and end.op[0] == "brx":
            targets = tuple(map(block_of, program.targets[end.operands[-1].name]))
        program.blocks.append(Block(k, part, end, k + 1, targets))
    # what falls off the end returns
    program.blocks.append(Block(end_number, [], Instruction(0, "ret", None, ("ret",), ()), None))


def successors(block):
    """The numbers of the blocks that may follow."""
    end = block.end
    if end is None:
        return (block.next,)
    if end.op[0] in ("ret", "exit", "trap"):
        return (block.next,) if end.guard else ()
    if end.op[0] in ("bra", "brx"):
        return (*block.targets, block.next) if end.guard else block.targets
    return (block.next,)


def _components(nodes, follow):
    """Strongly connected components in topological order (Tarjan's algorithm, no recursion)."""
    index, low, on_stack, stack, found = {}, {}, set(), [], []
    for root in nodes:
        if root in index:
            continue
        work = [(root, iter(follow[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for other in rest:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(follow[other])))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    at = stack.index(node)
                    found.append(stack[at:])
                    on_stack.difference_update(stack[at:])
                    del stack[at:]
    return found[::-1]


def _order(nodes, follow, entry):
    """Nodes in topological order, each loop contiguous and its header first."""
    out = []
    inside = set(nodes)
    follow = {n: [s for s in follow[n] if s in inside] for n in nodes}
    for part in _components([entry], follow):
        if len(part) == 1:
            out += part
            continue
        members = set(part)
        outside = {s for n in nodes if n not in members for s in follow[n]} | {entry}
        header = min((n for n in part if n in outside), default=min(part))
        inner = {n: [s for s in follow[n] if s in members and s != header] for n in part}
        out += _order(sorted(part), inner, header)
    return out


def build(module, entry):
    """The program of one entry: its blocks in running order, numbered so."""
    function = module.functions.get(entry)
    if function is None or not function.entry:
        raise MachineError(f"the text has no entry {entry}")
    program = Program(entry, function.params, module=module)
    _Expander(module, program).expand(function, "", {}, None, 0)
    _split(program)
    follow = {block.number: list(successors(block)) for block in program.blocks}
    order = _order([block.number for block in program.blocks], follow, 0)
    rank = {number: k for k, number in enumerate(order)}
    blocks = [program.blocks[number] for number in order]  # those that can be reached
    for block in blocks:
        block.number = rank[block.number]
        block.next = rank.get(block.next)
        block.targets = tuple(rank[t] for t in block.targets)
    program.blocks = blocks
    return program
