# The scripts do the work: make test is ./scripts/test.
.PHONY: setup develop test check bench initialize build run
setup develop test check bench initialize build run:
	./scripts/$@
