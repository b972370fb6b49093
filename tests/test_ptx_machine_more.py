"""The PTX machine's rarer instructions, its memory and counts, and its checks between blocks."""

import numpy as np
import pytest

from ptx_machine import Machine, MachineError
from ptx_texts import pointers, run, text

START = """
    mov.u32 %r31, %tid.x;
    ld.param.u64 %rd30, [p0];
    ld.param.u64 %rd31, [p1];
    mad.wide.u32 %rd30, %r31, 4, %rd30;
    mad.wide.u32 %rd31, %r31, 4, %rd31;
"""
END = "st.global.b32 [%rd31], %r20;"
RNG = np.random.default_rng(5)
WORDS = RNG.integers(0, 2**32, 64, "u4")
LANE = np.arange(64, dtype="u4")


def go(body, source=WORDS, kind="u4", **rest):
    """%r0 is the thread's word; what the body leaves in %r20 comes back."""
    body = START + "ld.global.b32 %r0, [%rd30]; mov.b32 %f0, %r0;" + body + END
    return run(body, [source], np.zeros(64, kind), **rest)


def test_lookup_tables():
    body = "shl.b32 %r1, %r0, 7; shr.u32 %r2, %r0, 5; lop3.b32 %r20, %r0, %r1, %r2, {};"
    a, b, c = WORDS, WORDS << 7, WORDS >> 5
    np.testing.assert_array_equal(go(body.format(0x96)), a ^ b ^ c)
    np.testing.assert_array_equal(go(body.format(0xE8)), (a & b) | (a & c) | (b & c))


def test_selections():
    body = "setp.lt.u32 %p1, %r0, 2147483648; selp.b32 %r20, %r31, 7, %p1;"
    np.testing.assert_array_equal(go(body), np.where(WORDS < 2**31, LANE, 7))
    body = "slct.u32.s32 %r20, %r31, 7, %r0;"
    np.testing.assert_array_equal(go(body), np.where(WORDS.view("i4") >= 0, LANE, 7))
    body = "set.gt.u32.u32 %r20, %r0, 1000;"
    np.testing.assert_array_equal(go(body), np.where(WORDS > 1000, 2**32 - 1, 0))
    body = "set.lt.f32.s32 %f1, %r0, 0; mov.b32 %r20, %f1;"
    np.testing.assert_array_equal(go(body, kind="f4"), WORDS.view("i4") < 0)
    body = "and.b32 %r1, %r0, 1; cnot.b32 %r20, %r1;"
    np.testing.assert_array_equal(go(body), 1 - (WORDS & 1))


SPECIAL = np.array([0, 1, -2.5, np.inf, -np.inf, np.nan, 1e-40, 3e38] * 8, "f4")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("finite", np.isfinite), ("infinite", np.isinf), ("notanumber", np.isnan),
        ("normal", lambda a: np.isfinite(a) & (np.abs(a) >= 2.0**-126)),
        ("subnormal", lambda a: (a != 0) & (np.abs(a) < 2.0**-126)),
    ],
)  # fmt: skip
def test_classes(name, wanted):
    body = f"testp.{name}.f32 %p1, %f0; selp.u32 %r20, 1, 0, %p1;"
    np.testing.assert_array_equal(go(body, SPECIAL), wanted(SPECIAL))


def bf16(a):
    """Rounded to bf16, to nearest even."""
    bits = a.astype("f4").view("u4")
    return bits + (0x7FFF + (bits >> 16 & 1)) >> 16


def test_half_precision():
    values = RNG.standard_normal(64).astype("f4")
    halves = values.astype("f2").view("u2").astype("u4")
    body = "cvt.rn.f16x2.f32 %r20, %f0, 0f3F800000;"
    np.testing.assert_array_equal(go(body, values), halves << 16 | 0x3C00)
    body = "cvt.rn.bf16x2.f32 %r20, %f0, %f0;"
    np.testing.assert_array_equal(go(body, values), bf16(values) << 16 | bf16(values))
    body = "cvt.rn.bf16.f32 %rs1, %f0; cvt.f32.bf16 %f1, %rs1; mov.b32 %r20, %f1;"
    np.testing.assert_array_equal(go(body, values), bf16(values) << 16)
    body = "cvt.rn.f16.f32 %rs1, %f0; fma.rn.f16 %rs2, %rs1, %rs1, %rs1; cvt.u32.u16 %r20, %rs2;"
    half = values.astype("f2").astype("f8")
    np.testing.assert_array_equal(go(body, values), (half * half + half).astype("f2").view("u2"))
    body = "cvt.rn.f16x2.f32 %r1, %f0, %f0; add.f16x2 %r20, %r1, %r1;"
    double = (2 * half).astype("f2").view("u2").astype("u4")
    np.testing.assert_array_equal(go(body, values), double << 16 | double)


