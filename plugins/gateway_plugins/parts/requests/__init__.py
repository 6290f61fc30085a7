"""The way in: reading a client's request (`read_`), and writing what a provider's dialect demands (`to_`)."""
