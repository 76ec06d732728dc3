"""Bytes and time of the entropy codec, against the entropy and against general compressors.

Updates as they are to be sent: the largest elements of a change, each tensor rounded to 4 or 8 bits
times a power of two.  The changes are those of a first round of Tennessee Eastman's plants, of the
digits if their file is there, and independent draws from Laplace's distribution.  The entropy is
that of each tensor's support and of the values on it, counted in the tensor itself: who knew these
frequencies for nothing, but not where a network moves, would need so many bytes.  zlib and zstd get
the integers as int8 without the powers of two, or as int32, whichever gives less.

Recorded updates are those of the thin links' benchmark, as the coordinator took them; of a low-rank
one the integers are the numbers of its factors.  Only the codec has to say how many terms there are
and what their powers of two.  The goals are against the best layout; numpy has int64, and plain
messages int32.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning.contest import HEAVY_TAILS, Job, federation_of
from benchmarks.learning.tasks import FILES, Task, digits, tennessee_eastman
from benchmarks.learning.thin import LOW_RANK, TOP_K, small_contender
from benchmarks.report import Goal, Grid, Report
from benchmarks.timing import interleaved
from plantfed_agent.inprocess import carry_out
from plantfed_agent.samples import SampleSets
from plantfed_agent.training import TrainingTask
from plantfed_shared import low_rank
from plantfed_shared.codec import FACTORS, decode_integers, encode_factors
from plantfed_shared.definition import Compression, FederationDefinition
from plantfed_shared.entropy_codec import decode, encode
from plantfed_shared.initial import initial_parameters
from plantfed_shared.lattice import Integers, Lattice
from plantfed_shared.low_rank import Factors, Part, most_terms
from plantfed_shared.parameters import flatten

Vector = NDArray[np.float64]
Compressor = Callable[[bytes], bytes]

TRUNK = (196 * 64, 64, 64 * 32, 32)
LARGE = (784_000, 1000, 200_000, 200, 14_800)
LARGE_ROWS = (784, 1, 1000, 1, 200)
KEPT = ((0.02, 4), (0.03, 4), (0.02, 8), (1.0, 4), (1.0, 8))
"""Part of the elements, and bits."""
FINEST = -40
"""Exponent of the unit that all steps are multiples of."""
MACHINES, QUICK_MACHINES = 8, 3
SAMPLES, QUICK_SAMPLES = 9, 3
RECORDED_S, QUICK_RECORDED_S = 300.0, 60.0
"""Virtual."""
_RECORDED = ("recorded", "updates", "bytes", "/entropy")
MAX_OF_ENTROPY = 1.12
MAX_OF_GENERAL = 0.8
MAX_MS = 50.0
"""At a million parameters."""


def run(*, quick: bool, data: Path | None) -> Report:
    """Size of all updates, then the time of large ones."""
    report = Report("codec")
    tasks = [tennessee_eastman(1)]
    if data is not None and (data / FILES["digits"]).exists():
        tasks.append(digits(1, data))
    else:
        report.skipped.append(f"digits: no {FILES['digits']} (--data)")
    machines = QUICK_MACHINES if quick else MACHINES
    sources = [(task.name, sizes_of(task), list(changes_of(task, machines))) for task in tasks]
    sources.append(("Laplace", TRUNK, [drawn(seed, TRUNK) for seed in range(machines)]))
    for name, sizes, changes in sources:
        report.grids.append(_sizes(name, sizes, changes))
    if len(tasks) > 1 and data is not None:
        report.grids += _recorded(report, data, QUICK_RECORDED_S if quick else RECORDED_S)
    report.grids.append(_times(report, QUICK_SAMPLES if quick else SAMPLES))
    if "zstd" not in _compressors():
        report.skipped.append("zstd: no package zstandard")
    report.notes.append(
        "bytes are means; /entropy and the like are ratios of means; processor time, medians"
    )
    return report


def sizes_of(task: Task) -> tuple[int, ...]:
    """Elements of each shared tensor."""
    return tuple(p.size for p in task.definition.parameter_specification().shared)


def changes_of(task: Task, machines: int) -> Iterator[Vector]:
    """What the first round changes on each of the first machines."""
    specification = task.definition.parameter_specification()
    shared, _ = specification.split(initial_parameters(task.definition))
    base = flatten(shared)
    for agent, sets in list(task.machines.items())[:machines]:
        first = TrainingTask(agent, 1, base, np.zeros_like(base), None, task.definition)
        outcome = carry_out(first, partial(_ready, sets), report_score=False)
        yield (outcome.shared - base).astype(np.float64)


def _ready(sets: SampleSets, _: FederationDefinition) -> SampleSets:
    return sets


def drawn(seed: int, sizes: Sequence[int]) -> Vector:
    """Independent draws, tensors of different scale."""
    rng = np.random.default_rng(seed)
    scales = np.repeat(rng.uniform(0.5, 2, len(sizes)), sizes)
    change: Vector = rng.laplace(size=sum(sizes)) * scales
    return change


def compressed(change: Vector, sizes: Sequence[int], kept: float, bits: int) -> Integers:
    """The largest elements in units of 2^FINEST, each tensor rounded to so many bits."""
    n_kept = max(1, round(kept * change.size))
    threshold = np.partition(np.abs(change), -n_kept)[-n_kept]
    parts = []
    for part in np.split(change, np.cumsum(sizes)[:-1]):
        large = np.where(np.abs(part) >= threshold, part, 0)
        largest = np.abs(large).max(initial=0)
        exponent = int(np.ceil(np.log2(largest / (2 ** (bits - 1) - 1)))) if largest else 0
        rounded = np.rint(large * 2.0**-exponent).astype(np.int64)
        parts.append(rounded << max(0, min(exponent - FINEST, 29 - bits)))
    return np.concatenate(parts)


def entropy_bytes(integers: Integers, sizes: Sequence[int]) -> float:
    """Zero-order entropy of each tensor's support and nonzeros."""
    bits = 0.0
    for part in np.split(integers, np.cumsum(sizes)[:-1]):
        for symbols in (part != 0, part[part != 0]):
            counts = np.unique(symbols, return_counts=True)[1]
            bits += float((counts * np.log2(symbols.size / counts)).sum())
    return bits / 8