def test_numbers_as_bits():
    body = "mov.b32 {%rs1, %rs2}, %r0; mov.b32 %r20, {%rs2, %rs1};"
    np.testing.assert_array_equal(go(body), WORDS << 16 | WORDS >> 16)
    body = "cvt.s16.s32 %r20, %r0;"
    np.testing.assert_array_equal(go(body, kind="i4"), WORDS.astype("i2"))
    body = "st.global.u8 [%rd31], %r0; ld.global.s8 %r20, [%rd31];"
    np.testing.assert_array_equal(go(body, kind="i4"), WORDS.astype("i1"))


def test_switch():
    body = """
        and.b32 %r1, %r31, 3;
    table: .branchtargets zero, one, two, one;
        brx.idx %r1, table;
    zero:
        mov.u32 %r20, 100;
        bra.uni end;
    one:
        mov.u32 %r20, 200;
        bra.uni end;
    two:
        mov.u32 %r20, 300;
    end:
    """
    np.testing.assert_array_equal(go(body), np.array([100, 200, 300, 200])[LANE % 4])


def test_reducing_barriers():
    body = """
        setp.gt.u32 %p1, %r31, 9;
        barrier.cta.red.popc.aligned.u32 %r1, 0, %p1;
        bar.red.and.pred %p2, 0, %p1;
        bar.red.or.pred %p3, 0, !%p1;
        selp.u32 %r2, 1000, 0, %p2;
        selp.u32 %r3, 2000, 0, %p3;
        add.u32 %r20, %r1, %r2;
        add.u32 %r20, %r20, %r3;
    """
    assert set(go(body)) == {54 + 2000}


def test_sets_of_threads():
    body = """
        setp.lt.u32 %p1, %r31, 40;
        @!%p1 bra past;
        activemask.b32 %r20;
    past:
        @%p1 bra end;
        mov.u32 %r20, 0;
    end:
    """
    np.testing.assert_array_equal(go(body), np.repeat([2**32 - 1, 255, 0], [32, 8, 24]))
    body = "and.b32 %r1, %r31, 1; match.any.sync.b32 %r20, %r1, -1;"
    np.testing.assert_array_equal(go(body), np.where(LANE % 2, 0xAAAAAAAA, 0x55555555))
    body = "elect.sync _|%p1, -1; selp.u32 %r20, 1, 0, %p1;"
    np.testing.assert_array_equal(go(body), LANE % 32 == 0)
    body = "mov.u32 %r1, %lanemask_lt; popc.b32 %r20, %r1;"
    np.testing.assert_array_equal(go(body), LANE % 32)


def test_generic_addresses():
    body = """
        cvta.global.u64 %rd1, %rd30;
        isspacep.global %p1, %rd1;
        isspacep.shared %p2, %rd1;
        selp.u32 %r1, 1, 0, %p1;
        selp.u32 %r2, 2, 0, %p2;
        add.u32 %r20, %r1, %r2;
    """
    assert set(go(body)) == {1}


def blocks(body, grid=3, **switches):
    """Run a body by blocks of 32 on two arrays of 128 words, p0 written and p1 not."""
    machine = Machine(1 << 20, **switches)
    p, q = machine.allocate(512), machine.allocate(512)
    machine.write(p, np.zeros(128, "u4"))
    prefix = START + "mov.u32 %r1, %ctaid.x; mad.lo.u32 %r2, %r1, 32, %r31;"
    prefix += "ld.param.u64 %rd1, [p1]; mad.wide.u32 %rd1, %r2, 4, %rd1;"
    machine.launch(text(prefix + body), "k", grid, 32, 0, pointers([p, q]))


@pytest.mark.parametrize("lanes", [32, 4096])
@pytest.mark.parametrize(
    ("match", "body"),
    [
        (None, "st.global.u32 [%rd1], %r2; ld.global.u32 %r3, [%rd1];"),
        ("writes what another block wrote", "st.global.u32 [%rd31], %r2;"),
        ("reads what another block wrote", "st.global.u32 [%rd1], 1; ld.global.u32 %r3, [%rd31];"),
        ("read-only load", "st.global.u32 [%rd1], 1; ld.global.nc.u32 %r3, [%rd1];"),
        (None, "red.global.add.u32 [%rd30], 1;"),
    ],
)
def test_races_between_blocks(match, body, lanes):
    if match is None:
        blocks(body, lanes=lanes)
        return
    with pytest.raises(MachineError, match=match):
        blocks(body, lanes=lanes)
    blocks(body, lanes=lanes, racecheck=False)


