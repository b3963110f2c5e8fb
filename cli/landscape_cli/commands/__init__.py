"""Every command but the demo, by what it is about; importing this package registers them."""

# in the order in which --help lists them
from landscape_cli.commands import doctor, surfaces, spectra, costs, files  # noqa: I001, F401
