"""Time by phase, and peak memory."""

import time
from contextlib import suppress

import numpy as np
import pytest

from stage_bench.kernels import allocator
from stage_bench.runs.clock import PHASES, Clock, PeakMemory


def test_phases_add_up():
    clock = Clock()
    begin = time.perf_counter()
    for _ in range(2):
        with clock.phase("train"):
            time.sleep(0.02)
    with clock.phase("infer"):
        time.sleep(0.01)
    total = time.perf_counter() - begin
    assert set(clock.seconds) == {"train", "infer"}
    assert clock.seconds["train"] >= 0.04
    assert clock.seconds["infer"] >= 0.01
    assert sum(clock.seconds.values()) <= total


def test_a_phase_that_fails_is_counted():
    clock = Clock()
    with suppress(ZeroDivisionError), clock.phase("diffuse"):
        time.sleep(0.01)
        raise ZeroDivisionError
    assert clock.seconds["diffuse"] >= 0.01


def test_only_known_phases():
    with pytest.raises(AssertionError), Clock().phase("coffee"):
        pass
    assert PHASES == ("load", "answer", "finetune", "embed", "diffuse", "tune", "train", "infer")


def test_the_device_is_waited_for_before_every_reading():
    """Queued work falls into the phase that queued it, and what was queued before into none."""
    queued, waited = [0.03], []

    def synchronize() -> None:
        begin = time.perf_counter()
        time.sleep(sum(queued))
        queued.clear()
        waited.append(time.perf_counter() - begin)

    clock = Clock(synchronize)
    begin = time.perf_counter()
    with clock.phase("train"):
        queued.append(0.02)
    total = time.perf_counter() - begin
    assert len(waited) == 2
    assert not queued
    assert waited[1] <= clock.seconds["train"] <= total - waited[0]


def test_peak_memory_sees_what_was_freed_again():
    allocator.keep_memory(False)  # a test that trained in this process may have had freed memory kept
    allocator.give_back()
    memory = PeakMemory()
    memory.start()
    before = memory.megabytes()
    if before is None:
        pytest.skip("this system does not tell the peak memory of a process")
    block = np.ones(25_000_000)  # 200 MB, written to
    assert block[-1] == 1
    del block
    peak = memory.megabytes()
    assert 190 <= peak - before <= 260
    memory.start()
    assert memory.megabytes() < peak - 150, "a new measurement begins anew"
