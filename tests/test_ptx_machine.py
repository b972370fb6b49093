"""The PTX machine: instructions against NumPy, and every check with a kernel that trips it."""

import numpy as np
import pytest

from ptx_texts import run


def load(kinds):
    """PTX that loads element `tid` of arrays p0, p1, ... into registers, and their names.

    The thread's own number is in %r31, the address of its element of the result in %rd31 after
    `store`.
    """
    prefix = {"f32": "%f", "f64": "%fd", "32": "%r", "64": "%rd", "16": "%rs"}
    lines = ["mov.u32 %r31, %tid.x;"]
    names = []
    for k, kind in enumerate(kinds):
        bits = int(kind.lstrip("bsuf"))
        register = prefix.get(kind, prefix.get(str(bits))) + str(k)
        lines += [
            f"ld.param.u64 %rd30, [p{k}];",
            f"mad.wide.u32 %rd30, %r31, {bits // 8}, %rd30;",
            f"ld.global.{kind} {register}, [%rd30];",
        ]
        names.append(register)
    return "\n".join(lines), names


def store(kind, register, count):
    """PTX that stores a register to element `tid` of the result, parameter number `count`."""
    bits = int(kind.lstrip("bsuf"))
    return (
        f"ld.param.u64 %rd31, [p{count}];\nmad.wide.u32 %rd31, %r31, {bits // 8}, %rd31;\n"
        f"st.global.{kind} [%rd31], {register};"
    )


DTYPES = {"f32": "f4", "f64": "f8", "u32": "u4", "s32": "i4", "b32": "u4", "u64": "u8",
          "s64": "i8", "b64": "u8", "u16": "u2", "s16": "i2", "b16": "u2"}  # fmt: skip


def numbers(kind, seed):
    """64 numbers of a type, extremes among them."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(DTYPES[kind])
    if dtype.kind == "f":
        values = rng.standard_normal(64).astype(dtype) * 10
        values[:6] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40]
        return values[rng.permutation(64)]
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, 64, dtype, endpoint=True)
    values[:4] = [0, 1, info.max, info.min]
    return values[rng.permutation(64)]


def check(opcode, kinds, result, expected, scratch=None, suffix=""):
    """`opcode` applied to columns of numbers gives what NumPy's `expected` gives."""
    arrays = [numbers(kind, k) for k, kind in enumerate(kinds)]
    prefix, names = load(kinds)
    register = scratch or {"f32": "%f20", "f64": "%fd10"}.get(result)
    register = register or {"16": "%rs10", "32": "%r20", "64": "%rd20"}[result[1:]]
    body = "\n".join(
        (prefix, f"{opcode} {register}, {', '.join(names)}{suffix};",
         store(result, register, len(kinds)))
    )  # fmt: skip
    out = run(body, arrays, np.zeros(64, DTYPES[result]))
    with np.errstate(all="ignore"):
        wanted = expected(*arrays)
    np.testing.assert_array_equal(out, np.asarray(wanted).astype(out.dtype))


def exactly(function):
    """A function of Python integers, element by element, wrapped to the type of the first array."""

    def apply(*arrays):
        out = [function(*(int(v) for v in values)) for values in zip(*arrays, strict=True)]
        bits = 8 * arrays[0].dtype.itemsize
        return np.array([v & ((1 << bits) - 1) for v in out], f"u{bits // 8}").view(arrays[0].dtype)

    return apply


INTEGERS = {
    "add.s32": lambda a, b: a + b, "sub.u64": lambda a, b: a - b, "mul.lo.s32": lambda a, b: a * b,
    "mul.hi.u32": lambda a, b: a * b >> 32, "mul.hi.s64": lambda a, b: a * b >> 64,
    "mul.hi.u64": lambda a, b: a * b >> 64, "min.s32": min, "max.u32": max,
    "and.b32": lambda a, b: a & b, "or.b64": lambda a, b: a | b, "xor.b32": lambda a, b: a ^ b,
    "shl.b32": lambda a, b: a << b if b < 32 else 0, "shr.u32": lambda a, b: a >> min(b, 32),
    "mul24.lo.u32": lambda a, b: (a & 0xFFFFFF) * (b & 0xFFFFFF),
    "add.sat.s32": lambda a, b: max(min(a + b, 2**31 - 1), -(2**31)),
}  # fmt: skip


