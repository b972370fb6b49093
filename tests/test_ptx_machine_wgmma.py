"""The PTX machine's wgmma: operand layouts, fragments, waits."""

import numpy as np
import pytest

from ptx_machine import MachineError
from ptx_texts import bits, braces, launch, stores

N = 24
#: Where B's image begins in the tile.
SECOND = 8192

FILL = """
    mov.u32 %r31, %tid.x;
    mov.u32 %r30, tile;
    ld.param.u64 %rd20, [p0];
    mov.u32 %r29, 0;
copying:
    mad.lo.u32 %r28, %r31, 16, %r29;
    cvt.u64.u32 %rd21, %r28;
    add.s64 %rd21, %rd21, %rd20;
    add.u32 %r28, %r28, %r30;
    ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd21];
    st.shared.v4.b32 [%r28], {%r1, %r2, %r3, %r4};
    add.u32 %r29, %r29, 2048;
    setp.lt.u32 %p1, %r29, 16384;
    @%p1 bra copying;
    fence.proxy.async.shared::cta;
    bar.sync 0;
"""
TILE = ".shared .align 1024 .b8 tile[16384];\n"


def descriptor(offset, lbo, sbo, swizzle):
    """PTX and a name of a descriptor of what is at an offset of the tile."""
    name = "%rd10" if offset < SECOND else "%rd11"
    high = lbo >> 4 << 16 | sbo >> 4 << 32 | (0, 128, 64, 32).index(swizzle) << 62
    high -= (high >> 63) << 64
    return f"""
        add.u32 %r20, %r30, {offset};
        shr.u32 %r20, %r20, 4;
        cvt.u64.u32 {name}, %r20;
        or.b64 {name}, {name}, {high};
    """


def exchanged(image, swizzle):
    """An image whose unit u of 16 bytes stands at u ^ (the bits of the row of 128 bytes)."""
    units = image.reshape(-1, 16)
    mask = {0: 0, 32: 1, 64: 3, 128: 7}[swizzle]
    at = np.arange(len(units))
    out = np.empty_like(units)
    out[at ^ (at >> 3 & mask)] = units
    return out.ravel()


