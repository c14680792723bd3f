"""What is lost when increments are frozen or changed?"""
