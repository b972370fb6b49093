"""The PTX machine's control flow, and every check with a kernel that trips it."""

import numpy as np
import pytest

from ptx_machine import Machine, MachineError
from ptx_texts import pointers, run, text

TILE = ".shared .align 16 .b8 tile[1024];\n"

#: The thread's number in %r31, its own element of p0 in %rd30 and of p1 in %rd31 (32 bits each),
#: its element of the tile in %r30.
START = """
    mov.u32 %r31, %tid.x;
    ld.param.u64 %rd30, [p0];
    ld.param.u64 %rd31, [p1];
    mad.wide.u32 %rd30, %r31, 4, %rd30;
    mad.wide.u32 %rd31, %r31, 4, %rd31;
    mov.u32 %r29, tile;
    mad.lo.u32 %r30, %r31, 4, %r29;
"""

NUMBERS = np.arange(64, dtype="u4") * 3
OUT = np.zeros(64, "u4")


def go(body, **rest):
    """Run a body after START with NUMBERS in p0."""
    return run(START + body, [NUMBERS], OUT, before=TILE, **rest)


REVERSE = """
    ld.global.u32 %r1, [%rd30];
    st.shared.u32 [%r30], %r1;
    {barrier}
    sub.u32 %r2, 63, %r31;
    mad.lo.u32 %r2, %r2, 4, %r29;
    ld.shared.u32 %r3, [%r2];
    st.global.u32 [%rd31], %r3;
"""


def test_shared_memory_and_barriers():
    np.testing.assert_array_equal(go(REVERSE.format(barrier="bar.sync 0;")), NUMBERS[::-1])


def test_blocks_of_any_shape():
    body = """
        mov.u32 %r1, %tid.x;
        mov.u32 %r2, %tid.y;
        mov.u32 %r3, %ntid.x;
        mad.lo.u32 %r1, %r2, %r3, %r1;
        mov.u32 %r4, %ctaid.x;
        mov.u32 %r5, %ctaid.z;
        mov.u32 %r6, %nctaid.x;
        mad.lo.u32 %r4, %r5, %r6, %r4;
        mad.lo.u32 %r7, %r4, 15, %r1;
        ld.param.u64 %rd1, [p0];
        mad.wide.u32 %rd1, %r7, 4, %rd1;
        st.global.u32 [%rd1], %r7;
    """
    for lanes in (32, 64, 4096):
        out = run(body, [], np.zeros(90, "u4"), grid=(2, 1, 3), block=(5, 3), lanes=lanes)
        np.testing.assert_array_equal(out, np.arange(90))


def test_loops_of_different_lengths():
    body = """
        mov.u32 %r1, 0;
        mov.u32 %r2, 0;
    loop:
        setp.ge.u32 %p1, %r2, %r31;
        @%p1 bra done;
        add.u32 %r1, %r1, %r2;
        add.u32 %r2, %r2, 1;
        and.b32 %r3, %r2, 7;
        setp.eq.u32 %p2, %r3, 7;
        @!%p2 bra loop;
        add.u32 %r1, %r1, 1000;
        bra loop;
    done:
        st.global.u32 [%rd31], %r1;
    """
    wanted = [sum(j + 1000 * ((j + 1) % 8 == 7) for j in range(n)) for n in range(64)]
    np.testing.assert_array_equal(go(body), wanted)


def test_blocks_of_code_in_any_order_meet_again():
    """The text puts the join before one of the ways to it; the shuffle needs the whole warp."""
    body = """
        and.b32 %r1, %r31, 1;
        setp.eq.u32 %p1, %r1, 0;
        @%p1 bra even;
        bra odd;
    join:
        shfl.sync.bfly.b32 %r3|%p2, %r2, 1, 31, -1;
        st.global.u32 [%rd31], %r3;
        bra end;
    even:
        mul.lo.u32 %r2, %r31, 10;
        bra join;
    odd:
        mul.lo.u32 %r2, %r31, 100;
        bra join;
    end:
    """
    wanted = [(n ^ 1) * (100 if n % 2 == 0 else 10) for n in range(64)]
    np.testing.assert_array_equal(go(body), wanted)


