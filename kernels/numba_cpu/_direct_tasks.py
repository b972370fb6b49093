"""The tasks of the direct row: where their input, weights and outputs are."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..blocking import DIRECT_CHANNELS
from ._direct_blocks import Window
from ._direct_channels import CHANNEL_VECTORS, Columns, sum_channels
from ._direct_plane import Copy, copy_rows, sum_plane
from ._emit import Code, Value
from ._strips import ROWS, Strip, fits_strips, sum_strip
from ._vector import INT64
from ._views import View


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


class Task(NamedTuple):
    """A block of output rows and columns of out-channels ``k`` up to ``k_last`` of a group."""

    n: Value
    g: Value
    o: Value
    p: Value
    q: Value
    k: Value
    k_last: Value
    rows: Value
    columns: Value


def task_of(code: Code, operands: Operands, task: Value) -> Task:
    """The block of a task."""
    problem, cut = operands.problem, operands.cut
    rest, q = task // cut.column_blocks, task % cut.column_blocks * cut.columns
    rest, p = rest // cut.row_blocks, rest % cut.row_blocks * cut.rows
    rest, o = rest // problem.o, rest % problem.o
    rest, k = rest // cut.k_blocks, rest % cut.k_blocks * cut.channels
    return Task(
        rest // problem.g, rest % problem.g, o, p, q, k,
        code.least(k + cut.channels, problem.k), code.least(cut.rows, problem.p - p),
        code.least(cut.columns, problem.q - q),
    )  # fmt: skip


def steps_of(code: Code, operands: Operands) -> Value:
    """Where the scratch begins: offset in memory and column of every (s, c), in the input and in a
    copy."""
    place = code.builder.bitcast(operands.local.value, INT64.as_pointer())
    return code.of(place)


def fill_steps(code: Code, operands: Operands) -> None:
    """How far (s, c) is from column 0 of channel 0: first in the input, then in a copy."""
    problem, cut = operands.problem, operands.cut
    steps = steps_of(code, operands)
    with code.range(0, problem.s) as s, code.range(0, problem.c) as c:
        column, at = s * problem.dilation_w, steps + (s * problem.c + c) * 2
        copied = at + problem.s * problem.c * 2
        phase, behind = column % problem.stride_w, column // problem.stride_w
        code.store(c * operands.x.c + column, at)
        code.store((c * cut.phases + phase) * cut.pitch + behind, copied)
        code.store(column, at + 1)
        code.store(column, copied + 1)


def gather_biases(code: Code, operands: Operands, first: Value, count: Value, room: int) -> Value:
    """The biases from a channel on; y + -0.0 is y, whatever y is: no bias is -0.0."""
    gathered, none = code.buffer(code.real, room), code.number(0 if code.whole else -0.0)
    with code.range(0, room) as i:
        code.store(none, gathered + i)
    with code.when(operands.biased.equals(1)), code.range(0, count) as i:
        code.store(code.load(operands.bias + first + i), gathered + i)
    return gathered


def gather_weights(
    code: Code, operands: Operands, weight: Value, gathered: Value, channels: Value, room: Value
) -> Value:
    """The weights of some out-channels as ``[t][r][s][c][k]``, each k with zeros up to ``room``; 1
    if all are finite."""
    problem, strides, zero = operands.problem, operands.weight, code.number(0)
    sum_of_zeros = code.var(zero)
    taps = code.range(0, problem.t), code.range(0, problem.r), code.range(0, problem.s)
    with taps[0] as t, taps[1] as r, taps[2] as s, code.range(0, problem.c) as c:
        from_ = weight + (t * strides.d + r * strides.h + s * strides.w + c * strides.c)
        to = gathered + (((t * problem.r + r) * problem.s + s) * problem.c + c) * room
        with code.range(0, channels) as k:
            value = code.load(from_ + k * strides.n)
            sum_of_zeros.set(sum_of_zeros.get() + value * 0)
            code.store(value, to + k)
        with code.range(channels, room) as k:
            code.store(zero, to + k)
    return code.choose(sum_of_zeros.get().equals(0), 1, 0)


def _window(
    code: Code, operands: Operands, task: Task, apart: Value, x_h: Value, x_t: Value
) -> Window:
    """The window of a task's outputs, whose rows are ``apart`` from each other."""
    problem, out = operands.problem, operands.out
    stride = problem.stride_h * apart
    return Window(
        t=problem.t, r=problem.r, steps=problem.s * problem.c,
        x_t=x_t, x_r=problem.dilation_h * x_h, x_p=stride * x_h,
        at_d=task.o * problem.stride_d - problem.pad_d,
        at_h=task.p * problem.stride_h - problem.pad_h,
        at_w=task.q * problem.stride_w - problem.pad_w,
        d=problem.d, h=problem.h, w=problem.w,
        dilation_d=problem.dilation_d, dilation_h=problem.dilation_h, stride=stride,
        k=out.c, p=apart * out.h, q=out.w, activation=operands.activation,
    )  # fmt: skip


