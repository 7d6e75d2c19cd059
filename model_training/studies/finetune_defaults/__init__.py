"""Which settings should fine-tuning have that a user never touches?"""
