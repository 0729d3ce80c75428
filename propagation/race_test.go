//go:build race

package propagation

// slower is how many times slower the race detector may make code that loops.
const slower = 20
