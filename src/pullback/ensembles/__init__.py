"""The data contract: fields, files, sets for training, scaling."""
