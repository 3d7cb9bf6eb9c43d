"""What neurojit says about itself and this machine; the subcommands of `python -m neurojit`."""
