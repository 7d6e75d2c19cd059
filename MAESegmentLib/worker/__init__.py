"""The worker process that runs the network, and its client. Nothing here knows of Qt; the client needs no torch."""
