"""Running configurations over data sets: encode, build, search, measure."""
