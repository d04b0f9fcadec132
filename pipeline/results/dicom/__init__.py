"""Results as DICOM objects that file with the study they were made from: SEG, SR and Secondary Capture."""