def test_functions():
    function = """
    .func (.param .b32 out) twice (.param .b32 a, .param .b32 again)
    {
        .reg .b32 %r<4>;
        .reg .pred %p<2>;
        ld.param.u32 %r1, [a];
        ld.param.u32 %r2, [again];
        add.u32 %r1, %r1, %r1;
        setp.eq.u32 %p1, %r2, 0;
        @%p1 bra leave;
        add.u32 %r1, %r1, %r1;
    leave:
        st.param.b32 [out], %r1;
        ret;
    }
    """
    call = """
        {
        .param .b32 param0;
        st.param.b32 [param0], %r31;
        .param .b32 param1;
        st.param.b32 [param1], %r5;
        .param .b32 retval0;
        call.uni (retval0), twice, (param0, param1);
        ld.param.b32 %r31, [retval0];
        }
    """
    body = START + "and.b32 %r5, %r31, 1;" + call + call + "st.global.u32 [%rd31], %r31;"
    out = run(body, [NUMBERS], OUT, before=TILE + function)
    n = np.arange(64)
    np.testing.assert_array_equal(out, np.where(n % 2, n * 16, n * 4))


def test_local_and_generic_memory():
    body = """
        .local .align 4 .b8 stack[16];
        mov.u64 %rd1, stack;
        cvta.local.u64 %rd2, %rd1;
        and.b32 %r1, %r31, 3;
        mad.wide.u32 %rd2, %r1, 4, %rd2;
        st.u32 [%rd2], %r31;
        mad.wide.u32 %rd1, %r1, 4, %rd1;
        ld.local.u32 %r2, [%rd1];
        mov.u64 %rd3, tile;
        cvta.shared.u64 %rd3, %rd3;
        mad.wide.u32 %rd3, %r31, 4, %rd3;
        st.u32 [%rd3], %r2;
        ld.shared.u32 %r3, [%r30];
        and.b32 %r4, %r31, 1;
        setp.eq.u32 %p1, %r4, 0;
        selp.b64 %rd4, %rd3, %rd30, %p1;
        ld.u32 %r5, [%rd4];
        st.global.u32 [%rd31], %r5;
    """
    n = np.arange(64)
    np.testing.assert_array_equal(go(body), np.where(n % 2, NUMBERS, n))


def test_vectors_constants_and_dynamic_memory():
    before = """
    .const .align 4 .b8 table[16] = {1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 255, 255, 255, 255};
    .extern .shared .align 16 .b8 pool[];
    """
    body = """
        mov.u64 %rd1, table;
        ld.const.v2.u32 {%r1, %r2}, [%rd1];
        ld.const.v2.s32 {%r3, %r4}, [%rd1+8];
        mov.u32 %r5, pool;
        mad.lo.u32 %r5, %r31, 16, %r5;
        st.shared.v4.b32 [%r5], {%r1, %r2, %r3, %r4};
        ld.shared.v4.b32 {%r6, %r7, %r8, %r9}, [%r5];
        add.u32 %r6, %r6, %r7;
        add.u32 %r6, %r6, %r8;
        add.u32 %r6, %r6, %r9;
        st.global.u32 [%rd31], %r6;
    """
    out = run(START + body, [NUMBERS], OUT, before=TILE + before, shared=1024)
    np.testing.assert_array_equal(out, 258)
    with pytest.raises(MachineError, match="outside the 2032 bytes of shared"):
        run(START + body, [NUMBERS], OUT, before=TILE + before, shared=1008)


