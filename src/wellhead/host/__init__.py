"""The host: a machine that runs sandboxes, and the program that keeps them."""
