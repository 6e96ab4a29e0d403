"""Pictures composed from real handwriting: photos, scans and screenshots of one digit, with the faults of real ones."""
