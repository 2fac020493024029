"""Faces in photographs and films: found, cut out, followed, and drawn with their labels."""
