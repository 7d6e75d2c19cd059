"""From what a user drew on some slices of a scan, or scribbled into it, to the rest of the scan."""
