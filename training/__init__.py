"""Models, their training, evaluation and registry: plain arrays in, plain arrays out."""

import os

# OpenMP threads that spin while they wait make two processes on the same cores take turns
# burning them: measured on two busy cores, an epoch took 20 s instead of 2 s. It costs nothing on
# idle ones. OpenMP reads this when torch is loaded, so it has to be said before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Microseconds of it are worth a quarter of the time of small products, on busy cores too.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
