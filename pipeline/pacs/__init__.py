"""Archives: receiving by C-STORE, a spool on disk, sending by C-STORE or STOW-RS, and fetching by DICOMweb."""