def test_warp_instructions():
    body = """
        and.b32 %r1, %r31, 3;
        setp.eq.u32 %p1, %r1, 0;
        vote.sync.ballot.b32 %r2, %p1, -1;
        vote.sync.all.pred %p2, %p1, -1;
        vote.sync.any.pred %p3, %p1, -1;
        selp.u32 %r3, 2, 0, %p2;
        selp.u32 %r4, 1, 0, %p3;
        shfl.sync.down.b32 %r5|%p4, %r31, 4, 31, -1;
        shfl.sync.idx.b32 %r6, %r31, 2, 31, -1;
        redux.sync.add.u32 %r7, %r31, -1;
        xor.b32 %r2, %r2, 286331153;
        add.u32 %r2, %r2, %r3;
        add.u32 %r2, %r2, %r4;
        mad.lo.u32 %r2, %r5, 10, %r2;
        mad.lo.u32 %r2, %r6, 1000, %r2;
        mad.lo.u32 %r2, %r7, 100000, %r2;
        st.global.u32 [%rd31], %r2;
    """
    n = np.arange(64)
    warp = n // 32 * 32
    down = np.where(n % 32 < 28, n + 4, n)
    total = np.where(n < 32, 496, 496 + 32 * 32)
    np.testing.assert_array_equal(go(body), 1 + 10 * down + 1000 * (warp + 2) + 100000 * total)


def test_atomics():
    body = """
        ld.param.u64 %rd1, [p1];
        and.b32 %r1, %r31, 3;
        mad.wide.u32 %rd2, %r1, 4, %rd1;
        atom.global.add.u32 %r2, [%rd2], %r31;
        red.global.max.u32 [%rd1+32], %r31;
    """
    machine = Machine(1 << 20)
    out = machine.allocate(256)
    machine.write(out, np.zeros(64, "u4"))
    machine.launch(text(START + body, before=TILE), "k", 3, 64, 0, pointers([out, out]))
    found = np.frombuffer(machine.read(out, 256), "u4")
    assert found[:4].tolist() == [3 * sum(range(k, 64, 4)) for k in range(4)]
    assert found[8] == 63


def test_named_barriers():
    body = """
        shr.u32 %r1, %r31, 5;
        setp.eq.u32 %p1, %r1, 0;
        @%p1 bra consumer;
        sub.u32 %r2, 63, %r31;
        mad.lo.u32 %r2, %r2, 4, %r29;
        st.shared.u32 [%r2], %r31;
        bar.arrive 1, 64;
        st.global.u32 [%rd31], %r31;
        bra end;
    consumer:
        bar.sync 1, 64;
        ld.shared.u32 %r3, [%r30];
        st.global.u32 [%rd31], %r3;
    end:
    """
    np.testing.assert_array_equal(go(body), [*range(63, 31, -1), *range(32, 64)])


def trips(match, body, **rest):
    """A body that the machine must refuse."""
    with pytest.raises(MachineError, match=match):
        go(body, **rest)


@pytest.mark.parametrize("barrier", ["", "bar.warp.sync -1;"])
def test_race(barrier):
    trips("race in shared memory", REVERSE.format(barrier=barrier), initcheck=False)
    go(REVERSE.format(barrier=barrier), initcheck=False, racecheck=False)


def test_race_of_writes_and_of_a_write_after_a_read():
    trips("race in shared memory", "st.shared.u32 [%r29], %r31;")
    trips(
        "race in shared memory",
        "st.shared.u32 [%r30], %r31; bar.sync 0; ld.shared.u32 %r1, [%r29];"
        "st.shared.u32 [%r30], %r1;",
    )


def test_neighbouring_bytes_are_no_race():
    go(
        "add.u32 %r1, %r29, %r31; st.shared.u8 [%r1], %r31; bar.sync 0; st.shared.u8 [%r1], 1;"
        "st.global.u32 [%rd31], %r31;"
    )


