package tally

import (
	"sync"
	"testing"
	"unsafe"
)

func TestTally(t *testing.T) {
	const counters, goroutines, each = 11, 8, 2000
	n := New(counters)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range each {
				for c := range counters {
					for range c {
						n.Add(c, unsafe.Pointer(new([416]byte)))
					}
				}
				if i%500 == 0 {
					n.Load(counters - 1)
				}
			}
		})
	}
	wg.Wait()
	for c := range counters {
		if got, want := n.Load(c), uint64(c*goroutines*each); got != want {
			t.Errorf("counter %d = %d, want %d", c, got, want)
		}
	}
}

// Two rows share no cache line, wherever the array begins.
func TestRowsApart(t *testing.T) {
	for counters := 1; counters < 40; counters++ {
		n := New(counters)
		if apart := n.stride - counters + 1; apart <= line {
			t.Errorf("%d counters: rows are %d cells apart, want more than %d", counters, apart, line)
		}
	}
}

// Pages that follow each other, as allocations do, use all rows.
func TestSpread(t *testing.T) {
	n := New(1)
	pages := make([]int, len(n.cells)/n.stride)
	for page := range uintptr(4096) {
		pages[part(page<<13, n.bits)]++
	}
	for row, got := range pages {
		if even := 4096 / len(pages); got < even/2 || got > 2*even {
			t.Errorf("row %d has %d of 4096 pages, want about %d", row, got, even)
		}
	}
}

func TestAllocs(t *testing.T) {
	n := New(3)
	var x int
	if got := testing.AllocsPerRun(100, func() { n.Add(1, unsafe.Pointer(&x)); n.Load(1) }); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func BenchmarkAdd(b *testing.B) {
	n := New(8)
	b.RunParallel(func(pb *testing.PB) {
		var mine int
		for pb.Next() {
			n.Add(1, unsafe.Pointer(&mine))
		}
	})
}
