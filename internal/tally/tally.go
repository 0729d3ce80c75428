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
	shift  uint // of a hash, to have a row
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
		shift:  uint(64 - bits.Len(uint(rows-1))),
	}
}

// Add adds 1 to a counter. near is an address that tells the processors apart: best that
// of something just allocated, since each of them has pages of its own to allocate from;
// else one of the goroutine's stack. It is not followed.
func (t *Tally) Add(counter int, near unsafe.Pointer) {
	t.cells[t.row(uintptr(near))*t.stride+counter].Add(1)
}

// row returns which row an address is for.
func (t *Tally) row(near uintptr) int {
	const page, golden = 13, 0x9E3779B97F4A7C15
	return int(uint64(near>>page) * golden >> t.shift)
}

// Load returns a count. Several are not of one instant.
func (t *Tally) Load(counter int) (n uint64) {
	for i := counter; i < len(t.cells); i += t.stride {
		n += t.cells[i].Load()
	}
	return n
}