def layouts(integers: Integers, sizes: Sequence[int]) -> dict[str, bytes]:
    """In which a general compressor may get them; int8 without powers of two, where that fits."""
    forms = {f"int{8 * width}": integers.astype(f"<i{width}") for width in (8, 4)}
    parts = [_without_power(part) for part in np.split(integers, np.cumsum(sizes)[:-1])]
    if max(int(np.abs(part).max(initial=0)) for part in parts) < 128:
        forms["int8"] = np.concatenate(parts).astype(np.int8)
    return {name: form.tobytes() for name, form in forms.items()}


def general_bytes(integers: Integers, sizes: Sequence[int], compress: Compressor) -> int:
    """A general compressor's best."""
    return min(len(compress(form)) for form in layouts(integers, sizes).values())


def _without_power(part: Integers) -> Integers:
    together = int(np.bitwise_or.reduce(part))
    return part >> max(0, (together & -together).bit_length() - 1)


@cache
def _compressors() -> dict[str, Compressor]:
    found: dict[str, Compressor] = {"zlib": partial(zlib.compress, level=9)}
    if find_spec("zstandard"):
        from zstandard import ZstdCompressor

        found["zstd"] = ZstdCompressor(level=19).compress
    return found


def _sizes(name: str, sizes: Sequence[int], changes: Sequence[Vector]) -> Grid:
    columns = ["update", "nonzeros", "bytes", "/entropy", "worst"]
    columns += [f"/{other}" for other in _compressors()]
    rows: list[list[str | float]] = []
    for kept, bits in KEPT:
        updates = [compressed(change, sizes, kept, bits) for change in changes]
        own = [len(encode(update, sizes)) for update in updates]
        entropies = [entropy_bytes(update, sizes) for update in updates]
        row: list[str | float] = [
            f"{_kept(kept)}, {bits} bits",
            mean(float(np.count_nonzero(update)) for update in updates),
            float(mean(own)),
            mean(own) / mean(entropies),
            max(o / e for o, e in zip(own, entropies, strict=True)),
        ]
        for compress in _compressors().values():
            others = [general_bytes(update, sizes, compress) for update in updates]
            row.append(mean(own) / mean(others))
        rows.append(row)
    return Grid(f"{name}: {sum(sizes):,} parameters, {len(changes)} updates", columns, rows)


def _recorded(report: Report, data: Path, seconds: float) -> list[Grid]:
    rows: list[list[str | float]] = []
    by_layout: list[list[str | float]] = []
    for name, compression in (("low-rank", LOW_RANK), ("top-k", TOP_K)):
        lattice, tails = recorded(data, compression, seconds)
        own = sum(len(tail) for tail in tails)
        vectors = [_numbers(tail, lattice) for tail in tails]
        entropy = sum(entropy_bytes(np.concatenate(v), [n.size for n in v]) for v in vectors)
        row: list[str | float] = [name, len(tails), own / len(tails), own / entropy]
        what = f"recorded {name} updates"
        report.goals.append(Goal(what, own / entropy, MAX_OF_ENTROPY, "of their entropy"))
        for other, compress in _compressors().items():
            general = sum(
                general_bytes(np.concatenate(v), [n.size for n in v], compress) for v in vectors
            )
            row.append(own / general)
            report.goals.append(Goal(what, own / general, MAX_OF_GENERAL, f"of {other}"))
        rows.append(row)
        forms = [layouts(np.concatenate(v), [n.size for n in v]) for v in vectors]
        for layout in forms[0]:
            totals = [sum(len(c(form[layout])) for form in forms) for c in _compressors().values()]
            by_layout.append([f"{name}, {layout}", *(own / total for total in totals)])
    others = [f"/{c}" for c in _compressors()]
    return [
        Grid("updates of the thin links' benchmark", [*_RECORDED, *others], rows),
        Grid("the same by the layout that zlib and zstd get", ["recorded", *others], by_layout),
    ]


