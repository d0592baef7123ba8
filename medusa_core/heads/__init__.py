"""Head architectures and the parts to build one. Import the modules: this file stays light."""
