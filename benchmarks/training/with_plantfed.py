"""``python -m benchmarks.training.with_plantfed ARTEFACT ROWS``: train a compiled model."""

import sys
from pathlib import Path
from time import process_time

import numpy as np

from benchmarks.training.job import LEARNING_RATE, PULL, Arrays, anchor, drawn, dual, serve
from plantfed_shared import step_names
from plantfed_shared.artefact import read_artefact
from plantfed_shared.onnx_session import OnnxSession


def main(path: str, rows: str) -> None:
    artefact = read_artefact(Path(path))
    manifest, initial = artefact.manifest, artefact.initial()
    session = OnnxSession(artefact.graph("whole_step"))
    held: Arrays = {step_names.LEARNING_RATE: np.array(LEARNING_RATE, np.float32)}
    held[step_names.BODY_PULL] = np.array(PULL, np.float32)
    held |= {step_names.anchor(name): anchor(p) for name, p in initial.items()}
    held |= {step_names.dual(name): dual(p) for name, p in initial.items()}
    stepper = session.stepper(initial, held)
    ready_s = process_time()
    classes = manifest.output.shape[0]
    batches = [
        {manifest.input.name: x, step_names.TARGET: target}
        for x, target in drawn(manifest.input.shape, classes, int(rows))
    ]
    serve(ready_s, batches, stepper.step, stepper.carried)


if __name__ == "__main__":
    main(*sys.argv[1:])
