# The scripts do the work: make test is ./scripts/test.
.PHONY: setup develop test check bench initialize
setup develop test check bench initialize:
	./scripts/$@
