"""Trained weights in, verified files out."""

# Not for a name: it has Ctrl-C end a command quietly from the start.
import fer_pipeline  # noqa: F401
