"""The Slicer module MAESegment behind its file MAESegment.py: the logic's parts and the panel. Only here is Qt used."""
