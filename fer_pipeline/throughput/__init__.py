"""The benchmark: each case in a process of its own, beside its rivals."""
