"""What training costs, beside other libraries: `make bench`."""
