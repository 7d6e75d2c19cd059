"""What is learnt from: corrected cases in a store, and data sets of any layout."""