def _places(operands: Operands, task: Task) -> tuple[Value, Value]:
    """A task's image and group in the input, and its first output of out-channel 0."""
    problem, x, out = operands.problem, operands.x, operands.out
    source = x.data + (task.n * x.n + task.g * problem.c * x.c)
    target = out.data + (
        task.n * out.n + task.g * problem.k * out.c + task.o * out.d + task.p * out.h
        + task.q * out.w
    )  # fmt: skip
    return source, target


def _copy_halo(code: Code, operands: Operands, task: Task, x: Value, halo: Value) -> None:
    """Copy what is under the task's rows, with the padding."""
    problem, cut, strides = operands.problem, operands.cut, operands.x
    copy = Copy(
        cut.pitch, cut.phases, problem.c,
        (task.rows - 1) * problem.stride_h + (problem.r - 1) * problem.dilation_h + 1,
        strides.c, strides.h, strides.w, problem.stride_w,
        task.p * problem.stride_h - problem.pad_h, task.q * problem.stride_w - problem.pad_w,
        problem.h, problem.w,
    )  # fmt: skip
    copy_at = code.record(copy)
    with code.range(0, problem.t) as t:
        d = task.o * problem.stride_d - problem.pad_d + t * problem.dilation_d
        to = halo + t * cut.halo_rows * problem.c * cut.phases * cut.pitch
        inside = code.choose(code.inside(d, problem.d), 1, 0)
        code.function("copy_rows", copy_rows, (to, x + d * strides.d, inside, copy_at))


def run_task(code: Code, operands: Operands, task: Task) -> None:
    """One task of vectors along columns."""
    problem, cut, x = operands.problem, operands.cut, operands.x
    # Output rows that see the same input rows are `apart`.
    apart = code.choose(problem.stride_h.equals(1), problem.dilation_h, 1)
    steps = steps_of(code, operands)
    count = problem.s * problem.c
    gathered = operands.local + cut.step_elements
    edges = steps + count * 4
    halo = gathered + cut.weight_elements
    source, target = _places(operands, task)
    in_place = x.w.equals(1) & problem.stride_w.equals(1)
    copied = code.var(0)
    k = code.var(task.k)
    with code.loop_while(lambda: k.get() < task.k_last):
        here = k.get()
        channels = code.least(task.k_last - here, DIRECT_CHANNELS)
        channel = task.g * problem.k + here
        weight = operands.weight.data + channel * operands.weight.n
        finite = gather_weights(code, operands, weight, gathered, channels, channels)
        bias = gather_biases(code, operands, channel, channels, DIRECT_CHANNELS)
        # Rows in the padding are skipped in place, but an infinite weight meets their zeros.
        direct = in_place & finite.equals(1)
        with code.when(~direct & copied.get().equals(0)):
            _copy_halo(code, operands, task, source, halo)
            copied.set(code.of(1))
        copy_h = problem.c * cut.phases * cut.pitch
        x_h = code.choose(direct, x.h, copy_h)
        x_t = code.choose(direct, problem.dilation_d * x.d, cut.halo_rows * copy_h)
        window = _window(code, operands, task, apart, x_h, x_t)
        corner = source + (window.at_d * x.d + window.at_h * x.h + window.at_w * x.w)
        first = Value(code, code.builder.select(direct.value, corner.value, halo.value))
        with code.range(0, code.least(apart, task.rows)) as phase:
            part = window._replace(at_h=window.at_h + phase * problem.stride_h)
            arguments = (
                target + (here * operands.out.c + phase * operands.out.h),
                first + phase * problem.stride_h * x_h, gathered, bias, code.record(part),
                steps + code.choose(direct, 0, count * 2), edges, channels,
                (task.rows - phase + apart - 1) // apart, task.columns,
                code.choose(direct, 1, 0),
            )  # fmt: skip
            code.function("plane", sum_plane, arguments)
        k.set(here + channels)


