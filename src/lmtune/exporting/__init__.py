"""Exporting a finished model: to the Hub, or in a format that another program loads."""
