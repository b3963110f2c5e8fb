"""Symmetric operators on the model's outputs: the loss's own Hessian and the Fisher information of its labels."""
