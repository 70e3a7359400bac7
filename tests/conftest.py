"""What every test shares: no network, two CPU devices, and no compiled programs or corpora of the user's own."""

import os

# Read by JAX when it is first imported, here or in a test's child process; after that the number is fixed.
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A process of tests has a core: with a thread for each, two processes wait for each other's, and 6 s become 130.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
