"""What handles a store as a whole: checking, backing up, copying, exporting, erasing."""
