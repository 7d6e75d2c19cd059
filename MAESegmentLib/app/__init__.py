"""What a person does with a scene, without any toolkit: Slicer's panel and the browser's are thin on top of this.

Imports slicer, so it works in Slicer and on slicer-core; never Qt and never torch.
"""
