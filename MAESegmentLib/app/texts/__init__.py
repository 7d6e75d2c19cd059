"""What panels say: values in, sentences out."""