def run_strips(code: Code, operands: Operands, task: Task) -> Value:
    """One task of one channel, strips of output rows; 0 if the weights aren't all finite, for rows
    in the padding are skipped."""
    problem, x, out, weight = operands.problem, operands.x, operands.out, operands.weight
    source, target = _places(operands, task)
    d = task.o * problem.stride_d - problem.pad_d
    # A plane in the padding has no rows to read.
    height = code.choose(code.inside(d, problem.d), problem.h, 0)
    done = code.var(1)
    with code.range(task.k, task.k_last) as k:
        channel = task.g * problem.k + k
        taps, zeros = weight.data + channel * weight.n, code.var(code.number(0))
        with code.range(0, problem.r) as r, code.range(0, problem.s) as s:
            value = code.load(taps + (r * weight.h + s * weight.w))
            zeros.set(zeros.get() + value * 0)
        with code.when(zeros.get().differs(0) | zeros.get().is_nan()):
            done.set(code.of(0))
        rows, columns = code.range(0, task.rows, ROWS), code.range(0, task.columns, code.lanes)
        with rows as row, columns as column:
            # The last vector overlaps the one before and sums the same values again.
            q = code.greatest(code.least(column, task.columns - code.lanes), 0)
            h = (task.p + row) * problem.stride_h - problem.pad_h
            w = (task.q + q) * problem.stride_w - problem.pad_w
            strip = Strip(
                problem.dilation_w, source + (d * x.d + h * x.h + w), x.h, h, height, w, problem.w,
                taps, weight.h, weight.w, target + (k * out.c + row * out.h + q), out.h,
                code.least(task.rows - row, ROWS), task.columns - q, operands.bias + channel,
                operands.biased.equals(1), operands.activation,
            )  # fmt: skip
            sum_strip(code, problem.r, problem.stride_h, strip)
    return done.get()


def run_tasks(code: Code, operands: Operands, begin: Value, end: Value) -> None:
    """Tasks begin .. end-1."""
    fill_steps(code, operands)
    channels = along_channels(operands)
    strips = code.of(1).equals(0)
    if not code.whole:
        strips = fits_strips(operands.problem, operands.x, operands.out)
    with code.range(begin, end) as number:
        task = task_of(code, operands, number)
        with code.either(channels) as (then, otherwise):
            with then:
                run_channel_task(code, operands, task)
            with otherwise:
                done = code.var(0)
                if not code.whole:
                    with code.when(strips):
                        done.set(run_strips(code, operands, task))
                with code.when(done.get().equals(0)):
                    run_task(code, operands, task)


def along_channels(operands: Operands) -> Value:
    """Whether vectors are channels: those of depthwise convolutions, next to each other."""
    problem = operands.problem
    depthwise = problem.c.equals(1) & problem.k.equals(1)
    return depthwise & operands.x.c.equals(1) & operands.out.c.equals(1)


def run_channel_task(code: Code, operands: Operands, task: Task) -> None:
    """One task of vectors along channels: the first group's of a vector does all of it, the others
    do nothing, so that the tasks are the same for every layout."""
    problem, x = operands.problem, operands.x
    together = CHANNEL_VECTORS * code.lanes
    with code.when((task.g % together).equals(0)):
        channels = code.least(problem.g - task.g, together)
        gathered = operands.local + operands.cut.step_elements
        weight = operands.weight.data + task.g * operands.weight.n
        gather_weights(code, operands, weight, gathered, channels, code.of(together))
        bias = gather_biases(code, operands, task.g, channels, together)
        x_t = problem.dilation_d * x.d
        window = _window(code, operands, task, code.of(1), x.h, x_t)
        columns = Columns(
            problem.s, problem.dilation_w, problem.stride_w, problem.w, x.w
        )  # fmt: skip
        source, target = _places(operands, task)
        corner = source + (window.at_d * x.d + window.at_h * x.h + window.at_w * x.w)
        arguments = (
            target, corner, gathered, bias, code.record(window), code.record(columns), task.rows,
            task.columns, channels,
        )  # fmt: skip
        code.function("channels", sum_channels, arguments)
