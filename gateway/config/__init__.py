"""Configuration: `load.load` reads a HuJSON file into a `model.Config`, or says everything that is wrong with it."""
