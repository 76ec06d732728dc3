"""Demo, reports and benchmarks of the whole: the only part that imports both ends."""
