// Package tally counts what every request does, without letting the processors wait for
// each other: a counter that all of them write is the first thing that does not scale.
//
//	counts := tally.New(4)
//	counts.Add(2, unsafe.Pointer(request)) // the third of four, for this request
//	n := counts.Load(2)
package tally
