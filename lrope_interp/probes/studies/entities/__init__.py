"""Are increments inside names of another size?"""
