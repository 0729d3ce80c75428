//go:build !race

package propagation

const slower = 1
