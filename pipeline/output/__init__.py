"""Pictures and volumes that are made of results."""
