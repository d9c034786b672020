"""``octavo demo``: a corpus that every machine has, compressed, searched three ways, its writer killed."""
