"""The panel in 3D Slicer, behind the file MAESegment.py that Slicer looks for. Only here is Qt used."""
