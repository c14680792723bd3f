"""Are definitions and their uses drawn together?"""