def image(matrix, swizzle, mn_major):
    """(bytes, LBO, SBO) of a matrix (rows, k) of bits."""
    rows, k = matrix.shape
    size = matrix.itemsize
    unit = 16 // size
    if mn_major and not swizzle:
        cores = matrix.reshape(rows // unit, unit, k // 8, 8).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(cores).view("u1").ravel(), 128, k * 16
    if mn_major:
        wide = swizzle // size
        padded = np.zeros((-(-rows // wide) * wide, k), matrix.dtype)
        padded[:rows] = matrix
        panels = np.ascontiguousarray(padded.reshape(-1, wide, k).swapaxes(1, 2))
        return exchanged(panels.view("u1").ravel(), swizzle), k * swizzle, 8 * swizzle
    if not swizzle:
        cores = matrix.reshape(rows // 8, 8, k // unit, unit).swapaxes(1, 2)
        return np.ascontiguousarray(cores).view("u1").ravel(), 128, 128 * (k // unit)
    wide = np.zeros((rows, swizzle // size), matrix.dtype)
    wide[:, :k] = matrix
    return exchanged(wide.view("u1").ravel(), swizzle), 16, 8 * swizzle


def tiles(a, b):
    """The image of the whole tile."""
    whole = np.zeros(16384, "u1")
    whole[: a.size] = a
    whole[SECOND : SECOND + b.size] = b
    return whole


def results(count):
    """PTX that puts the accumulators in p1, and those of a thread as a matrix's elements."""
    return stores(1, [f"%f{i}" for i in range(count)], "f32", threads=128)


def matrix_of(out):
    """The 64 x N matrix of accumulators (register, thread), by the manual's table."""
    d = np.zeros((64, 2 * len(out)))
    thread = np.arange(128)
    for r, values in enumerate(out):
        row = thread // 32 * 16 + thread % 32 // 4 + r // 2 % 2 * 8
        d[row, r // 4 * 8 + thread % 4 * 2 + r % 2] = values
    return d


ACCUMULATORS = [f"%f{i}" for i in range(N // 2)]
ZEROS = "".join(f"mov.f32 {name}, 0f3F800000;" for name in ACCUMULATORS)
END = "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"


def wgmma(kind, a, rest, majors=""):
    k = 8 if kind == "tf32" else 16
    return (
        "wgmma.fence.sync.aligned;"
        f"wgmma.mma_async.sync.aligned.m64n{N}k{k}.f32.{kind}.{kind} {braces(ACCUMULATORS)}, "
        f"{a}, %rd11, {rest}{majors};"
    )


LAYOUTS = [(kind, swizzle, a, b)
           for kind in ("f16", "bf16", "tf32") for swizzle in (0, 32, 64, 128)
           for a, b in ((0, 0), (1, 0), (0, 1)) if kind == "f16" or not (a or b)]  # fmt: skip


@pytest.mark.parametrize(("kind", "swizzle", "major_a", "major_b"), LAYOUTS)
def test_layouts(kind, swizzle, major_a, major_b):
    """One product, to ones."""
    k = 8 if kind == "tf32" else 16
    rng = np.random.default_rng(swizzle)
    a, a_bits = bits(rng.standard_normal((64, k)), kind)
    b, b_bits = bits(rng.standard_normal((N, k)), kind)
    a_image, *a_strides = image(a_bits, swizzle, major_a)
    b_image, *b_strides = image(b_bits, swizzle, major_b)
    majors = "" if kind == "tf32" else f", {major_a}, {major_b}"
    body = "\n".join((FILL, descriptor(0, *a_strides, swizzle),
                      descriptor(SECOND, *b_strides, swizzle), ZEROS,
                      wgmma(kind, "%rd10", "1, 1, 1", majors), END, results(N // 2)))  # fmt: skip
    out = launch(body, [tiles(a_image, b_image)], np.zeros((N // 2, 128), "f4"), 128, before=TILE)
    np.testing.assert_allclose(matrix_of(out), a @ b.T + 1, rtol=1e-6, atol=1e-6)


def test_steps_along_k():
    """In a layout of 128 bytes the next 16 of k are 32 bytes on."""
    rng = np.random.default_rng(0)
    a, a_bits = bits(rng.standard_normal((64, 64)), "f16")
    b, b_bits = bits(rng.standard_normal((N, 64)), "f16")
    a_image, *a_strides = image(a_bits, 128, 0)
    b_image, *b_strides = image(b_bits, 128, 0)
    step = wgmma("f16", "%rd10", "%p7, 1, 1", ", 0, 0") + "setp.eq.u32 %p7, 0, 0;"
    step += "add.s64 %rd10, %rd10, 2; add.s64 %rd11, %rd11, 2;"
    body = "\n".join((FILL, descriptor(0, *a_strides, 128), descriptor(SECOND, *b_strides, 128),
                      ZEROS, "setp.ne.u32 %p7, 0, 0;", step * 4, END, results(N // 2)))  # fmt: skip
    whole = tiles(a_image, b_image)
    out = launch(body, [whole], np.zeros((N // 2, 128), "f4"), 128, before=TILE)
    np.testing.assert_allclose(matrix_of(out), a @ b.T, rtol=1e-5, atol=1e-5)


def test_operand_in_registers():
    """A comes from registers laid out as mma's, its sign turned."""
    rng = np.random.default_rng(0)
    a, a_bits = bits(rng.standard_normal((64, 16)), "f16")
    b, b_bits = bits(rng.standard_normal((N, 16)), "f16")
    b_image, *b_strides = image(b_bits, 32, 0)
    thread = np.arange(128)
    row, column = thread // 32 * 16 + thread % 32 // 4, thread % 4 * 2
    registers = [
        a_bits[row + r % 2 * 8, column + r // 2 * 8].astype("u4")
        | a_bits[row + r % 2 * 8, column + r // 2 * 8 + 1].astype("u4") << np.uint32(16)
        for r in range(4)
    ]
    whole = tiles(np.stack(registers, axis=1).view("u1").ravel(), b_image)
    body = "\n".join((FILL, descriptor(SECOND, *b_strides, 32), ZEROS,
                      "mad.lo.u32 %r20, %r31, 16, %r30;",
                      "ld.shared.v4.b32 {%r1, %r2, %r3, %r4}, [%r20];",
                      wgmma("f16", "{%r1, %r2, %r3, %r4}", "1, -1, 1", ", 0"), END,
                      results(N // 2)))  # fmt: skip
    out = launch(body, [whole], np.zeros((N // 2, 128), "f4"), 128, before=TILE)
    np.testing.assert_allclose(matrix_of(out), 1 - a @ b.T, rtol=1e-6, atol=1e-6)


OVERWRITE = "mad.lo.u32 %r20, %r31, 4, %r30; st.shared.u32 [%r20], 0;"


@pytest.mark.parametrize(
    ("match", "body", "block"),
    [
        ("a wgmma that wasn't waited for reads", "bar.sync 0;" + OVERWRITE, 128),
        ("race in shared memory", END + OVERWRITE, 128),
        (None, END + "bar.sync 0;" + OVERWRITE, 128),
        ("part of a warpgroup", "", 96),
    ],
)
def test_waits(match, body, block):
    """What wgmma reads may be overwritten after a wait and a barrier."""
    step = wgmma("f16", "%rd10", "1, 1, 1", ", 0, 0") + "wgmma.commit_group.sync.aligned;"
    body = "\n".join((FILL, descriptor(0, 16, 1024, 128), descriptor(SECOND, 16, 1024, 128),
                      ZEROS, step, body))  # fmt: skip
    body += "ld.param.u64 %rd1, [p1]; st.global.u32 [%rd1], 1;"

    def run():
        launch(body, [np.zeros(18432, "u1")], np.zeros(1, "u4"), block, before=TILE)

    if match is None:
        run()
    else:
        with pytest.raises(MachineError, match=match):
            run()


def test_fence():
    """What threads wrote, wgmma reads after a fence."""
    step = wgmma("f16", "%rd10", "1, 1, 1", ", 0, 0")
    body = FILL.replace("fence.proxy.async.shared::cta;", "") + descriptor(0, 16, 1024, 128)
    body += descriptor(SECOND, 16, 1024, 128) + ZEROS + step
    with pytest.raises(MachineError, match=r"wrote without a fence\.proxy\.async"):
        launch(body, [np.zeros(16384, "u1")], np.zeros(1), 128, before=TILE)