@pytest.mark.parametrize("opcode", INTEGERS)
def test_integers(opcode):
    kind = opcode.split(".")[-1]
    kinds = [kind, "u32" if opcode.startswith("sh") else kind]
    check(opcode, kinds, kind, exactly(INTEGERS[opcode]))


THREE = {
    "mad.lo.s32": lambda a, b, c: a * b + c, "mad.hi.u32": lambda a, b, c: (a * b >> 32) + c,
    "bfe.u32": lambda a, b, c: (a >> (b & 255)) & ((1 << (c & 255)) - 1),
    "sad.u32": lambda a, b, c: abs(a - b) + c,
    "shf.l.wrap.b32": lambda a, b, c: ((b << 32 | a) << (c & 31)) >> 32,
    "shf.r.clamp.b32": lambda a, b, c: (b << 32 | a) >> min(c, 32),
    "prmt.b32": lambda a, b, c: sum(
        ((255 * (x >> 7) if c >> 4 * k & 8 else x) << 8 * k)
        for k in range(4)
        for x in [(b << 32 | a) >> 8 * (c >> 4 * k & 7) & 255]
    ),
}  # fmt: skip


@pytest.mark.parametrize("opcode", THREE)
def test_integers_of_three(opcode):
    kind = opcode.split(".")[-1]
    check(opcode, [kind] * 3, kind, exactly(THREE[opcode]))


def signed_field(a, b, c):
    """What the PTX manual's loop says of bfe.s32."""
    b, c = b & 255, c & 255
    sign = 0 if c == 0 else a >> min(b + c - 1, 31) & 1
    out = 0
    for k in range(32):
        bit = a >> (b + k) & 1 if k < c and b + k < 32 else sign
        out |= bit << k
    return out


def test_bit_fields():
    arrays = [numbers("s32", 3), np.arange(64, dtype="u4") % 40, np.arange(64, dtype="u4") * 5 % 37]
    prefix, names = load(["s32", "u32", "u32"])
    for opcode, expected in (
        ("bfe.s32", lambda a, b, c: signed_field(a, b, c)),
        ("bfi.b32", lambda a, b, c: _inserted(0x12345678, a, b, c)),
    ):
        source = ", ".join(names)
        if opcode == "bfi.b32":
            source = f"{names[0]}, 305419896, {names[1]}, {names[2]}"
        body = f"{prefix}\n{opcode} %r20, {source};\n{store('s32', '%r20', 3)}"
        out = run(body, arrays, np.zeros(64, "i4"))
        np.testing.assert_array_equal(out, exactly(expected)(*arrays))


def _inserted(into, a, start, length):
    mask = ((1 << length) - 1) << start & 0xFFFFFFFF
    return (a << start & mask) | (into & ~mask)


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        ("not.b32", lambda a: ~a), ("neg.s32", lambda a: -a), ("abs.s32", abs),
        ("popc.b32", lambda a: (a & 0xFFFFFFFF).bit_count()),
        ("clz.b32", lambda a: 32 - (a & 0xFFFFFFFF).bit_length()),
        ("brev.b32", lambda a: int(f"{a & 0xFFFFFFFF:032b}"[::-1], 2)),
        ("bfind.u32", lambda a: a.bit_length() - 1),
        ("bfind.s32", lambda a: (a if a >= 0 else ~a).bit_length() - 1),
    ],
)  # fmt: skip
def test_integers_of_one(opcode, expected):
    kind = opcode.split(".")[-1]
    check(opcode, [kind], kind, exactly(expected))


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64", "s16"])
def test_division(kind):
    a, b = numbers(kind, 1), numbers(kind, 2)
    b[b == 0] = 3
    prefix, names = load([kind, kind])
    register = {"16": "%rs10", "32": "%r20", "64": "%rd20"}[kind[1:]]
    for opcode, function in (
        ("div", lambda x, y: abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)),
        ("rem", lambda x, y: abs(x) % abs(y) * (-1 if x < 0 else 1)),
    ):
        body = f"{prefix}\n{opcode}.{kind} {register}, {', '.join(names)};"
        out = run(f"{body}\n{store(kind, register, 2)}", [a, b], np.zeros(64, DTYPES[kind]))
        np.testing.assert_array_equal(out, exactly(function)(a, b))


