"""The training process: ``python -m plantfed_agent.worker``, started by the agent alone.

It reads frames on standard input and answers on standard output; what it logs or prints goes to
standard error.  All rows, kernels and file readers live here, so that their memory is given back
when it ends.
"""

import os
import signal
import sys
from io import BufferedWriter, FileIO
from queue import SimpleQueue
from threading import Thread

from plantfed_agent.frames import LENGTH, Frame, decode, encode
from plantfed_agent.inprocess import carry_out
from plantfed_agent.loading import SampleLoader
from plantfed_agent.worker_messages import error_frame, outcome_frame, settings_in, task_in
from plantfed_shared.errors import ConfigError, DataError, TrainingError


def main() -> None:
    """Answer tasks until standard input ends."""
    # Ctrl-C in a terminal reaches every process there; the agent decides when this one ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = _take_standard_output()
    requests: SimpleQueue[Frame] = SimpleQueue()
    Thread(target=_receive, args=(FileIO(sys.stdin.fileno()), requests), daemon=True).start()
    data, training = settings_in(requests.get())
    os.nice(training.nice)
    loader = SampleLoader(data)
    while True:
        answer = encode(_answer(requests.get(), loader, report_score=training.report_score))
        try:
            replies.write(answer)
            replies.flush()
        except BrokenPipeError:
            os._exit(0)  # the agent is gone, and the other thread has not noticed yet


def _answer(request: Frame, loader: SampleLoader, *, report_score: bool) -> Frame:
    try:
        return outcome_frame(carry_out(task_in(request), loader.load, report_score=report_score))
    except (ConfigError, DataError, TrainingError) as error:
        return error_frame(error)


def _take_standard_output() -> BufferedWriter:
    """Keep standard output for frames; whatever prints from now on goes to standard error."""
    output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(output, "wb")


def _receive(source: FileIO, requests: "SimpleQueue[Frame]") -> None:
    """Queue what comes in; end the process, busy or not, when the agent is gone."""
    while True:
        (length,) = LENGTH.unpack(_exactly(source, LENGTH.size))
        requests.put(decode(_exactly(source, length)))


def _exactly(source: FileIO, n_bytes: int) -> bytes:
    # unbuffered: a thread that waits within a buffer would hold its lock when the process ends
    parts: list[bytes] = []
    while n_bytes:
        part = source.read(n_bytes)
        if not part:
            os._exit(0)
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main()
