"""``python -m cbnorm`` is ``cbnorm``."""

import sys

from cbnorm.cli import main

if __name__ == "__main__":
    sys.exit(main())