def test_wide_products():
    a, b = numbers("s32", 1), numbers("s32", 2)
    prefix, names = load(["s32", "s32"])
    body = f"{prefix}\nmul.wide.s32 %rd20, {', '.join(names)};\n{store('s64', '%rd20', 2)}"
    out = run(body, [a, b], np.zeros(64, "i8"))
    np.testing.assert_array_equal(out, a.astype("i8") * b)


def test_carry_chain():
    a, b = numbers("u64", 1), numbers("u64", 2)
    prefix, names = load(["u64", "u64"])
    body = f"""{prefix}
        mov.b64 {{%r1, %r2}}, {names[0]};
        mov.b64 {{%r3, %r4}}, {names[1]};
        add.cc.u32 %r5, %r1, %r3;
        addc.u32 %r6, %r2, %r4;
        mad.lo.cc.u32 %r7, %r1, %r3, 7;
        madc.hi.u32 %r8, %r1, %r3, 0;
        sub.cc.u32 %r9, %r5, %r7;
        subc.u32 %r10, %r6, %r8;
        mov.b64 %rd20, {{%r9, %r10}};
        {store("u64", "%rd20", 2)}"""
    out = run(body, [a, b], np.zeros(64, "u8"))
    low = np.uint64(0xFFFFFFFF)
    np.testing.assert_array_equal(out, a + b - ((a & low) * (b & low) + np.uint64(7)))


FLOATS = {
    "add.f32": np.add, "sub.f32": np.subtract, "mul.f32": np.multiply, "div.rn.f32": np.divide,
    "add.f64": np.add, "mul.f64": np.multiply, "div.rn.f64": np.divide, "min.f32": np.fmin,
    "max.f32": np.fmax, "max.NaN.f32": np.maximum, "copysign.f32": lambda a, b: np.copysign(b, a),
}  # fmt: skip


@pytest.mark.parametrize("opcode", FLOATS)
def test_floats(opcode):
    kind = opcode.split(".")[-1]
    check(opcode, [kind] * 2, kind, FLOATS[opcode])


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        ("neg.f32", np.negative), ("abs.f64", np.abs), ("sqrt.rn.f32", np.sqrt),
        ("sqrt.rn.f64", np.sqrt), ("rcp.rn.f32", lambda a: 1 / a),
        ("ex2.approx.f32", lambda a: np.exp2(a.astype("f8"))),
        ("rsqrt.approx.f32", lambda a: 1 / np.sqrt(a.astype("f8"))),
        ("tanh.approx.f32", lambda a: np.tanh(a.astype("f8"))),
        ("cvt.rmi.f32.f32", np.floor), ("cvt.rni.f32.f32", np.rint),
        ("cvt.sat.f32.f32", lambda a: np.nan_to_num(np.clip(a, 0, 1), nan=0)),
        ("abs.ftz.f32", lambda a: np.where(np.abs(a) < 2.0**-126, 0, np.abs(a))),
    ],
)  # fmt: skip
def test_floats_of_one(opcode, expected):
    kind = opcode.split(".")[-1]
    check(opcode, [kind], kind, expected)


def test_fma_is_fused():
    a = np.full(64, 1 + 2.0**-12, "f4")
    c = np.full(64, -(1 + 2.0**-11), "f4")
    prefix, _ = load(["f32", "f32"])
    body = f"{prefix}\nfma.rn.f32 %f20, %f0, %f0, %f1;\n{store('f32', '%f20', 2)}"
    assert run(body, [a, c], np.zeros(64, "f4"))[0] == np.float32(2.0**-24)
    a = np.full(64, 1 + 2.0**-30)
    c = np.full(64, -(1 + 2.0**-29))
    prefix, _ = load(["f64", "f64"])
    body = f"{prefix}\nfma.rn.f64 %fd10, %fd0, %fd0, %fd1;\n{store('f64', '%fd10', 2)}"
    assert run(body, [a, c], np.zeros(64))[0] == 2.0**-60


