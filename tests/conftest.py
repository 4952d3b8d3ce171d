"""What every test runs under: one thread a process, figures without a screen, no notebook bars."""

from __future__ import annotations

import os
import signal

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch are imported: tests run side by side
os.environ["MPLBACKEND"] = "Agg"
os.environ["TQDM_DISABLE"] = "1"

# A shell starts what goes on in the background with Ctrl-C ignored, which commands inherit: tests
# that stop one would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
