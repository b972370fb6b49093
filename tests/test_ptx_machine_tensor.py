"""The PTX machine's matrix instructions and asynchronous copies."""

import numpy as np
import pytest

from ptx_machine import Machine, MachineError
from ptx_texts import bits, braces, launch, loads, stores

LANES = np.arange(32)
G, T = LANES // 4, LANES % 4


def pack(matrix, rows, columns):
    """Registers (32,) of one or two elements of a matrix of bits at the given places."""
    found = [matrix[r, c].astype("u4") for r, c in zip(rows, columns, strict=True)]
    return found[0] if len(found) == 1 else found[0] | found[1] << np.uint32(16)


def places(kind, k):
    """Where the registers of A (16 x k) and B (k x 8) are, from the tables of the PTX manual."""
    if kind == "tf32":
        a = [([G + 8 * (i % 2)], [T + 4 * (i // 2)]) for i in range(k // 2)]
        return a, [([T + 4 * i], [G]) for i in range(k // 4)]
    a = [
        ([G + 8 * (i % 2)] * 2, [2 * T + 8 * (i // 2), 2 * T + 1 + 8 * (i // 2)])
        for i in range(k // 4)
    ]
    return a, [([2 * T + 8 * i, 2 * T + 1 + 8 * i], [G] * 2) for i in range(k // 8)]


@pytest.mark.parametrize(
    ("kind", "k"), [("tf32", 4), ("tf32", 8), ("f16", 8), ("f16", 16), ("bf16", 8), ("bf16", 16)]
)
def test_mma(kind, k):
    rng = np.random.default_rng(k)
    a, a_bits = bits(rng.standard_normal((16, k)), kind)
    b, b_bits = bits(rng.standard_normal((k, 8)), kind)
    c = rng.standard_normal((16, 8)).astype("f4")
    of_a, of_b = places(kind, k)
    registers = [pack(a_bits, *place) for place in of_a] + [pack(b_bits, *p) for p in of_b]
    at = [(G, 2 * T), (G, 2 * T + 1), (G + 8, 2 * T), (G + 8, 2 * T + 1)]
    ra = [f"%r{i}" for i in range(len(of_a))]
    rb = [f"%r{8 + i}" for i in range(len(of_b))]
    rc = [f"%f{i}" for i in range(4)]
    body = "\n".join(
        (
            loads(0, ra + rb),
            loads(1, rc, "f32"),
            f"mma.sync.aligned.m16n8k{k}.row.col.f32.{kind}.{kind}.f32 {braces(rc)}, "
            f"{braces(ra)}, {braces(rb)}, {braces(rc)};",
            stores(2, rc, "f32"),
        )
    )
    inputs = [np.stack(registers), np.stack([c[place] for place in at])]
    out = launch(body, inputs, np.zeros((4, 32), "f4"))
    wanted = (a @ b + c).astype("f4")
    np.testing.assert_array_equal(out, np.stack([wanted[place] for place in at]))


def test_mma_double():
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((8, 4)), rng.standard_normal((4, 8)), rng.standard_normal((8, 8))
    inputs = [np.stack([a[G, T], b[T, G], c[G, 2 * T], c[G, 2 * T + 1]])]
    body = f"""{loads(0, ["%fd0", "%fd1", "%fd2", "%fd3"], "f64", 8)}
        mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {{%fd4, %fd5}}, {{%fd0}}, {{%fd1}},
            {{%fd2, %fd3}};
        {stores(1, ["%fd4", "%fd5"], "f64", 8)}"""
    out = launch(body, inputs, np.zeros((2, 32)))
    wanted = a @ b + c
    np.testing.assert_allclose(
        out, np.stack([wanted[G, 2 * T], wanted[G, 2 * T + 1]]), rtol=1e-14, atol=1e-14
    )


TILE = ".shared .align 1024 .b8 tile[8192];\n"

#: The image p0 (a multiple of 512 bytes) in the tile, 16 bytes per thread at a time.
FILL = """
    mov.u32 %r31, %tid.x;
    mov.u32 %r30, tile;
    ld.param.u64 %rd20, [p0];
    mad.wide.u32 %rd20, %r31, 16, %rd20;
    mad.lo.u32 %r29, %r31, 16, %r30;
    {copies}
    bar.sync 0;
"""


def fill(size, threads=32):
    """PTX that copies p0 to the tile."""
    step = 16 * threads
    return FILL.format(
        copies="\n".join(
            f"ld.global.v4.b32 {{%r25, %r26, %r27, %r28}}, [%rd20+{at}];"
            f"st.shared.v4.b32 [%r29+{at}], {{%r25, %r26, %r27, %r28}};"
            for at in range(0, size, step)
        )
    )


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("trans", ["", ".trans"])
def test_ldmatrix_and_stmatrix(count, trans):
    matrices = np.arange(4 * 64, dtype="u2").reshape(4, 8, 8)
    names = braces([f"%r{i}" for i in range(count)])
    body = f"""{fill(512)}
        mad.lo.u32 %r20, %r31, 16, %r30;
        ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {names}, [%r20];
        {stores(1, [f"%r{i}" for i in range(count)])}"""
    out = launch(body, [matrices], np.zeros((count, 32), "u4"), before=TILE)
    for k in range(count):
        m = matrices[k].T if trans else matrices[k]
        np.testing.assert_array_equal(out[k], pack(m, [G, G], [2 * T, 2 * T + 1]))
    body = f"""{loads(0, [f"%r{i}" for i in range(count)])}
        mov.u32 %r30, tile;
        mad.lo.u32 %r20, %r31, 16, %r30;
        stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%r20], {names};
        bar.warp.sync -1;
        mad.lo.u32 %r20, %r31, 4, %r30;
        {"".join(f"ld.shared.b32 %r{i}, [%r20+{128 * i}];" for i in range(count))}
        {stores(1, [f"%r{i}" for i in range(count)])}"""
    back = launch(body, [out], np.zeros((count, 8, 8), "u2"), before=TILE)
    np.testing.assert_array_equal(back, matrices[:count])


def test_movmatrix():
    matrix = np.arange(64, dtype="u2").reshape(8, 8)
    body = (
        loads(0, ["%r0"]) + "movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r0;" + stores(1, ["%r1"])
    )
    out = launch(body, [matrix], np.zeros((8, 8), "u2"))
    np.testing.assert_array_equal(out, matrix.T)


def test_partial_warp():
    body = """
        mov.u32 %r31, %tid.x;
        setp.lt.u32 %p1, %r31, 8;
        @%p1 mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1},
            {%r2}, {%f0, %f1, %f2, %f3};
    """
    with pytest.raises(MachineError, match="mma.sync by 8 of the 32 threads"):
        launch(body, [], np.zeros(1))


NUMBERS = np.arange(128, dtype="u4")

#: Thread t copies word t of p0 to word t of the tile, in a group of its own.
ISSUE = """
    mov.u32 %r31, %tid.x;
    ld.param.u64 %rd1, [p0];
    mad.wide.u32 %rd1, %r31, 4, %rd1;
    mov.u32 %r30, tile;
    mad.lo.u32 %r29, %r31, 4, %r30;
    cp.async.ca.shared.global [%r29], [%rd1], 4;
    cp.async.commit_group;
"""

#: ... and reads the word of the thread across the block.
READ = """
    xor.b32 %r1, %r31, 63;
    mad.lo.u32 %r1, %r1, 4, %r30;
    ld.shared.u32 %r2, [%r1];
"""


def test_cp_async():
    body = ISSUE + "cp.async.wait_group 0; bar.sync 0;" + READ + stores(1, ["%r2"])
    out = launch(body, [NUMBERS], np.zeros(64, "u4"), block=64, before=TILE)
    np.testing.assert_array_equal(out, NUMBERS[:64] ^ 63)


@pytest.mark.parametrize(
    ("match", "between"),
    [
        ("an asynchronous copy hasn't been waited for", "bar.sync 0;"),
        ("an asynchronous copy hasn't been waited for", "cp.async.wait_group 1; bar.sync 0;"),
        ("race in shared memory", "cp.async.wait_group 0;"),
        ("race in shared memory", "cp.async.wait_all;"),
    ],
)
def test_cp_async_needs_a_wait_and_a_barrier(match, between):
    with pytest.raises(MachineError, match=match):
        launch(ISSUE + between + READ, [NUMBERS], np.zeros(1), block=64, before=TILE)


def test_cp_async_into_what_is_read():
    """The copy begins before all have read what is there, or isn't waited for before a barrier."""
    start = ISSUE + "cp.async.wait_all; bar.sync 0;" + READ
    again = "cp.async.ca.shared.global [%r29], [%rd1], 4;"
    for body in (start + again, start + "bar.sync 0;" + again + "bar.sync 0;" + READ):
        with pytest.raises(MachineError, match=r"race in shared|hasn't been waited for"):
            launch(body, [NUMBERS], np.zeros(1), block=64, before=TILE)


def test_cp_async_groups_and_zeros():
    """Two stages; src-size 0 and 4 of 16 bytes read nothing more and fill with zeros."""
    body = """
        mov.u32 %r31, %tid.x;
        ld.param.u64 %rd1, [p0];
        mad.wide.u32 %rd1, %r31, 16, %rd1;
        mov.u32 %r30, tile;
        mad.lo.u32 %r29, %r31, 16, %r30;
        and.b32 %r1, %r31, 3;
        mul.lo.u32 %r1, %r1, 4;
        cp.async.cg.shared.global [%r29], [%rd1], 16, %r1;
        cp.async.commit_group;
        cp.async.cg.shared.global [%r29+4096], [%rd1+4096], 16, 0;
        cp.async.commit_group;
        cp.async.wait_group 1;
        ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r29];
        cp.async.wait_group 0;
        ld.shared.v4.u32 {%r6, %r7, %r8, %r9}, [%r29+4096];
    """
    names = [f"%r{i}" for i in range(2, 10)]
    out = launch(body + stores(1, names), [NUMBERS], np.zeros((8, 32), "u4"), before=TILE)
    words = NUMBERS.reshape(32, 4).T
    keep = np.arange(4)[:, None] < LANES % 4
    np.testing.assert_array_equal(out[:4], np.where(keep, words, 0))
    assert not out[4:].any()


def test_cp_async_alignment():
    body = ISSUE.replace("%rd1, %r31, 4", "%rd1, %r31, 2")
    with pytest.raises(MachineError, match="misaligned access of 4 bytes to global"):
        launch(body, [NUMBERS], np.zeros(1), before=TILE)


#: One thread starts a tensor copy into the tile, all wait for it, then copy the tile to p1.
TENSOR = """
    mov.u32 %r31, %tid.x;
    mov.u32 %r30, tile;
    mov.u32 %r28, phaser;
    setp.ne.u32 %p1, %r31, 0;
    @%p1 bra ready;
    mbarrier.init.shared::cta.b64 [%r28], 1;
    fence.proxy.async.shared::cta;
    ld.param.u64 %rd5, [p2];
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r28], {bytes};
    mov.b32 %r10, {c0};
    mov.b32 %r11, {c1};
    mov.b32 %r12, {c2};
    mov.b32 %r13, {c3};
    mov.b16 %rs1, {t0};
    mov.b16 %rs2, {t1};
    {copy}
ready:
    bar.sync 0;
waiting:
    {wait}
    mad.lo.u32 %r29, %r31, 4, %r30;
    ld.param.u64 %rd6, [p1];
    mad.wide.u32 %rd6, %r31, 4, %rd6;
    mov.u32 %r20, 0;
again:
    ld.shared.u32 %r21, [%r29];
    st.global.u32 [%rd6], %r21;
    add.u32 %r29, %r29, 128;
    add.s64 %rd6, %rd6, 128;
    add.u32 %r20, %r20, 128;
    setp.lt.u32 %p3, %r20, {size};
    @%p3 bra again;
"""
WAIT = """
    mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r28], 0;
    @!%p2 bra waiting;
"""
TILED = (
    "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
    "[%r30], [%rd5, {%r10, %r11}], [%r28];"
)
GATHERED = (
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
    "[%r30], [%rd5, {%r10, %r11, %r12, %r13}], [%r28], {%rs1, %rs2};"
)
PHASER = TILE + ".shared .align 8 .b8 phaser[8];\n"


def tensor(array, out, start, copy=TILED, taps=(0, 0), wait=WAIT, bytes=None, without=" ", **rest):
    """Run TENSOR on a tensor (outermost dimension first, as NumPy has it)."""
    machine = Machine(1 << 20)
    p = machine.allocate(array.nbytes)
    machine.write(p, array)
    sizes = array.shape[::-1]
    where = machine.tensor_map(p, array.itemsize, sizes, array.strides[-2::-1], **rest)
    start = [*start, 0, 0, 0, 0]
    body = TENSOR.format(
        copy=copy, wait=wait, bytes=bytes or out.nbytes, size=out.nbytes,
        c0=start[0], c1=start[1], c2=start[2], c3=start[3], t0=taps[0], t1=taps[1],
    )  # fmt: skip
    body = body.replace(without, " ")
    return launch(body, [np.zeros(1)], out, before=PHASER, machine=machine, extra=[where])


@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
def test_tensor_copy(swizzle):
    array = np.arange(40 * 72, dtype="u2").reshape(40, 72)
    inner = (swizzle or 128) // 2
    start = (-3 if swizzle != 128 else 24, 21)
    out = tensor(array, np.zeros((32, inner), "u2"), start, box=(inner, 32), swizzle=swizzle)
    padded = np.zeros((200, 200), "u2")
    padded[100:140, 100:172] = array
    wanted = padded[121:153, 100 + start[0] :][:, :inner]
    # by the definition: unit c of 16 bytes in row r goes to unit c ^ (bits 7 and up of its address)
    units = out.reshape(-1, 8)
    back = np.empty_like(units)
    for unit in range(len(units)):
        back[unit] = units[unit ^ (unit >> 3 & {0: 0, 32: 1, 64: 3, 128: 7}[swizzle])]
    np.testing.assert_array_equal(back.reshape(32, inner), wanted)


def test_tensor_copy_im2col():
    """Row (n, p, q) of the matrix of one tap of a strided, padded, dilated convolution."""
    n, h, w, c, pad, stride, dilation, kernel = 2, 9, 11, 8, 2, 2, 2, 3
    array = np.arange(1, n * h * w * c + 1, dtype="f4").reshape(n, h, w, c)
    reach = (kernel - 1) * dilation
    upper = pad - reach
    p = (h + 2 * pad - reach - 1) // stride + 1
    q = (w + 2 * pad - reach - 1) // stride + 1
    padded = np.pad(array, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    for r, s in ((0, 0), (2, 1)):
        taken = padded[:, r * dilation :, s * dilation :][:, : p * stride : stride]
        rows = taken[:, :, : q * stride : stride].reshape(-1, c)
        first = q + 2  # begin at pixel (0, 1, 2)
        out = tensor(
            array, np.zeros((32, c), "f4"), (0, 2 * stride - pad, stride - pad, 0), GATHERED,
            (s * dilation, r * dilation), box=(c, 32), steps=(1, stride, stride, 1),
            lower=(-pad, -pad), upper=(upper, upper),
        )  # fmt: skip
        np.testing.assert_array_equal(out, rows[first : first + 32])


def test_tensor_copy_needs_a_wait():
    array = np.zeros((8, 32), "f4")
    with pytest.raises(MachineError, match="hasn't been waited for"):
        tensor(array, np.zeros((8, 32), "f4"), (0, 0), wait="", box=(32, 8))
    with pytest.raises(MachineError, match="deadlock: phase 0 of an mbarrier never ends.*16 bytes"):
        tensor(array, np.zeros((8, 32), "f4"), (0, 0), bytes=1040, box=(32, 8))
    fence = "fence.proxy.async.shared::cta;"
    with pytest.raises(MachineError, match="no fence made known"):
        tensor(array, np.zeros((8, 32), "f4"), (0, 0), without=fence, box=(32, 8))
    with pytest.raises(MachineError, match="exceeds the swizzle"):
        tensor(array, np.zeros((8, 32), "f4"), (0, 0), box=(32, 8), swizzle=64)
    with pytest.raises(MachineError, match="isn't a multiple of 16 bytes"):
        tensor(array[:, :31].copy(), np.zeros((8, 32), "f4"), (0, 0), box=(32, 8))
