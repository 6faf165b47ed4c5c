"""What stops a count."""


class CannotCount(Exception):
    """There is no count to be had here; the message says why, and what to do."""
