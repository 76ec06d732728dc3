"""What the modes learn, side by side: the same machines, messages and rows for all."""
