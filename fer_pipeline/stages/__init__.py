"""A run from start to end: opened, trained, evaluated, exported."""
