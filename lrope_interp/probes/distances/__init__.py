"""How far apart a model takes the words of a text to be."""
