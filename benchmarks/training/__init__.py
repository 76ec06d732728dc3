"""Training steps of compiled models side by side with torch's, each in a process of its own."""
