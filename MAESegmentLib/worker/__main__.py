"""`python -m MAESegmentLib.worker`: the worker process."""

import sys

from .work.serving import main

if __name__ == "__main__":
    sys.exit(main())
