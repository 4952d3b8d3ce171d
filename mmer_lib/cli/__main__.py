"""``python -m mmer_lib.cli``."""

import sys

from mmer_lib.cli import main

sys.exit(main())
