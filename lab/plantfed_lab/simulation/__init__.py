"""A federation in one thread: the real machines under a virtual clock, on modelled links."""
