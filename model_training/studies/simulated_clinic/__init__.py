"""How good is a model after 1, 2, 4 and 8 corrected scans?"""
