"""One module for each kind of file: weights in, file out."""
