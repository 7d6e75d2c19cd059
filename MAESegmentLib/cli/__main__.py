"""`python -m MAESegmentLib.cli` is `maesegment`."""

import sys

from .main import main

sys.exit(main())
