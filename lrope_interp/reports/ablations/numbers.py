"""Where changes as text used to be; see `kit.changes`."""

from lrope_interp.reports.kit.changes import *  # noqa: F403
