"""The coordinator: the consensus of a federation as a service."""
