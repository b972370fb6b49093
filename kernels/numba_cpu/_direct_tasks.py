"""The tasks of the direct row: where their input, weights and outputs are."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..blocking import DIRECT_CHANNELS
from ..blocking_rows import SHARED_ROWS
from ._direct_3x3 import Plane, Weights, sum_3x3
from ._direct_channels import CHANNEL_VECTORS, Columns, Rows, sum_channels
from ._direct_copy import Copy, copy_plane
from ._direct_flat import Flat, sum_flat
from ._direct_rows import Window, sum_shared
from ._direct_stores import Target
from ._emit import Code, Value
from ._vector import INT64
from ._views import View

#: Planes that are stored past the caches: half of a 32 MiB L3. And what such stores write at once.
STREAMED_BYTES = 16 << 20
LINE_BYTES = 64


class Operands(NamedTuple):
    """What a call reads and writes; ``biased`` is 1 where there is a bias. Strides of the weight
    are those of k, c, t, r, s."""

    problem: Any
    cut: Any
    x: View
    weight: View
    out: View
    bias: Value
    biased: Value
    local: Value
    activation: Value
    #: Whether there is code for vectors of channels; without, other tasks do their work.
    channels_last: bool = True


class Task(NamedTuple):
    """A block of output rows and columns of out-channels ``k`` up to ``k_end`` of a group; where
    the group's input and the block's first output are."""

    g: Value
    k: Value
    k_end: Value
    o: Value
    p: Value
    q: Value
    rows: Value
    columns: Value
    source: Value
    target: Value


def _split(code: Code, number: Value, count: Value) -> tuple[Value, Value]:
    """Quotient and remainder. Divisions take longer than a look whether there is a choice."""
    whole, part = code.var(number), code.var(0)
    with code.when(count > 1):
        whole.set(number // count)
        part.set(number % count)
    return whole.get(), part.get()


def task_of(code: Code, operands: Operands, task: Value) -> Task:
    """The block of a task."""
    problem, cut, x, out = operands.problem, operands.cut, operands.x, operands.out
    task, q = _split(code, task, cut.column_blocks)
    task, p = _split(code, task, cut.row_blocks)
    task, o = _split(code, task, problem.o)
    task, k = _split(code, task, cut.k_blocks)
    n, g = code.var(0), code.var(task)
    with code.when(problem.n > 1):
        n.set(task // problem.g)
        g.set(task % problem.g)
    k, p, q = k * cut.channels, p * cut.rows, q * cut.columns
    image = n.get() * x.n + g.get() * problem.c * x.c
    channel = g.get() * problem.k + k
    first = n.get() * out.n + channel * out.c + o * out.d + p * out.h + q * out.w
    return Task(
        g.get(), k, code.least(k + cut.channels, problem.k), o, p, q,
        code.least(cut.rows, problem.p - p), code.least(cut.columns, problem.q - q),
        x.data + image, out.data + first,
    )  # fmt: skip


def along_channels(operands: Operands) -> Value:
    """Whether vectors are channels: those of depthwise convolutions, next to each other."""
    problem = operands.problem
    if not operands.channels_last:
        return problem.c.differs(problem.c)
    depthwise = problem.c.equals(1) & problem.k.equals(1) & (problem.g > 1)
    return depthwise & operands.x.c.equals(1) & operands.out.c.equals(1)


def in_place(operands: Operands) -> Value:
    """Whether planes are read in place, and written a row at a time: one channel with 3 x 3
    taps."""
    problem = operands.problem
    taps = problem.t.equals(1) & problem.r.equals(3) & problem.s.equals(3)
    near = problem.dilation_h.equals(1) & problem.dilation_w.equals(1)
    strides = problem.stride_h.equals(problem.stride_w) & (problem.stride_h <= 2)
    contiguous = operands.x.w.equals(1) & operands.out.w.equals(1)
    return problem.c.equals(1) & contiguous & taps & near & strides


def _steps_of(code: Code, operands: Operands) -> Value:
    """Where the scratch begins: how far taps are from each other."""
    return code.of(code.builder.bitcast(operands.local.value, INT64.as_pointer()))


def prepare(code: Code, operands: Operands) -> None:
    """Write what serves all tasks into the scratch: zeros; or how far taps (t, r, s, c) are from
    the first output's place in a copy, then how far (s, c) are from the first tap's in the
    input."""
    problem, cut = operands.problem, operands.cut
    planes = in_place(operands)
    with code.when(planes & ~along_channels(operands)):
        zeros = operands.local + (cut.step_elements + cut.weight_elements)
        with code.range(0, cut.zero_elements) as i:
            code.store(code.number(0), zeros + i)
    with code.when(~planes & ~along_channels(operands)):
        at = code.var(_steps_of(code, operands))

        def put(step: Value) -> None:
            code.store(step, at.get())
            at.set(at.get() + 1)

        with code.range(0, problem.t) as t, code.range(0, problem.r) as r:
            h = r * problem.dilation_h
            with code.range(0, problem.s) as s, code.range(0, problem.c) as c:
                w = s * problem.dilation_w
                phase = h % problem.stride_h * cut.phases_w + w % problem.stride_w
                plane = (t * problem.c + c) * cut.phases_h * cut.phases_w + phase
                put(plane * cut.plane + h // problem.stride_h * cut.pitch + w // problem.stride_w)
        with code.range(0, problem.s) as s, code.range(0, problem.c) as c:
            put(c * operands.x.c + s * problem.dilation_w * operands.x.w)


def _biases(code: Code, operands: Operands, first: Value, count: Value, room: int) -> Value:
    """The biases from a channel on; y + -0.0 is y, whatever y is: no bias is -0.0."""
    gathered, none = code.buffer(code.real, room), code.number(0 if code.whole else -0.0)
    with code.range(0, room) as i:
        code.store(none, gathered + i)
    with code.when(operands.biased.equals(1)), code.range(0, count) as i:
        code.store(code.load(operands.bias + first + i), gathered + i)
    return gathered


def _gather_weights(
    code: Code, operands: Operands, weight: Value, gathered: Value, channels: Value, room: Value
) -> None:
    """The weights of some out-channels as ``[t][r][s][c][k]``, each k with zeros up to ``room``."""
    problem, strides, to = operands.problem, operands.weight, code.var(gathered)
    taps = code.range(0, problem.t), code.range(0, problem.r), code.range(0, problem.s)
    with taps[0] as t, taps[1] as r, taps[2] as s, code.range(0, problem.c) as c:
        from_ = weight + (t * strides.d + r * strides.h + s * strides.w + c * strides.c)
        with code.either(channels.equals(DIRECT_CHANNELS)) as (full, some):
            with full:
                side_by_side = [code.load(from_ + strides.n * i) for i in range(DIRECT_CHANNELS)]
                code.store_few(side_by_side, to.get())
            with some, code.range(0, channels, scalar=True) as k:
                code.store(code.load(from_ + k * strides.n), to.get() + k)
        with code.range(channels, room) as k:
            code.store(code.number(0), to.get() + k)
        to.set(to.get() + room)


def _target(operands: Operands, streaming: Value) -> Target:
    out = operands.out
    return Target(out.c, out.h, out.w, operands.activation, streaming)


def _streams(code: Code, operands: Operands, task: Task) -> Value:
    """1 where whole vectors of a plane go past the caches, unless a function changes them then."""
    problem, out, line = operands.problem, operands.out, LINE_BYTES // code.itemsize
    place = Value(code, code.builder.ptrtoint(task.target.value, INT64))
    large = problem.p * problem.q >= STREAMED_BYTES // code.itemsize
    whole = (out.h % line).equals(0) & (out.c % line).equals(0) & (place % LINE_BYTES).equals(0)
    return code.choose(large & whole & (operands.activation <= 2), 1, 0)


def run_plane_task(code: Code, operands: Operands, task: Task) -> None:
    """A task of one channel with 3 x 3 taps, whose input is read in place; the copy's place is
    zeros."""
    problem, cut, x, weight = operands.problem, operands.cut, operands.x, operands.weight
    d = task.o * problem.stride_d - problem.pad_d
    in_plane = code.inside(d, problem.d)
    plane = Plane(
        x.h, task.p * problem.stride_h - problem.pad_h, task.q * problem.stride_w - problem.pad_w,
        code.choose(in_plane, problem.h, 0), problem.w, problem.stride_h,
        operands.local + (cut.step_elements + cut.weight_elements),
    )  # fmt: skip
    source = task.source + code.choose(in_plane, d, 0) * x.d
    target = _target(operands, _streams(code, operands, task))
    with code.range(task.k, task.k_end) as k:
        channel = task.g * problem.k + k
        bias = _biases(code, operands, channel, code.of(1), 1)
        weights = Weights(weight.data + channel * weight.n, weight.h, weight.w, bias)
        place = task.target + (k - task.k) * operands.out.c
        arguments = place, target, source, weights, plane, task.rows, task.columns
        code.function("3x3", sum_3x3, arguments)


def _copy_input(code: Code, operands: Operands, task: Task, halo: Value) -> None:
    """Copy what is under a task, with the padding."""
    problem, cut, x = operands.problem, operands.cut, operands.x
    copy = Copy(
        cut.pitch, cut.plane, cut.rest, cut.phases_h, cut.phases_w, problem.c,
        (task.rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1,
        x.c, x.h, x.w, problem.stride_h, problem.stride_w,
        task.p * problem.stride_h - problem.pad_h, task.q * problem.stride_w - problem.pad_w,
        problem.h, problem.w,
    )  # fmt: skip
    with code.range(0, problem.t) as t:
        d = task.o * problem.stride_d - problem.pad_d + t * problem.dilation_d
        to = halo + t * problem.c * cut.phases_h * cut.phases_w * cut.plane
        inside = code.choose(code.inside(d, problem.d), 1, 0)
        code.function("copy_plane", copy_plane, (to, task.source + d * x.d, inside, copy))


def _is_inside(code: Code, operands: Operands, task: Task) -> Value:
    """Whether all that whole vectors of a task's columns read is inside of the input."""
    problem, lanes = operands.problem, code.lanes
    d = task.o * problem.stride_d - problem.pad_d
    h, w = task.p - problem.pad_h, task.q - problem.pad_w
    columns = (task.columns + lanes - 1) // lanes * lanes
    before = (d >= 0) & (h >= 0) & (w >= 0)
    in_d = d + (problem.t - 1) * problem.dilation_d < problem.d
    in_h = h + task.rows + problem.r - 2 < problem.h
    return (
        before & in_d & in_h & (w + columns - 1 + (problem.s - 1) * problem.dilation_w < problem.w)
    )


