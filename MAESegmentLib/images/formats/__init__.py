"""One reader and writer per file format; `images.reading` and `images.writing` choose among them."""
