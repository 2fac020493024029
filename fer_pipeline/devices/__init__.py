"""Which devices train, in which precision, and how several hosts work together."""