def _is_flat(code: Code, operands: Operands, task: Task) -> Value:
    """Whether the input is a copy as it lies: of a kernel of one tap, without padding or stride,
    rows behind each other, and a vector's length of them."""
    problem, cut, x = operands.problem, operands.cut, operands.x
    d, h, w = (
        task.o * problem.stride_d - problem.pad_d,
        task.p - problem.pad_h,
        task.q - problem.pad_w,
    )
    alone = (problem.t * problem.r * problem.s).equals(1) & x.w.equals(1) & x.h.equals(cut.pitch)
    near = problem.stride_h.equals(1) & problem.stride_w.equals(1)
    inside = code.inside(d, problem.d) & (h >= 0) & (w >= 0)
    inside = inside & (h + task.rows <= problem.h) & (w + task.columns <= problem.w)
    return alone & near & inside & (task.rows * task.columns >= code.lanes)


def run_task(code: Code, operands: Operands, task: Task) -> None:
    """A task over a copy, or, where rows share loads and no padding is near, in place."""
    problem, cut, x, out = operands.problem, operands.cut, operands.x, operands.out
    steps, count = _steps_of(code, operands), problem.s * problem.c
    taps = problem.t * problem.r * count
    gathered = operands.local + cut.step_elements
    halo = gathered + cut.weight_elements
    apart = problem.stride_h.equals(1) & problem.stride_w.equals(1) & problem.dilation_h.equals(1)
    sharing = apart & (problem.r >= SHARED_ROWS) & (task.rows >= SHARED_ROWS)
    reading = sharing & problem.k.equals(1) & x.w.equals(1) & _is_inside(code, operands, task)
    flat_input = _is_flat(code, operands, task)
    direct = reading | flat_input
    with code.when(~direct):
        _copy_input(code, operands, task, halo)
    corner = task.source + (
        (task.o * problem.stride_d - problem.pad_d) * x.d + (task.p - problem.pad_h) * x.h
        + (task.q - problem.pad_w)
    )  # fmt: skip
    first = code.choose(direct, corner, halo)
    window = Window(
        problem.t, problem.r, count, steps + code.choose(direct, taps, 0),
        code.choose(direct, problem.dilation_d * x.d,
                    problem.c * cut.phases_h * cut.phases_w * cut.plane),
        code.choose(direct, x.h, cut.pitch),
    )  # fmt: skip
    target = _target(operands, code.of(0))
    exact = code.choose(flat_input, 1, 0)
    flat = Flat(taps, window.steps, task.rows, task.columns, cut.pitch, exact)
    with code.range(task.k, task.k_end, DIRECT_CHANNELS) as k:
        channels, channel = code.least(task.k_end - k, DIRECT_CHANNELS), task.g * problem.k + k
        weight = operands.weight.data + channel * operands.weight.n
        _gather_weights(code, operands, weight, gathered, channels, channels)
        bias = _biases(code, operands, channel, channels, DIRECT_CHANNELS)
        given = task.target + (k - task.k) * out.c, target, first, gathered, bias
        with code.either(channels.equals(1) & sharing) as (shared, apart_):
            with shared:
                code.function("shared", sum_shared, (*given, window, task.rows, task.columns))
            with apart_:
                code.function("flat", sum_flat, (*given, flat, channels))


