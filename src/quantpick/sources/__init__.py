"""Where a Model comes from: the embedded catalog, or a live repo on the Hub."""