def test_warp_barrier_orders_a_warp():
    body = """
        st.shared.u32 [%r30], %r31;
        {barrier}
        xor.b32 %r1, %r31, 1;
        mad.lo.u32 %r1, %r1, 4, %r29;
        ld.shared.u32 %r2, [%r1];
        st.global.u32 [%rd31], %r2;
    """
    out = go(body.format(barrier="bar.warp.sync -1;"))
    np.testing.assert_array_equal(out, np.arange(64) ^ 1)
    trips("race in shared memory", body.format(barrier=""))


def test_divergent_barriers():
    skip = "setp.lt.u32 %p1, %r31, {0}; @%p1 bra past; bar.sync 0; past: bar.sync 0;"
    trips("divergent barrier: reached by 24 of the 32", skip.format(8))
    trips("divergent barrier", skip.format(32))
    trips(
        "deadlock: 32 of the 64",
        "setp.lt.u32 %p1, %r31, 32; @%p1 bra past; bar.sync 0; bra end; past: bar.sync 1; end:",
    )


def test_threads_that_ended_are_not_awaited():
    body = """
        setp.ge.u32 %p1, %r31, 32;
        st.global.u32 [%rd31], 7;
        @%p1 ret;
        bar.sync 0;
        st.global.u32 [%rd31], %r31;
    """
    np.testing.assert_array_equal(go(body), [*range(32), *[7] * 32])


def test_partial_warps():
    trips(
        "shfl.sync by threads 0x0000ffff",
        "setp.gt.u32 %p1, %r31, 15; @%p1 bra past; shfl.sync.down.b32 %r1, %r31, 1, 31, -1; past:",
    )


@pytest.mark.parametrize(
    ("match", "body"),
    [
        ("outside what is allocated in global", "ld.global.u32 %r1, [%rd30+64];"),
        ("outside what is allocated in global", "st.global.u32 [%rd30+-4], %r31;"),
        ("outside global memory", "ld.global.u32 %r1, [%r31];"),
        ("outside global memory", "mov.u64 %rd1, 0; ld.global.u32 %r1, [%rd1];"),
        ("misaligned access of 4 bytes to global", "ld.global.u32 %r1, [%rd30+2];"),
        ("misaligned access of 16 bytes", "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd30];"),
        ("load of global memory never written", "ld.global.u32 %r1, [%rd31];"),
        ("outside the 1024 bytes of shared", "st.shared.u32 [%r30+800], %r31;"),
        ("outside the 1024 bytes of shared", "ld.shared.u32 %r1, [%r31];"),
        ("misaligned access of 4 bytes to shared", "st.shared.u32 [%r30+1], %r31;"),
        ("load of shared memory never written", "ld.shared.u32 %r1, [%r30];"),
        ("division by zero", "div.u32 %r1, 5, %r31;"),
        ("unknown instruction: frobnicate.u32", "frobnicate.u32 %r1, %r2;"),
        ("calls a function not in the text", "call.uni vprintf, ();"),
        ("trap", "trap;"),
        ("unknown instruction: barrier.cluster", "barrier.cluster.arrive;"),
        ("is too small for", "ld.global.u64 %r1, [%rd30];"),
        ("unknown name nowhere", "mov.u64 %rd1, nowhere;"),
        ("no label nowhere", "bra nowhere;"),
        ("cannot read", "add.u32 %r1 %r2;"),
    ],
)
def test_faults(match, body):
    trips(match, body)


def test_message():
    """The line, block and thread."""
    body = f"""
        mov.u32 %r20, %ctaid.x;
        setp.eq.u32 %p2, %r20, 0;
        @%p2 ret;
        {START}
        setp.eq.u32 %p1, %r31, 37;
        @%p1 st.global.u32 [%rd31+4096], %r31;
    """
    machine = Machine(1 << 20)
    p = machine.allocate(256)
    ptx = text(body, before=TILE)
    line = ptx[: ptx.index("st.global")].count("\n") + 1
    with pytest.raises(
        MachineError, match=rf"^line {line}: block \(1, 0, 0\) thread \(37, 0, 0\): "
    ):
        machine.launch(ptx, "k", 3, 64, 0, pointers([p, p]))
