//go:build !race

package middleware_test

// raced tells that the race detector is on: it makes sync.Pool drop at random.
const raced = false
