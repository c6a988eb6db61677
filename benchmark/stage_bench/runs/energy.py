"""Energy in joules, where the machine counts it: processor packages (RAPL, by Linux' powercap) and GPUs (NVML).

A counter counts all that its package or GPU draws, at rest and for other programs too. What a job draws is known only
where the job has the machine to itself, and only where everything it runs on can be read: half of it would look like
thrift.
"""

from __future__ import annotations

import importlib
import math
import re
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")

MOST_WATTS = 2000.0
"""More than any package or GPU draws for a second."""

_SAMPLE_SECONDS = 10.0
_STILL_SECONDS = 0.5  # every counter moves in that time: RAPL each millisecond, NVML about ten times a second
# Not intel-rapl:N:M, the parts of a package, nor intel-rapl-mmio:N, the same package by another way.
_ZONE = re.compile(r"intel-rapl:\d+")


class Counter(Protocol):
    """Joules since some moment, as `read` gives them; raises OSError where it cannot.

    span: joules after which it begins at 0 again; infinite where it never does.
    """

    span: float

    def read(self) -> float: ...


class Package:
    """A processor package. AMD's are under the same names as Intel's."""

    def __init__(self, zone: Path) -> None:
        """Raises OSError where it cannot be read, which without root's rights is usual."""
        self._path = zone / "energy_uj"
        self.span = _microjoules(zone / "max_energy_range_uj")
        if self.span <= 0:
            raise OSError(f"{zone}: no range")
        self.read()

    def read(self) -> float:
        return _microjoules(self._path)


class GPU:
    """A device of NVML, whose counter begins when the driver is loaded."""

    span = math.inf

    def __init__(self, nvml: Any, uuid: str) -> None:
        """nvml: the module pynvml. Raises OSError where the device does not count (before Volta, a MIG slice)."""
        self._nvml = nvml
        try:
            self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        except Exception as error:
            raise OSError(f"{uuid}: {error}") from None
        self.read()

    def read(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except Exception as error:  # NVMLError; AttributeError of an old pynvml
            raise OSError(f"no energy from NVML: {error}") from None


class Meter:
    """Joules drawn between `start` and `stop`, added up over all such stretches; also a context manager.

    A package's counter goes round, at full load after minutes. While the meter runs a thread reads it every 10 seconds,
    or as often as its range demands at MOST_WATTS: with less than a round between two readings the difference is known.
    It is not, and `joules` is None, where the thread came so late that it may have been a round and more, where a
    counter stands still, as some virtual machines' do, and where it made a step that no hardware makes: it was set back
    while the machine slept.
    """

    def __init__(self, counters: Sequence[Counter] = ()) -> None:
        """Without counters nothing is measured."""
        self._counters = counters
        self._totals = [0.0] * len(counters)
        self._values: list[float] = []
        self._read_at = self._seconds = 0.0
        self._lost = False
        self._lock = threading.Lock()
        self._stopped: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if not self._counters:
            return
        assert self._stopped is None
        self._values = []
        self._sample()
        period = min(_SAMPLE_SECONDS, min(counter.span for counter in self._counters) / MOST_WATTS / 2)
        self._stopped = threading.Event()
        # It does not keep the meter: one that is forgotten, as after an error, ends its thread.
        arguments = (weakref.ref(self), self._stopped, period)
        self._thread = threading.Thread(target=_keep_sampling, args=arguments, name="energy", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Does nothing where it does not run."""
        if self._stopped is None or self._thread is None:
            return
        self._stopped.set()
        self._thread.join()
        self._stopped = self._thread = None
        self._sample()

    def __enter__(self) -> Meter:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def joules(self) -> float | None:
        """None where it was not measured; 0 where all stretches together are shorter than a counter's step."""
        still = self._seconds > _STILL_SECONDS and 0.0 in self._totals
        return None if not self._counters or self._lost or still else sum(self._totals)

    def spent(self) -> dict[str, float]:
        """`joules`, or nothing where they were not measured."""
        joules = self.joules()
        return {} if joules is None else {"joules": joules}

    def _sample(self) -> None:
        with self._lock:
            now = time.monotonic()
            try:
                values = [counter.read() for counter in self._counters]
            except OSError:
                self._lost = True
                return
            if self._values:
                passed = now - self._read_at
                for number, counter in enumerate(self._counters):
                    step = values[number] - self._values[number]
                    if step < 0:
                        step += counter.span
                    # A second more, since a counter moves in steps of its own.
                    if passed * MOST_WATTS >= counter.span or step > MOST_WATTS * (passed + 1):
                        self._lost = True
                    self._totals[number] += step
                self._seconds += passed
            self._values, self._read_at = values, now


def _keep_sampling(meter: weakref.ref[Meter], stopped: threading.Event, period: float) -> None:
    while not stopped.wait(period):
        running = meter()
        if running is None:
            return
        running._sample()
        del running


def unmeasured(device: str) -> Meter:
    """A meter for where nothing is to be measured."""
    return Meter()


def counters(device: str, gpus: Sequence[str] = (), root: Path | None = None, nvml: Any = None) -> list[Counter]:
    """All that a job on that device draws from; none where one of them is absent or cannot be read.

    device: cpu or cuda. gpus: UUIDs of the GPUs that the job sees, as NVML has them. root: instead of POWERCAP.
    nvml: instead of the module pynvml, where that is installed.
    """
    try:
        return _counters(device, gpus, root or POWERCAP, nvml)
    except OSError:
        return []


def lack(device: str, gpus: Sequence[str] = (), root: Path | None = None, nvml: Any = None) -> str:
    """Why a job on that device cannot be measured, and what to do; empty: it can. Arguments as of `counters`."""
    root = root or POWERCAP
    if not root.is_dir():
        return f"this system has no counters ({root}), as most virtual machines"
    try:
        found = _counters(device, gpus, root, nvml)
    except PermissionError as error:
        return f"only root may read {error.filename}: sudo chmod a+r {root}/intel-rapl:*/energy_uj"
    except OSError as error:
        return f"{error}" if device == "cpu" else f"{error} (for GPUs: pip install nvidia-ml-py)"
    return "" if found else f"no processor package has a counter in {root}"


def _counters(device: str, gpus: Sequence[str], root: Path, nvml: Any) -> list[Counter]:
    """Raises OSError where one of them is absent or cannot be read."""
    found: list[Counter] = list(_packages(root))
    if not found or device == "cpu":
        return found
    return [*found, *_gpus(gpus, nvml or _pynvml())]


def _packages(root: Path) -> list[Package]:
    """Those of the machine. Raises OSError where one of them cannot be read."""
    zones = sorted(path for path in root.iterdir() if _ZONE.fullmatch(path.name))
    # A laptop also has a zone `psys`, of all its parts: its packages would count twice.
    return [Package(zone) for zone in zones if (zone / "name").read_bytes().startswith(b"package")]


def _gpus(uuids: Sequence[str], nvml: Any) -> list[GPU]:
    """Raises OSError where there are none, or one of them cannot be read."""
    if not uuids:
        raise OSError("torch does not say which GPUs it uses")
    try:
        nvml.nvmlInit()
    except Exception as error:  # NVMLError, which is no OSError
        raise OSError(f"no NVML: {error}") from None
    return [GPU(nvml, uuid) for uuid in uuids]


def _pynvml() -> Any:
    """Raises OSError where it is not installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise OSError(str(error)) from None


def _microjoules(path: Path) -> float:
    """In joules. Raises OSError where the file does not hold a number."""
    try:
        return int(path.read_text()) / 1e6
    except ValueError:
        raise OSError(f"{path}: not a number") from None
