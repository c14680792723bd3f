"""Do increments mark boundaries, and better than what costs nothing?"""
