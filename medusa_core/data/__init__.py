"""Reading samples and moving them through geometry. Import the modules: this file stays light."""