def test_endless_kernel():
    with pytest.raises(MachineError, match="seems endless"):
        go("again: bra again;", patience=1000)


@pytest.mark.parametrize(
    ("match", "barrier"), [(None, "bar.sync 0;"), ("no barrier after its initialisation", "")]
)
def test_mbarrier(match, barrier):
    """The first thread's arrival lets all go on."""
    body = f"""
        mov.u32 %r1, phaser;
        setp.ne.u32 %p1, %r31, 0;
        @!%p1 mbarrier.init.shared.b64 [%r1], 1;
        {barrier}
        @!%p1 mbarrier.arrive.shared.b64 _, [%r1];
    again:
        mbarrier.try_wait.parity.shared.b64 %p2, [%r1], 0;
        @!%p2 bra again;
        mov.u32 %r20, %r31;
    """
    phaser = ".shared .align 8 .b8 phaser[8];\n"
    if match is None:
        np.testing.assert_array_equal(go(body, before=phaser), LANE)
    else:
        with pytest.raises(MachineError, match=match):
            go(body, before=phaser)


def test_long_interval():
    """What a loop without barriers reads is remembered until it is written."""
    body = """
        mov.u32 %r29, tile;
        mad.lo.u32 %r30, %r31, 4, %r29;
        st.shared.u32 [%r30], %r31;
        bar.sync 0;
        mov.u32 %r1, 0;
        xor.b32 %r2, %r30, 4;
    again:
        ld.shared.u32 %r20, [%r2];
        add.u32 %r1, %r1, 1;
        setp.lt.u32 %p1, %r1, 5000;
        @%p1 bra again;
        {}
        st.shared.u32 [%r30], %r31;
    """
    tile = ".shared .align 16 .b8 tile[256];\n"
    np.testing.assert_array_equal(go(body.format("bar.sync 0;"), before=tile), LANE ^ 1)
    with pytest.raises(MachineError, match="race in shared memory"):
        go(body.format(""), before=tile)


def test_memory():
    machine = Machine(1 << 16)
    p = machine.allocate(10)
    assert p % 256 == 0
    with pytest.raises(MachineError, match="byte 0 of the 10"):
        machine.read(p, 10)
    machine.write(p, b"0123456789")
    assert machine.read(p, 10) == b"0123456789"
    with pytest.raises(MachineError, match="aren't allocated"):
        machine.write(p, b"0123456789+")
    machine.free(p)
    with pytest.raises(MachineError, match="aren't allocated"):
        machine.read(p, 10)
    with pytest.raises(MachineError, match="isn't the start"):
        machine.free(p)
    with pytest.raises(MachineError, match="out of memory"):
        machine.allocate(1 << 16)
    for _ in range(3):
        machine.free(machine.allocate(60000))


def test_parameters():
    ptx = (
        text("")
        .replace(".param .u64 p1", ".param .u8 p1")
        .replace(".param .u64 p2", ".param .f32 p2")
    )
    machine = Machine(1 << 16)
    with pytest.raises(MachineError, match="takes 56 bytes"):
        machine.launch(ptx, "k", 1, 1, 0, b"")
    machine.launch(ptx, "k", 1, 1, 0, bytes(56))


def test_counts():
    body = """
        .shared .align 16 .b8 tile[1024];
        ld.global.u32 %r1, [%rd30];
        mov.u32 %r29, tile;
        mad.lo.u32 %r2, %r31, 8, %r29;
        st.shared.u32 [%r2], %r1;
        mad.wide.u32 %rd1, %r31, 28, %rd31;
        st.global.u32 [%rd1], %r1;
    """
    machine = Machine(1 << 20, profile=True)
    p, q = machine.allocate(256), machine.allocate(4096)
    machine.write(p, WORDS)
    machine.launch(text(START + body), "k", 1, 64, 0, pointers([p, q]))
    assert machine.counts["ld.global.u32"] == 2
    assert machine.counts["global load sectors"] == 8
    assert machine.counts["global store sectors"] == 64
    assert machine.counts["bank conflicts"] == 2
