package exporter

import (
	"testing"
	"time"
)

// OnEnd allocates nothing for a span: a slab now and then, shared by hundreds of
// spans, and not even that once slabs come back.
func TestOnEndAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget")
	}
	s := tenAttributes(t)
	e := newBench(t)
	for range 1000 {
		e.OnEnd(s)
	}
	if n := testing.AllocsPerRun(20000, func() { e.OnEnd(s) }); n != 0 {
		t.Errorf("OnEnd allocates %v times", n)
	}
	if st := e.Stats(); !st.Balanced() || st.Dropped[DropQueueFull] != 0 {
		t.Errorf("%+v", st)
	}
}

// After a burst the queue holds one slab; the rest is the garbage collector's.
func TestMemoryIsGivenBack(t *testing.T) {
	e := newBench(t)
	s := tenAttributes(t)
	for range 50000 {
		e.OnEnd(s)
	}
	if err := e.ForceFlush(withTimeout(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		e.mu.Lock()
		n := e.queue.bytes
		e.mu.Unlock()
		if n <= int64(e.queue.slabSize) {
			return
		}
	}
	t.Errorf("the empty queue holds %d bytes", e.queue.bytes)
}
