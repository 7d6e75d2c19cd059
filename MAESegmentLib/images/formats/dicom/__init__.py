"""DICOM series, DICOM SEG and RTSTRUCT."""
