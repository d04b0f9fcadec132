"""Results of inference as files: rows, tables, receipts, pictures, NIfTI and DICOM objects."""
