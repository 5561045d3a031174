"""Transaction ids that cross 2^31 and 2^32: nothing is lost, nothing is copied again, and all ids keep rising."""
