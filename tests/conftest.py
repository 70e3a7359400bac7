"""What every test shares: no network, two CPU devices, no compiled programs or corpora of the user's own, and the same
examples of hypothesis in every run (others: --hypothesis-profile search)."""

import os

from hypothesis import settings

# Read by JAX when it is first imported, here or in a test's child process; after that the number is fixed.
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A process of tests has a core: with a thread for each, two processes wait for each other's, and 6 s become 130.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The examples of a property are of its code alone, so that a change is judged by nothing but itself; and no clock is.
settings.register_profile("search", deadline=None, print_blob=True)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")
