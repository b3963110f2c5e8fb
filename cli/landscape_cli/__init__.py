"""The command line of landscape: it parses, calls the public interface, and prints."""
