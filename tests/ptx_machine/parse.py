"""Reads PTX text into functions, variables and instructions.

Names of registers, parameters, variables and labels declared inside ``{ }`` scopes are made unique
(``name#scope``), so that everything later deals with one flat name space per function.
"""

import bisect
import re
import struct
from dataclasses import dataclass, field

from .errors import MachineError
from .kinds import SIZES
from .operands import Reg, Sym, Vec, read_operands, split_operands


@dataclass(slots=True)
class Instruction:
    """One instruction: its guard (register, negated), opcode in parts, operands."""

    line: int
    text: str
    guard: tuple | None
    op: tuple
    operands: tuple


@dataclass(slots=True)
class Variable:
    """A variable of a state space; `data` is its initial value or None."""

    name: str
    space: str
    align: int
    size: int | None
    data: bytes | None = None


@dataclass(slots=True)
class Function:
    """A function or an entry, parsed."""

    name: str
    entry: bool
    params: list
    returns: list
    body: list = field(default_factory=list)
    labels: dict = field(default_factory=dict)
    registers: dict = field(default_factory=dict)
    variables: dict = field(default_factory=dict)
    targets: dict = field(default_factory=dict)


@dataclass(slots=True)
class Module:
    """A whole PTX text."""

    functions: dict = field(default_factory=dict)
    variables: dict = field(default_factory=dict)


_LABEL = re.compile(r"([A-Za-z_$%][\w$]*)\s*:(?!:)")
_SKIP = re.compile(r"\s+|\.(?:file|loc|section)\b[^\n]*")
_WORD = re.compile(r"[A-Za-z_$%][\w$]*(?:\.[xyzw])?")
_GUARD = re.compile(r"@(!?)([\w$%]+)\s*")
_DECLARE = re.compile(
    r"\.(?P<space>reg|local|shared|param|global|const)\s+(?:\.align\s+(?P<align>\d+)\s+)?"
    r"(?:\.v(?P<vector>[24])\s+)?\.(?P<type>\w+)\s+(?P<names>.*)",
    re.S,
)
_NAME = re.compile(r"([\w$%]+)\s*(?:<(\d+)>)?\s*(?:\[(\d*)\])?")
_LINKAGE = re.compile(r"\.(?:visible|extern|weak|common)\s+")
_ENTRY = re.compile(r"\.(entry|func)\b\s*")


class _Scope:
    """Names declared between one pair of braces."""

    def __init__(self, number, parent):
        self.number = number
        self.parent = parent
        self.names = {}
        self.ranges = {}
        self.seen = {}
        self.seen = {}

    def unique(self, name):
        return name if self.number == 0 else f"{name}#{self.number}"

    def find(self, name):
        """The kind ('reg' or 'var') and unique name, or None."""
        if name in self.names:
            return self.names[name]
        stem = name.rstrip("0123456789")
        if stem != name and stem in self.ranges and int(name[len(stem) :]) < self.ranges[stem][0]:
            return "reg", self.unique(name), self.ranges[stem][1]
        return self.parent.find(name) if self.parent else None


