"""Operands of instructions and how they are read."""

import re
import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reg:
    """A register by its unique name."""

    name: str


@dataclass(frozen=True, slots=True)
class Imm:
    """A number; `bits` are the bits of a 0f or 0d literal, else None."""

    value: int | float
    bits: int | None = None


@dataclass(frozen=True, slots=True)
class Sym:
    """A variable, parameter, label, function or special register."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Vec:
    """``{a, b, ...}``."""

    items: tuple


@dataclass(frozen=True, slots=True)
class Addr:
    """``[base + offset, rest...]``."""

    base: object
    offset: int
    rest: tuple


@dataclass(frozen=True, slots=True)
class Pair:
    """``a|b``."""

    first: object
    second: object


@dataclass(frozen=True, slots=True)
class Not:
    """``!a``."""

    operand: object


_TOKEN = re.compile(
    r"\s*(?:(?P<hexfloat>0[fF][0-9a-fA-F]{8}\b|0[dD][0-9a-fA-F]{16}\b)"
    r"|(?P<decimal>\d+\.\d*(?:[eE][+-]?\d+)?)"
    r"|(?P<int>0[xX][0-9a-fA-F]+U?|\d+U?)"
    r"|(?P<name>[A-Za-z_$%][\w$]*(?:\.[xyzw]\b)?)"
    r"|(?P<punct>[{}\[\]()|,!+<>=-]))"
)


def _number(match):
    """The immediate of a token."""
    text = match.group()
    text = text.strip()
    if match["hexfloat"]:
        bits = int(text[2:], 16)
        code, width = ("<f", 4) if text[1] in "fF" else ("<d", 8)
        return Imm(struct.unpack(code, bits.to_bytes(width, "little"))[0], bits)
    if match["decimal"]:
        return Imm(float(text))
    return Imm(int(text.rstrip("U"), 0))


class _Operands:
    """A recursive-descent reader of one instruction's operands."""

    def __init__(self, text, lookup):
        self.lookup = lookup
        self.tokens = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"cannot read {text[at:]!r}")
            kind = match.lastgroup
            self.tokens.append((kind, match.group().strip(), match))
            at = match.end()
        self.at = 0

    def peek(self):
        return self.tokens[self.at][1] if self.at < len(self.tokens) else None

    def accept(self, text):
        if self.peek() == text:
            self.at += 1
            return True
        return False

    def items(self, end):
        """Operands separated by commas, up to the closing bracket or the end."""
        found = []
        while self.peek() is not None and not (end and self.accept(end)):
            found.append(self.operand())
            if not self.accept(","):
                if end and not self.accept(end):
                    raise ValueError(f"expected {end!r}")
                break
        if end is None and self.at < len(self.tokens):
            raise ValueError(f"unexpected {self.peek()!r}")
        return tuple(found)

    def operand(self):
        if self.accept("{"):
            return Vec(self.items("}"))
        if self.accept("("):
            return Vec(self.items(")"))
        if self.accept("["):
            base, *rest = self.items("]")
            if isinstance(base, Sym):
                return Addr(Sym(base.name), base.offset, tuple(rest))
            return Addr(base, 0, tuple(rest)) if not isinstance(base, Addr) else base
        if self.accept("!"):
            return Not(self.operand())
        return self.sum()

    def sum(self):
        """An atom, with an offset or as the first of a pair."""
        first = self.atom()
        if self.accept("|"):
            return Pair(first, self.atom())
        offset = 0
        while self.peek() in ("+", "-"):
            sign = -1 if self.tokens[self.at][1] == "-" else 1
            self.at += 1
            offset += sign * self.atom().value
        if not offset:
            return first
        if isinstance(first, Imm):
            return Imm(first.value + offset)
        if isinstance(first, Sym):
            return Sym(first.name, offset)
        return Addr(first, offset, ())

    def atom(self):
        negative = self.accept("-")
        kind, text, match = self.tokens[self.at]
        self.at += 1
        if kind == "name":
            return self.lookup(text)
        if kind == "punct":
            raise ValueError(f"unexpected {text!r}")
        number = _number(match)
        return Imm(-number.value) if negative else number


def read_operands(text, lookup):
    """The operands of an instruction; `lookup` turns a name into a Reg or a Sym."""
    return _Operands(text, lookup).items(None)


_PIECE = re.compile(r"\s*(\{[^{}]*\}|\[[^\[\]{}]*\]|[^,{}\[\]()]+?)\s*(,|$)")


def split_operands(text):
    """The texts of operands, None where brackets are nested or calls make it harder."""
    pieces, at = [], 0
    while at < len(text):
        match = _PIECE.match(text, at)
        if match is None:
            return None
        pieces.append(match[1])
        at = match.end()
    return pieces
