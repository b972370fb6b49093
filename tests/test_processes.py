"""Many calls at once: from eight Python threads, from pools of processes, and from joblib.

Each asks for right answers, and that nothing hangs or aborts. ``CNNFAST_SOAK_SECONDS=60`` keeps the
threads at it for a minute.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import pytest
from calls import CALLS, digest, digests

import cnnfast

SOAK_SECONDS = float(os.environ.get("CNNFAST_SOAK_SECONDS", "5"))
#: Longer than any of these takes, shorter than a CI run may.
TIMEOUT = 300


def test_eight_threads_at_once() -> None:
    cnnfast.set_num_threads(3)
    expected = digests()
    wrong: list[str] = []
    counts = [0] * 8
    stop = time.monotonic() + SOAK_SECONDS

    def work(number: int) -> None:
        names = list(CALLS)
        while time.monotonic() < stop:
            name = names[(counts[number] + number) % len(names)]
            try:
                if digest(name) != expected[name]:
                    wrong.append(name)
            except BaseException as error:
                wrong.append(f"{name}: {error!r}")
                raise
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOAK_SECONDS + TIMEOUT)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert min(counts) > 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_pool_of_processes(method: str) -> None:
    cnnfast.set_num_threads(2)
    expected = digests()
    with multiprocessing.get_context(method).Pool(3) as pool:
        found = pool.map_async(digest, [*CALLS] * 3).get(TIMEOUT)
    assert found == [*expected.values()] * 3


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib(backend: str) -> None:
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    expected = digests()
    with joblib.Parallel(n_jobs=3, backend=backend, timeout=TIMEOUT) as parallel:
        found = parallel(joblib.delayed(digest)(name) for name in [*CALLS] * 3)
    assert found == [*expected.values()] * 3
