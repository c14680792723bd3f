"""Reading models over documents: windows, controls, selections, gaps, and what is remembered of them."""
