"""What the card reaches: a copy, fused multiply-adds of our own, and torch's matrix products."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import cuda

from cnnfast.benchmarks.on_gpu import torches
from cnnfast.benchmarks.on_gpu.journal import Facts, Journal
from cnnfast.kernels.numba_cuda import device, driver
from cnnfast.kernels.numba_cuda.program import At, Entry, Launch, Program

#: Bytes that are copied: many times the cache. Sides of matrices.
COPY_BYTES, SIDE = 4 << 30, 8192
SECONDS = 0.5
#: Threads of a block, blocks for a multiprocessor, rounds of the probe.
THREADS, BLOCKS, ROUNDS = 256, 8, 4096
CHAINS = 8
#: (dtype, whether tf32 is allowed) of the products by what they are the ceiling of.
PRODUCTS = {
    "fp32": ("float32", False),
    "tf32": ("float32", True),
    "fp16": ("float16", False),
    "bf16": ("bfloat16", False),
}


def run(journal: Journal, dry: bool) -> None:
    """Measure them; by torch and its events where it is here."""
    journal.run("fma", partial(fma, dry))
    journal.run("copy", copy)
    for name, (dtype, tf32) in PRODUCTS.items():
        journal.run(f"product {name}", partial(product, dtype, tf32))


def build_fma() -> Callable[..., None]:
    """Chains of fused multiply-adds that don't wait for each other, in registers."""

    def fma_probe(out, rounds):  # type: ignore[no-untyped-def]
        i = cuda.grid(1)
        x, y = out[0], out[1]
        a, b, c, d = x, x + y, x - y, y
        e, f, g, h = y + y, x + x, y - x, x * y
        for _ in range(rounds):
            a = cuda.fma(a, x, y)
            b = cuda.fma(b, x, y)
            c = cuda.fma(c, x, y)
            d = cuda.fma(d, x, y)
            e = cuda.fma(e, x, y)
            f = cuda.fma(f, x, y)
            g = cuda.fma(g, x, y)
            h = cuda.fma(h, x, y)
        out[i + 2] = ((a + b) + (c + d)) + ((e + f) + (g + h))

    return fma_probe


def fma(dry: bool) -> Facts:
    """float32's peak on CUDA cores, as code of our compiler's reaches it."""
    blocks, rounds = (1, 2) if dry else (BLOCKS * driver.multiprocessors(), ROUNDS)
    entry = Entry(build_fma, (), ("float32*", "int32"), THREADS)
    program = Program((Launch(entry, (blocks, 1, 1), (At("out"), rounds)),))
    nbytes, stream = 4 * (blocks * THREADS + 2), 0
    pointer = driver.allocate(nbytes, stream)
    try:
        driver.fill(pointer, 0, nbytes, stream)
        ready = device.bind(program, ("out",))
        call = partial(ready.run, [pointer], stream)
        timing = torches.measure({"": [call]}, 0.0 if dry else SECONDS, torches.clock())[""]
    finally:
        driver.free(pointer, stream)
    flops = 2 * CHAINS * rounds * blocks * THREADS
    return {"flops_per_s": flops / timing.median, "best": flops / timing.minimum}


def copy() -> Facts:
    """Bytes read and written by a copy within the device's memory."""
    module = torches.torch()
    source = module.randint(0, 255, (COPY_BYTES,), dtype=module.uint8, device=torches.DEVICE)
    target = module.empty_like(source)
    call = partial(target.copy_, source)
    timing = torches.measure({"": [call]}, SECONDS, torches.clock())[""]
    moved = 2 * COPY_BYTES
    return {"bytes_per_s": moved / timing.median, "best": moved / timing.minimum}


def product(dtype: str, tf32: bool) -> Facts:
    """Operations of a large product of random matrices."""
    module = torches.torch()
    one, two = (
        module.randn((SIDE, SIDE), device=torches.DEVICE).to(getattr(module, dtype))
        for _ in range(2)
    )
    torches.tf32(module, tf32)
    try:
        call = partial(module.matmul, one, two)
        timing = torches.measure({"": [call]}, SECONDS, torches.clock())[""]
    finally:
        torches.tf32(module, False)
    flops = 2 * SIDE**3
    return {"flops_per_s": flops / timing.median, "best": flops / timing.minimum}


def measured(items: list[dict[str, Any]]) -> dict[str, float]:
    """The ceilings by name: "copy", "fp32" (the better of the probe and the product), "tf32" ..."""
    found = {item["item"]: item for item in items if item["status"] == "ok"}
    rates = {"copy": found.get("copy", {}).get("bytes_per_s", 0.0)}
    for name in PRODUCTS:
        rates[name] = found.get(f"product {name}", {}).get("flops_per_s", 0.0)
    rates["fp32"] = max(rates["fp32"], found.get("fma", {}).get("flops_per_s", 0.0))
    return {name: rate for name, rate in rates.items() if rate}
