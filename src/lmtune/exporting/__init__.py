"""What leaves the machine: a finished model, to the Hub."""
