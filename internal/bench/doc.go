// Package bench measures meshtrace beside the libraries that people use today, in one run
// and with the same scenarios for all:
//
//	go test -bench Server                # one group
//	go run ./report -count 10            # all of them, medians, and the README's table
//
// A scenario is a sub-benchmark for each library, BenchmarkServer/sampled/otelhttp, and
// runs in parallel as a server does. Libraries take turns in being first: with
// -reverse they run in the opposite order. Machines differ, so ratios of one run count,
// and the goals are ratios.
package bench
