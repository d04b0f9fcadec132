"""A trained model folder, and files that go through it."""
