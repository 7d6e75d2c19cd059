"""What a network should have learnt before it meets a new anatomy: nothing, to reconstruct, to segment, or both."""
