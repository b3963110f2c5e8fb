"""Per-example gradients, their statistics, and conflict between tasks."""
