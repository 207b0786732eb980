"""What pytest sets before anything else, for tests and notebooks alike, whichever are asked for.

pyproject.toml loads it as a plugin, since tests/conftest.py does not count in notebooks/.
"""

import os
import signal

os.environ["BERTLIB_PRESET"] = "smoke"  # notebooks run in seconds
os.environ["OMP_NUM_THREADS"] = "2"  # one number of threads everywhere: exact repetition

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # pytest was begun in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
