"""What a user does in either panel, and its texts, without any toolkit.

Imports slicer, so it works in Slicer and on slicer-core; never Qt and never torch.
"""