class Parser:
    """Reads one text; `module` is the result."""

    def __init__(self, text):
        self.text = re.sub(r"//[^\n]*", lambda m: " " * len(m.group()), text)
        self.text = re.sub(
            r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), self.text, flags=re.S
        )
        self.lines = [m.start() for m in re.finditer("\n", self.text)]
        self.at = 0
        self.module = Module()

    def line(self, at=None):
        return bisect.bisect_left(self.lines, self.at if at is None else at) + 1

    def fail(self, why, at=None):
        raise MachineError(f"line {self.line(at)}: {why}")

    def skip(self):
        while match := _SKIP.match(self.text, self.at):
            self.at = match.end()
        return self.at < len(self.text)

    def until(self, stop):
        """The text before the next `stop`, which is taken too."""
        end = self.text.find(stop, self.at)
        if end < 0:
            self.fail(f"{stop!r} missing")
        piece = self.text[self.at : end]
        self.at = end + 1
        return piece

    def parse(self):
        """Read the whole text."""
        while self.skip():
            if match := re.compile(r"\.(version|target|address_size)\b[^\n]*").match(
                self.text, self.at
            ):
                self.at = match.end()
                continue
            while match := _LINKAGE.match(self.text, self.at):
                self.at = match.end()
            if match := _ENTRY.match(self.text, self.at):
                self.at = match.end()
                self.function(match[1] == "entry")
            else:
                for variable in self.declare(self.until(";")):
                    self.module.variables[variable.name] = variable
        return self.module

    def declare(self, text, scope=None, function=None):
        """The variables of a declaration; registers go to `function`."""
        match = _DECLARE.match(text.strip())
        if match is None:
            self.fail(f"unknown declaration {text.strip()[:60]!r}")
        size = SIZES.get(match["type"])
        if size is None:
            self.fail(f"unknown type .{match['type']}")
        names, _, initial = match["names"].partition("=")
        if scope:
            scope.seen.clear()
        if match["space"] == "reg":
            self.registers(names, match["type"], scope, function)
            return []
        found = []
        for name, _, length in _NAME.findall(names):
            array = "[" in names
            count = int(length) if length else (None if array else 1)
            data = self.initial(initial, match["type"]) if initial else None
            total = None if count is None else count * size * int(match["vector"] or 1)
            if total is None and data is not None:
                total = len(data)
            unique = scope.unique(name) if scope else name
            if scope:
                scope.names[name] = ("var", unique, None)
            align = int(match["align"] or size * int(match["vector"] or 1))
            found.append(Variable(unique, match["space"], align, total, data))
        return found

    def registers(self, names, kind, scope, function):
        for name, count, _ in _NAME.findall(names):
            if count:
                scope.ranges[name] = (int(count), kind)
            else:
                scope.names[name] = ("reg", scope.unique(name), kind)
                function.registers[scope.unique(name)] = kind

    def initial(self, text, kind):
        """The bytes of an initialiser."""
        values = re.findall(r"0[fFdD][0-9a-fA-F]+|0[xX][0-9a-fA-F]+|-?\d+(?:\.\d+)?", text)
        size = SIZES[kind]
        out = bytearray()
        for value in values:
            if value[:2].lower() in ("0f", "0d"):
                out += int(value[2:], 16).to_bytes(size, "little")
            elif kind in ("f32", "f64"):
                out += struct.pack("<f" if size == 4 else "<d", float(value))
            else:
                out += (int(value, 0) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        return bytes(out)

    def parameters(self):
        """The variables of a parenthesised parameter list, if one follows."""
        self.skip()
        if self.text[self.at] != "(":
            return []
        self.at += 1
        inside = self.until(")")
        return [v for part in inside.split(",") if part.strip() for v in self.declare(part)]

    def function(self, entry):
        returns = [] if entry else self.parameters()
        self.skip()
        match = re.compile(r"[\w$]+").match(self.text, self.at)
        self.at = match.end()
        function = Function(match.group(), entry, self.parameters(), returns)
        stop = re.compile(r"[;{]").search(self.text, self.at)
        self.at = stop.end()
        if stop.group() == ";":
            return  # a prototype
        self.body(function)
        self.module.functions[function.name] = function

    def body(self, function):
        """The statements of a function up to its closing brace."""
        scope = _Scope(0, None)
        for variable in function.params + function.returns:
            scope.names[variable.name] = ("var", variable.name, None)
        scopes, wanted = 0, []
        while True:
            if not self.skip():
                self.fail("a function doesn't end")
            char = self.text[self.at]
            if char == "{":
                scopes += 1
                scope = _Scope(scopes, scope)
                self.at += 1
            elif char == "}":
                self.at += 1
                scope = scope.parent
                if scope is None:
                    break
            elif char == ";":
                self.at += 1
            elif match := _LABEL.match(self.text, self.at):
                self.at = match.end()
                scope.names[match[1]] = ("label", scope.unique(match[1]), None)
                function.labels[scope.unique(match[1])] = len(function.body)
            else:
                self.statement(function, scope, wanted)
        for index, where in wanted:
            self.resolve(function, index, where)

    def statement(self, function, scope, wanted):
        """A declaration or an instruction; branches go to `wanted`, to be resolved later."""
        start = self.at
        text = self.until(";").strip()
        if text.startswith((".pragma", ".maxntid", ".reqntid", ".minnctapersm", ".maxnreg")):
            return
        if text.startswith(".branchtargets"):
            label = next(reversed(function.labels))  # the label that the directive follows
            function.targets[label] = re.findall(r"[\w$]+", text[len(".branchtargets") :])
            return
        if text.startswith("."):
            for variable in self.declare(text, scope, function):
                function.variables[variable.name] = variable
            return
        guard, rest = None, text
        if match := _GUARD.match(text):
            rest = text[match.end() :]
            kind = scope.find(match[2])
            if kind is None:
                self.fail(f"unknown predicate {match[2]}", start)
            self.use(function, kind)
            guard = (kind[1], bool(match[1]))
        pieces = re.match(r"(\S+)\s*(.*)", rest, re.S)
        name, operands = pieces[1], pieces[2]

        try:
            read = self.operands(operands, scope, function)
        except (ValueError, IndexError, AttributeError) as error:
            self.fail(f"cannot read {text!r}: {error}", start)
        op = tuple(name.split("."))
        if op[0] in ("bra", "brx"):
            wanted.append((len(function.body), scope))
        line = self.line(start)
        function.body.append(Instruction(line, " ".join(text.split()), guard, op, read))

    def operands(self, text, scope, function):
        """The operands of an instruction; those seen before in the scope aren't read again."""

        def lookup(word):
            known = scope.find(word)
            if known is None:
                return Sym(word)
            if known[0] == "reg":
                self.use(function, known)
                return Reg(known[1])
            return Sym(known[1])

        def one(piece):
            if piece not in scope.seen:
                word = _WORD.fullmatch(piece)
                scope.seen[piece] = lookup(piece) if word else read_operands(piece, lookup)[0]
            return scope.seen[piece]

        pieces = split_operands(text)
        if pieces is None:
            return read_operands(text, lookup)
        return tuple(
            Vec(tuple(one(item.strip()) for item in piece[1:-1].split(",")))
            if piece[0] == "{"
            else one(piece)
            for piece in pieces
        )

    def use(self, function, kind):
        if kind[2] is not None:
            function.registers.setdefault(kind[1], kind[2])

    def resolve(self, function, index, scope):
        """Bind a branch's label, which may stand after the branch, to its unique name."""
        instruction = function.body[index]
        last = instruction.operands[-1]
        known = scope.find(last.name)
        if known is None or known[0] != "label":
            raise MachineError(f"line {instruction.line}: no label {last.name}")
        instruction.operands = (*instruction.operands[:-1], Sym(known[1]))


def parse(text):
    """The module of a PTX text."""
    return Parser(text).parse()
