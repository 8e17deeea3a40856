"""What leaves the machine: a finished model, to the Hub or in the form that another program loads."""