def run_channel_task(code: Code, operands: Operands, task: Task) -> None:
    """A task of vectors along channels: the first group's of some vectors does all of it, the
    others do nothing, so that the tasks are the same for every layout."""
    problem, x = operands.problem, operands.x
    together = CHANNEL_VECTORS * code.lanes
    with code.when((task.g % together).equals(0)):
        channels = code.least(problem.g - task.g, together)
        gathered = operands.local + operands.cut.step_elements
        weight = operands.weight.data + task.g * operands.weight.n
        _gather_weights(code, operands, weight, gathered, channels, code.of(together))
        bias = _biases(code, operands, task.g, channels, together)
        rows = Rows(
            problem.t, problem.r,
            problem.dilation_d * x.d, problem.dilation_h * x.h, problem.stride_h * x.h,
            task.o * problem.stride_d - problem.pad_d, task.p * problem.stride_h - problem.pad_h,
            problem.d, problem.h, problem.dilation_d, problem.dilation_h, problem.stride_h,
        )  # fmt: skip
        columns = Columns(
            problem.s, problem.dilation_w, problem.stride_w,
            task.q * problem.stride_w - problem.pad_w, problem.w, x.w,
        )  # fmt: skip
        corner = task.source + (rows.at_d * x.d + rows.at_h * x.h + columns.at * x.w)
        arguments = (
            task.target, _target(operands, code.of(0)), corner, gathered, bias, rows, columns,
            task.rows, task.columns, channels,
        )  # fmt: skip
        code.function("channels", sum_channels, arguments)


def run_tasks(code: Code, operands: Operands, begin: Value, end: Value) -> None:
    """Tasks begin .. end-1."""
    channels, planes = along_channels(operands), in_place(operands)
    with code.range(begin, end) as number:
        task = task_of(code, operands, number)
        with code.either(channels) as (then, otherwise):
            with then:
                if operands.channels_last:
                    run_channel_task(code, operands, task)
            with otherwise, code.either(planes) as (plane, copy):
                with plane:
                    run_plane_task(code, operands, task)
                with copy:
                    run_task(code, operands, task)
