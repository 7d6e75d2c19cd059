"""Does masked pretraining make nnFormer data-efficient?"""
