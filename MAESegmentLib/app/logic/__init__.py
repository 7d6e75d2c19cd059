"""What the module and the browser do with a scene: segment, keep cases, learn."""
