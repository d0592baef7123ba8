"""Training, caching, evaluating. Import the modules: this file stays light."""
