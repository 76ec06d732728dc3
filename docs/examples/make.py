"""Writes model and rows of both examples anew.

    .venv/bin/python docs/examples/make.py CMAPSS_FD001.npz

The argument is the training part of C-MAPSS FD001 as an array ``train`` (rows, 26): engine, cycle,
three settings, 21 sensors.
"""

import sys
from pathlib import Path

import numpy as np
from onnx import numpy_helper, parser, save

HERE = Path(__file__).parent
SENSORS = (2, 3, 4, 7, 11, 12)
CYCLES_CAP = 125
"""Long before the end nothing tells how long it will be."""

AUTOENCODER = """<ir_version: 8, opset_import: ["" : 18]>
autoencoder (float[batch, 24] x) => (float[batch, 24] y) {
    e = Gemm <transB = 1> (x, encoder_weight, encoder_bias)
    c = Tanh(e)
    y = Gemm <transB = 1> (c, decoder_weight, decoder_bias)
}"""
REMAINING_LIFE = """<ir_version: 8, opset_import: ["" : 18]>
remaining_life (float[batch, 6, 16] x) => (float[batch, 1] y) {
    c = Conv (x, conv_weight, conv_bias)
    r = Relu(c)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    y = Gemm <transB = 1> (f, head_weight, head_bias)
}"""


def write_model(path, text, shapes):
    """Write a network with drawn weights; shapes are those of its weights by layer."""
    rng, model = np.random.RandomState(0), parser.parse_model(text)
    for name, shape in shapes.items():
        k = 1 / np.sqrt(np.prod(shape[1:]))
        for part, size in (("weight", shape), ("bias", shape[:1])):
            values = rng.uniform(-k, k, size).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(values, f"{name}_{part}"))
    save(model, path)


def pump(rng, n, *, faulty=False):
    """Flow (m3/h), pressure (bar) and power (kW) of a made-up pump at changing speed."""
    speed = 1 + 0.3 * np.sin(np.arange(n) / rng.uniform(6, 9)) + 0.03 * rng.normal(size=n)
    flow, pressure, power = 40 * speed, 3 * speed**2, 5 * speed**3
    if faulty:  # a blocked filter: the pressure follows, the flow does not
        flow = np.full(n, 40.0)
    noise = 1 + 0.01 * rng.normal(size=(n, 3))
    return np.column_stack([flow, pressure, power]) * noise


def write_pumps(folder):
    """Write normal and faulty rows of three pumps."""
    names = np.array(["flow", "pressure", "power"])
    for number in (1, 2, 3):
        rng = np.random.default_rng(number)
        kinds = (("", 800, False), ("-faulty", 200, True))
        for suffix, n, faulty in kinds:
            x = pump(rng, n, faulty=faulty).astype(np.float32)
            np.savez_compressed(folder / f"machine-{number}{suffix}.npz", x=x, columns=names)


def write_engines(folder, source):
    """Write eight engines to train on and two to test with for each of three machines."""
    with np.load(source) as file:
        rows = file["train"]
    names = np.array([f"s{s}" for s in SENSORS])
    for number in (1, 2, 3):
        for suffix, engines in (("", range(8)), ("-test", range(8, 10))):
            wanted = [10 * (number - 1) + 1 + e for e in engines]
            mine = rows[np.isin(rows[:, 0], wanted)]
            last = {e: mine[mine[:, 0] == e, 1].max() for e in wanted}
            left = np.array([last[int(r[0])] - r[1] for r in mine])
            np.savez_compressed(
                folder / f"machine-{number}{suffix}.npz",
                x=mine[:, [4 + s for s in SENSORS]].astype(np.float32),
                columns=names,
                engine=mine[:, 0].astype(np.int16),
                remaining_cycles=np.minimum(left, CYCLES_CAP).astype(np.float32),
            )


if __name__ == "__main__":
    anomaly, life = HERE / "anomaly", HERE / "remaining-life"
    write_model(anomaly / "model.onnx", AUTOENCODER, {"encoder": (4, 24), "decoder": (24, 4)})
    write_model(life / "model.onnx", REMAINING_LIFE, {"conv": (16, 6, 5), "head": (1, 16)})
    write_pumps(anomaly)
    write_engines(life, sys.argv[1])
