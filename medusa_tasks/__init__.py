"""The first-party tasks and data sets, registered like any other plugin."""
