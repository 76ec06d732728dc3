"""The program on each machine: trains on rows that never leave it."""
