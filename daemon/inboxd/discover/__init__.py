"""From a mail address to the servers to use."""
