"""What do increments know of concepts?"""
