"""``python -m pipelines`` is the same as ``sextant``."""

import sys

from pipelines.cli import main

sys.exit(main())