def recorded(data: Path, compression: Compression, seconds: float) -> tuple[Lattice, list[bytes]]:
    """Lattice and tails of all updates of some virtual time."""
    contender = small_contender(compression)
    federation = federation_of(Job(data, HEAVY_TAILS, 0, contender, seconds))
    tails: list[bytes] = []
    federation.on_update = lambda record: tails.append(record.change)
    federation.run(seconds)
    return federation.definition.lattice(), tails


def _numbers(tail: bytes, lattice: Lattice) -> list[Integers]:
    """The integers that are encoded, in the groups in which they are."""
    if tail[0] != FACTORS:
        return np.split(decode_integers(tail, lattice), np.cumsum(lattice.sizes)[:-1])
    parts = low_rank.decode_parts(memoryview(tail)[1:], lattice)
    return [np.concatenate([numbers for part in parts for numbers in _streamed(part)])]


def _streamed(part: Part) -> list[Integers]:
    if isinstance(part, Factors):
        return [part.left.ravel(), part.right.ravel()]
    return [_without_power(part)]


def _times(report: Report, samples: int) -> Grid:
    change = drawn(0, LARGE)
    vectors = {
        f"{_kept(kept)}, {bits} bits": compressed(change, LARGE, kept, bits) for kept, bits in KEPT
    }
    normal = np.random.default_rng(0).normal(size=change.size)
    vectors["normal, 4 bits"] = np.rint(2 * normal).clip(-7, 7).astype(np.int64)
    vectors["normal, sigma 300"] = np.rint(300 * normal).astype(np.int64)
    vectors["difference, 2 in 100 are +-1"] = np.rint(0.215 * normal).astype(np.int64)
    rows = []
    for name, vector in vectors.items():
        encoded = encode(vector, LARGE)
        costs = interleaved(
            {"encode": _encoder(vector), "decode": _decoder(encoded)},
            samples,
        )
        encode_ms, decode_ms = (costs[job].seconds * 1e3 for job in ("encode", "decode"))
        ratio = len(encoded) / entropy_bytes(vector, LARGE)
        rows.append((name, len(encoded), ratio, encode_ms, decode_ms))
        if name in ("2 %, 4 bits", "normal, 4 bits"):
            slower = max(encode_ms, decode_ms)
            report.goals.append(Goal(f"{name}: encode or decode", slower, MAX_MS, "ms"))
    rows.append(_times_of_factors(report, samples))
    columns = ["vector", "bytes", "/entropy", "encode ms", "decode ms"]
    return Grid(f"{change.size:,} parameters", columns, rows)


def _times_of_factors(report: Report, samples: int) -> tuple[str, int, float, float, float]:
    """As many numbers as the thin links send; decoded to the change that they are."""
    lattice = Lattice(LARGE, (16,) * len(LARGE), rows=LARGE_ROWS)
    parts = _drawn_factors(lattice, LOW_RANK.keep)
    stream = np.concatenate([numbers for part in parts for numbers in _streamed(part)])
    encoded = encode_factors(parts, lattice)
    costs = interleaved(
        {
            "encode": lambda: encode_factors(parts, lattice),
            "decode": lambda: low_rank.decode(memoryview(encoded)[1:], lattice),
        },
        samples,
    )
    encode_ms, decode_ms = (costs[job].seconds * 1e3 for job in ("encode", "decode"))
    name = f"factors, {_kept(LOW_RANK.keep)} in {LOW_RANK.bits} bits"
    slower = max(encode_ms, decode_ms)
    report.goals.append(Goal(f"{name}: encode or decode", slower, MAX_MS, "ms"))
    return (
        name,
        len(encoded),
        len(encoded) / entropy_bytes(stream, [stream.size]),
        encode_ms,
        decode_ms,
    )


def _drawn_factors(lattice: Lattice, keep: float) -> list[Part]:
    """Normal numbers; of every matrix the same part."""
    rng = np.random.default_rng(0)
    largest = 2 ** (LOW_RANK.bits - 1) - 1

    def numbers(*shape: int) -> Integers:
        return np.rint(rng.normal(size=shape)).clip(-largest, largest).astype(np.int64)

    parts: list[Part] = []
    for rows, columns in lattice.shapes:
        if most_terms((rows, columns)):
            terms = max(1, round(keep * rows * columns / (rows + columns)))
            parts.append(Factors((8,) * terms, numbers(rows, terms), numbers(terms, columns)))
        else:
            parts.append(numbers(rows * columns))
    return parts


def _encoder(vector: Integers) -> Callable[[], bytes]:
    return lambda: encode(vector, LARGE)


def _decoder(encoded: bytes) -> Callable[[], Integers]:
    return lambda: decode(encoded, LARGE)


def _kept(part: float) -> str:
    return "dense" if part == 1 else f"{100 * part:g} %"
