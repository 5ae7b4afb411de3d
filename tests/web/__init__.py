"""Rules of the HTTP manners all edges share."""
