"""Views: one file for each kind of result, from the result to a sheet of panels."""
