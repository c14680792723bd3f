"""Are the arms of a paired experiment equal?"""
