"""Training code for any Sa2VA model: the loop, losses, optimizers, packing and processes."""
