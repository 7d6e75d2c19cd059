"""The test that runs inside a real Slicer: `run_in_slicer.py`, or Reload and Test in the module."""
