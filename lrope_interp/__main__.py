"""``python -m lrope_interp`` is ``lrope-interp``."""

from lrope_interp.cli import main

if __name__ == "__main__":
    main()
