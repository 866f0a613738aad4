"""Models, their training, evaluation and registry: plain arrays in, plain arrays out."""

import os

# OpenMP threads that spin while they wait make two processes on the same cores take turns
# burning them: measured on two busy cores, an epoch took 20 s instead of 2 s. It costs nothing on
# idle ones. OpenMP reads this when torch is loaded, so it has to be said before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A little of it, before they sleep, saved a fifth of the time of a training on idle cores.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