@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
def test_directed_rounding(mode):
    a, b = numbers("f32", 1), numbers("f32", 2)
    prefix, _ = load(["f32", "f32"])
    body = f"{prefix}\nadd.{mode}.f32 %f20, %f0, %f1;\n{store('f32', '%f20', 2)}"
    out = run(body, [a, b], np.zeros(64, "f4")).astype("f8")
    with np.errstate(all="ignore"):
        exact = a.astype("f8") + b
    ok = np.isfinite(exact)
    error = out[ok] - exact[ok]
    if mode == "rz":
        error *= -np.sign(exact[ok])
    assert (error * (-1 if mode == "rp" else 1) * (-1 if mode == "rz" else 1) <= 0).all()
    assert (np.abs(error) <= np.spacing(np.abs(a[ok] + b[ok]))).all()


COMPARISONS = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: (a < b) | (a > b), "lt": lambda a, b: a < b,
    "ge": lambda a, b: a >= b, "neu": lambda a, b: a != b, "ltu": lambda a, b: ~(a >= b),
    "geu": lambda a, b: ~(a < b), "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b), "gtu": lambda a, b: ~(a <= b),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name):
    a, b = numbers("f32", 1), numbers("f32", 2)
    b[::3] = a[::3]
    prefix, _ = load(["f32", "f32"])
    body = f"""{prefix}
        setp.gt.s32 %p1, %r31, 20;
        setp.{name}.f32 %p2, %f0, %f1;
        setp.{name}.and.f32 %p3|%p4, %f0, %f1, !%p1;
        selp.u32 %r1, 1, 0, %p2;
        selp.u32 %r2, 2, 0, %p3;
        selp.u32 %r3, 4, 0, %p4;
        or.b32 %r1, %r1, %r2;
        or.b32 %r1, %r1, %r3;
        {store("u32", "%r1", 2)}"""
    out = run(body, [a, b], np.zeros(64, "u4"))
    holds, small = COMPARISONS[name](a, b), np.arange(64) <= 20
    np.testing.assert_array_equal(out, holds + 2 * (holds & small) + 4 * (~holds & small))


CONVERSIONS = [
    ("cvt.rzi.s32.f32", "f32", "s32", lambda a: np.nan_to_num(np.trunc(a), nan=0)),
    ("cvt.rni.s64.f32", "f32", "s64", None), ("cvt.rn.f32.s32", "s32", "f32", lambda a: a),
    ("cvt.rn.f32.u64", "u64", "f32", lambda a: a), ("cvt.f64.f32", "f32", "f64", lambda a: a),
    ("cvt.rn.f32.f64", "f64", "f32", lambda a: a), ("cvt.s64.s32", "s32", "s64", lambda a: a),
    ("cvt.u32.u64", "u64", "u32", lambda a: a), ("cvt.u64.u32", "u32", "u64", lambda a: a),
    ("cvt.s32.s8", "s32", "s32", lambda a: a.astype("i1")),
    ("cvt.sat.u32.s32", "s32", "u32", lambda a: np.maximum(a, 0)),
    ("cvt.rna.tf32.f32", "f32", "b32", None),
    ("cvt.rn.f16.f32", "f32", "b16", lambda a: a.astype("f2").view("u2")),
]  # fmt: skip


@pytest.mark.parametrize(("opcode", "source", "to", "expected"), CONVERSIONS)
def test_conversions(opcode, source, to, expected):
    def limits(a):
        if to == "b32":
            bits = a.view("u4")
            out = np.where(np.isinf(a), bits, bits + 0x1000 & 0xFFFFE000)
            return np.where(np.isnan(a), 0x7FFFFFFF, out).astype("u4")
        if expected is None or (to == "s32" and source == "f32"):
            info = np.iinfo(DTYPES[to])
            nan = 0 if to == "s32" else info.min
            rounding = np.trunc if "rzi" in opcode else np.rint
            return np.array(
                [nan if v != v else max(min(v, info.max), info.min) if np.isinf(v) else int(v)
                 for v in rounding(a).tolist()], object,
            )  # fmt: skip
        return expected(a)

    check(opcode, [source], to, limits)
