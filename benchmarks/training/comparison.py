"""Both processes, slice by slice in turn, and what came of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
import onnx

from benchmarks.host import ROOT
from benchmarks.training.networks import Network, onnx_model, parameters
from plantfed_compiler.compiling import Options, compile_model
from plantfed_shared.model_manifest import LossOfModel

SAME_STEPS = 8
LARGEST_DIFFERENCE = 1e-4
"""In parts of each tensor's largest weight, after :data:`SAME_STEPS`."""
SLICE_S = 0.04
GEMM_SIZE = 1024


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        step_s: processor seconds of a step, median over slices.
        ready_s: of everything before: imports, and with us the session.
        peak_bytes: of the process.
    """

    step_s: float
    ready_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Pair:
    """Both trained the same.

    Attributes:
        ours: as compiled.
        torch: eagerly.
        ratio: torch's processor time in parts of ours, median over slices taken in turn.
        difference: of the weights, in parts of each tensor's largest.
    """

    ours: Side
    torch: Side
    ratio: float
    difference: float


class Process:
    """A training process that waits to be told."""

    def __init__(self, python: str, module: str, *arguments: str) -> None:
        threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        path = os.pathsep.join([str(ROOT), str(ROOT / "shared"), _packages_of(python)])
        # -S: nothing that is only there to develop, as the finder of an editable installation
        self._process = subprocess.Popen(
            [python, "-S", "-m", f"benchmarks.training.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **dict.fromkeys(threads, "1"), "PYTHONPATH": path},
        )
        self.module = module
        self.ready_s = float(self._answer())
        self.steps = 1

    def ask(self, what: object) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process {self.module} ended; see above")
        return json.loads(line)

    def stay_on(self, core: int) -> None:
        """Run on no other processor from now on."""
        os.sched_setaffinity(self._process.pid, {core})

    def step_s(self) -> float:
        return float(self.ask(self.steps)) / self.steps

    def warm_up(self) -> None:
        """A slice is long against the clock, and short against what else the machine does."""
        self.steps = max(1, round(SLICE_S / max(self.step_s(), 1e-6)))
        self.step_s()

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _packages_of(python: str) -> str:
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.run(
        [python, "-c", ask], capture_output=True, text=True, check=True
    ).stdout.strip()


@contextmanager
def _processes(network: Network, rows: int, torch: str, folder: Path) -> Iterator[list[Process]]:
    model, artefact, job = (folder / name for name in ("n.onnx", "n.pfm", "job.json"))
    onnx.save(onnx_model(network), model)
    compiled = compile_model(model, Options(LossOfModel(kind="cross-entropy")))
    artefact.write_bytes(compiled.artefact.to_bytes())
    np.savez(folder / "initial.npz", **parameters(network))  # type: ignore[arg-type]
    told = {
        "sample": network.sample,
        "layers": network.layers,
        "classes": network.classes,
        "parameters": str(folder / "initial.npz"),
    }
    job.write_text(json.dumps(told), encoding="utf-8")
    both: list[Process] = []
    try:
        both.append(Process(sys.executable, "with_plantfed", str(artefact), str(rows)))
        both.append(Process(torch, "with_torch", str(job), str(rows)))
        yield both
    finally:
        for process in both:
            process.end()


def compare(network: Network, rows: int, torch: str, slices: int) -> Pair:
    """Train in both processes.

    Args:
        network: what to train.
        rows: of a batch.
        torch: a Python that has torch.
        slices: of each side.

    Raises:
        RuntimeError: a process failed, or their weights are not the same.
    """
    with TemporaryDirectory() as name, _processes(network, rows, torch, Path(name)) as both:
        for process in both:
            process.ask(SAME_STEPS)
            process.ask(Path(name) / f"{process.module}.npz")
        difference = _difference(*(Path(name) / f"{process.module}.npz" for process in both))
        for process in both:
            process.warm_up()
        taken = _slices_in_turn(both, slices)
        peaks = [int(process.ask(Path(name) / "last.npz")) for process in both]
        sides = [
            Side(median(times), process.ready_s, peak)
            for times, process, peak in zip(zip(*taken, strict=True), both, peaks, strict=True)
        ]
        ratio = median(theirs / ours for ours, theirs in taken)
        return Pair(sides[0], sides[1], ratio, difference)


def _slices_in_turn(both: list[Process], slices: int) -> list[list[float]]:
    """Processor seconds of a step of each, slice by slice.

    A neighbour in a core's caches, or on its other thread where that is another machine's, slows
    what runs there and nothing else.  So both sides of a pair run on the same core; the next pair
    runs on the next.
    """
    taken = []
    for _, core in zip(range(slices), cycle(sorted(os.sched_getaffinity(0))), strict=False):
        for process in both:
            process.stay_on(core)
        taken.append([process.step_s() for process in both])
    return taken


def _difference(ours: Path, theirs: Path) -> float:
    with np.load(ours) as a, np.load(theirs) as b:
        found = max(float(np.abs(a[n] - b[n]).max() / np.abs(b[n]).max()) for n in b.files)
    if not found < LARGEST_DIFFERENCE:
        raise RuntimeError(f"after {SAME_STEPS} steps the weights differ by {found:.1e}")
    return found


def gemm_peak(repeats: int) -> float:
    """Float32 operations per processor second of numpy's matrix product, at its best."""
    rng = np.random.RandomState(0)
    a, b = (rng.standard_normal((GEMM_SIZE,) * 2).astype(np.float32) for _ in range(2))
    taken = []
    for _ in range(repeats):
        begin = process_time()
        a @ b
        taken.append(process_time() - begin)
    return 2 * GEMM_SIZE**3 / min(taken)
