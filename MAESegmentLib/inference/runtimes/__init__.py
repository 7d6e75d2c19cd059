"""What runs the network: torch on any device, or OpenVINO on the processor."""
