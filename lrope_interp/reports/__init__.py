"""Results become plotly figures, and figures one self-contained page; no torch, no models."""
