"""Numpy in one thread, Ctrl-C as usual, and Hypothesis with the same examples and no deadline.

More threads than processors, one set for each worker of the tests, spin while they wait for each
other: what trains in a worker took three times as long.  Where a script runs the tests in its
background, they and all programs they start would ignore Ctrl-C.  A slow machine is no failure, and
what is random belongs into the soak: a test that fails once in a while helps nobody.
"""

import os
import signal
from importlib import import_module

from hypothesis import settings

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_before = {name: os.environ.get(name) for name in _THREADS}
os.environ.update(dict.fromkeys(_THREADS, "1"))
import_module("numpy")  # reads them only then
for _name, _value in _before.items():
    # not for the programs that tests start: they have to see to it themselves
    del os.environ[_name]
    if _value is not None:
        os.environ[_name] = _value

signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("plantfed", deadline=None, derandomize=True)
settings.load_profile("plantfed")
