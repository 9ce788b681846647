"""Where every route stands; bare paths lead there too. All files that have routes import it."""

PREFIX = "/api/v1"
