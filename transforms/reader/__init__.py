"""A DICOM or PNG file to a radiograph, or one reason of a closed list."""
