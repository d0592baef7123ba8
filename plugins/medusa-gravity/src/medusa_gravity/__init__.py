"""Which way is up: the direction of gravity in a picture, as Medusa tasks."""
