package tally

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// Tally is a number of counters that many goroutines add to at once. Each has several
// cells, in cache lines of their own, and its sum is the count. Use New.
type Tally struct {
	cells  []atomic.Uint64
	stride int  // from one row of cells to the next
	bits   uint // of the number of a row
}

const (
	line    = 64 / 8 // cells in a cache line
	maxRows = 64
)

// New returns so many counters, all 0.
func New(counters int) *Tally {
	rows := min(maxRows, 1<<bits.Len(uint(4*runtime.GOMAXPROCS(0)-1)))
	stride := (counters+line-1)/line*line + line // a line apart, however the array lies
	return &Tally{
		cells:  make([]atomic.Uint64, rows*stride),
		stride: stride,
		bits:   uint(bits.Len(uint(rows - 1))),
	}
}

// Add adds 1 to a counter for the processor that near is of, see Part.
func (t *Tally) Add(counter int, near unsafe.Pointer) {
	t.cells[part(uintptr(near), t.bits)*t.stride+counter].Add(1)
}

// Part returns one of 1<<bits numbers by an address that tells the processors apart: best
// that of something just allocated, since each of them has pages of its own to allocate
// from; else one of the goroutine's stack. It is not followed.
func Part(near unsafe.Pointer, bits uint) int { return part(uintptr(near), bits) }

func part(near uintptr, bits uint) int {
	const page, golden = 13, 0x9E3779B97F4A7C15
	return int(uint64(near>>page) * golden >> (64 - bits))
}

// Load returns a count. Several are not of one instant.
func (t *Tally) Load(counter int) (n uint64) {
	for i := counter; i < len(t.cells); i += t.stride {
		n += t.cells[i].Load()
	}
	return n
}
