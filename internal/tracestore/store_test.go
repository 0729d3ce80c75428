package tracestore

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// held is the kept requests as strings.
func held(s interface{ list() [][]byte }) []string {
	var out []string
	for _, r := range s.list() {
		out = append(out, string(r))
	}
	return out
}

func TestStore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		max     int64
		add     []string
		want    []string
		evicted uint64
	}{
		{"in order", 1000, []string{"a", "b", "c"}, []string{"a", "b", "c"}, 0},
		{"exactly full", 2 * (overhead + 1), []string{"a", "b"}, []string{"a", "b"}, 0},
		{"the oldest goes", 2 * (overhead + 1), []string{"a", "b", "c"}, []string{"b", "c"}, 1},
		{"a large one pushes several out", 3 * (overhead + 1), []string{"a", "b", "c", strings.Repeat("l", 66)},
			[]string{"c", strings.Repeat("l", 66)}, 2},
		{"larger than all of it", overhead + 3, []string{"abc", "abcd"}, []string{"abc"}, 1},
		{"empty ones are ignored", 1000, []string{"", "a", ""}, []string{"a"}, 0},
		{"no room at all", 0, []string{"a", ""}, nil, 1},
		{"negative", -5, []string{"a"}, nil, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New(tt.max)
			for _, r := range tt.add {
				s.Add([]byte(r))
			}
			if got := held(s); !slices.Equal(got, tt.want) || s.Evicted() != tt.evicted {
				t.Errorf("holds %q, evicted %d; want %q, %d", got, s.Evicted(), tt.want, tt.evicted)
			}
		})
	}
}

// TestStoreCopies: the request stays the caller's.
func TestStoreCopies(t *testing.T) {
	s := New(1000)
	r := []byte("before")
	s.Add(r)
	copy(r, "after!")
	if got := held(s); got[0] != "before" {
		t.Errorf("holds %q after the caller wrote to its slice, want before", got)
	}
}

// TestStoreSnapshot: a range sees what was there when it began, and may stop early.
func TestStoreSnapshot(t *testing.T) {
	s := New(4 * (overhead + 1))
	for _, r := range []string{"a", "b", "c", "d"} {
		s.Add([]byte(r))
	}
	var got []string
	for r := range s.OTLP() {
		s.Add([]byte("x"))
		got = append(got, string(r))
	}
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("range gave %q, want %q", got, want)
	}
	for range s.OTLP() {
		break
	}
}

// TestStoreBound: memory follows the newest requests, not all that ever came.
func TestStoreBound(t *testing.T) {
	s := New(100 * (overhead + 10))
	for i := range 100_000 {
		s.Add(fmt.Appendf(nil, "%010d", i))
	}
	if n := len(s.requests); n != 100 || s.bytes > s.max {
		t.Errorf("holds %d requests of %d bytes, want 100 of at most %d", n, s.bytes, s.max)
	}
	if c := cap(s.requests); c > 1000 {
		t.Errorf("the list has room for %d requests, of which 100 are held", c)
	}
}

func TestStoreConcurrent(t *testing.T) {
	s := New(10_000)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 500 {
				s.Add(bytes.Repeat([]byte{byte('a' + i)}, 100))
				for r := range s.OTLP() {
					if len(r) != 100 || r[0] != r[99] {
						t.Errorf("read %q", r)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if n := len(held(s)); uint64(n)+s.Evicted() != 4000 {
		t.Errorf("held %d + evicted %d, want 4000 together", n, s.Evicted())
	}
}
