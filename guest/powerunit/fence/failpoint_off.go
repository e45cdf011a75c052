//go:build !failpoints

package main

// failpoint passes a place where a test may break this process: nothing in a release.
func failpoint(string) {}
