package respwriter

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// full has every optional interface and records the calls.
type full struct {
	header http.Header
	calls  []string
	body   strings.Builder
}

func (f *full) call(name string) { f.calls = append(f.calls, name) }

func (f *full) Header() http.Header         { return f.header }
func (f *full) Write(p []byte) (int, error) { f.call("Write"); return f.body.Write(p) }
func (f *full) WriteHeader(int)             { f.call("WriteHeader") }
func (f *full) Flush()                      { f.call("Flush") }
func (f *full) FlushError() error           { f.call("FlushError"); return nil }
func (f *full) CloseNotify() <-chan bool    { f.call("CloseNotify"); return nil }
func (f *full) Push(target string, _ *http.PushOptions) error {
	f.call("Push " + target)
	return nil
}
func (f *full) ReadFrom(src io.Reader) (int64, error) {
	f.call("ReadFrom")
	return io.Copy(&f.body, src)
}
func (f *full) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	f.call("Hijack")
	return nil, nil, nil
}

// TestShapes takes each shape in turn as the writer below, so that each set of
// interfaces is seen from both sides.
func TestShapes(t *testing.T) {
	if got := len(shapes); got != 32 {
		t.Fatalf("%d shapes, want one for each of 32 sets", got)
	}
	for set := range shapes {
		below := shapes[set](writer{&Recorder{w: &full{header: http.Header{}}}})
		if got := optional(below); got != uint(set) {
			t.Fatalf("shape %05b has the interfaces %05b", set, got)
		}
		rec := new(Recorder)
		rec.Init(below)
		if got := optional(rec.Wrap()); got != uint(set) {
			t.Errorf("Wrap over %05b has the interfaces %05b", set, got)
		}
	}
}

func TestShapesForward(t *testing.T) {
	for set := range shapes {
		below := &full{header: http.Header{}}
		rec := new(Recorder)
		rec.Init(below)
		w := shapes[set](writer{rec})
		var want []string
		//lint:ignore SA1019 what is forwarded has to be called
		if c, ok := w.(http.CloseNotifier); ok {
			c.CloseNotify()
			want = append(want, "CloseNotify")
		}
		if p, ok := w.(http.Pusher); ok {
			if err := p.Push("/x", nil); err != nil {
				t.Errorf("shape %05b: Push: %v", set, err)
			}
			want = append(want, "Push /x")
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
			want = append(want, "Flush")
		}
		if r, ok := w.(io.ReaderFrom); ok {
			w.WriteHeader(http.StatusOK)
			if n, err := r.ReadFrom(strings.NewReader("abc")); n != 3 || err != nil {
				t.Errorf("shape %05b: ReadFrom = %d, %v, want 3, nil", set, n, err)
			}
			want = append(want, "WriteHeader", "ReadFrom")
		}
		if h, ok := w.(http.Hijacker); ok {
			if _, _, err := h.Hijack(); err != nil || !rec.Hijacked() {
				t.Errorf("shape %05b: Hijack = %v, Hijacked = %v, want nil, true", set, err, rec.Hijacked())
			}
			want = append(want, "Hijack")
		}
		if !slices.Equal(below.calls, want) {
			t.Errorf("shape %05b: calls below = %q, want %q", set, below.calls, want)
		}
	}
}

// TestFlushError covers the ways down to a flusher; ResponseController takes the
// same ones.
func TestFlushError(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, tt := range []struct {
		name  string
		below http.ResponseWriter
		err   error
		code  int
	}{
		{"FlushError", flushErrorer{&full{header: http.Header{}}, broken}, broken, 200},
		{"Flush", flushOnly{&full{header: http.Header{}}}, nil, 200},
		{"through Unwrap", unwrapper{flushErrorer{&full{header: http.Header{}}, broken}}, broken, 200},
		{"none", bare{&full{header: http.Header{}}}, http.ErrNotSupported, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := new(Recorder)
			rec.Init(tt.below)
			err := http.NewResponseController(rec.Wrap()).Flush()
			if !errors.Is(err, tt.err) || rec.Status() != tt.code {
				t.Errorf("Flush() = %v, Status() = %d, want %v, %d", err, rec.Status(), tt.err, tt.code)
			}
		})
	}
}

type bare struct{ f *full }

func (b bare) Header() http.Header         { return b.f.Header() }
func (b bare) Write(p []byte) (int, error) { return b.f.Write(p) }
func (b bare) WriteHeader(code int)        { b.f.WriteHeader(code) }

type flushOnly struct{ *full }

func (flushOnly) FlushError() {} // not the method that is looked for

type flushErrorer struct {
	*full
	err error
}

func (f flushErrorer) FlushError() error { return f.err }

type unwrapper struct{ w http.ResponseWriter }

func (u unwrapper) Header() http.Header         { return u.w.Header() }
func (u unwrapper) Write(p []byte) (int, error) { return u.w.Write(p) }
func (u unwrapper) WriteHeader(code int)        { u.w.WriteHeader(code) }
func (u unwrapper) Unwrap() http.ResponseWriter { return u.w }

// discard keeps nothing and does not allocate.
var discard = silent{header: http.Header{}}

type silent struct{ header http.Header }

func (s silent) Header() http.Header         { return s.header }
func (s silent) Write(p []byte) (int, error) { return len(p), nil }
func (s silent) WriteHeader(int)             {}
func (s silent) Flush()                      {}

func TestAllocations(t *testing.T) {
	req := &struct{ Recorder }{}
	var below http.ResponseWriter = discard
	p := []byte("x")
	if n := testing.AllocsPerRun(100, func() {
		req.Init(below)
		w := req.Wrap()
		w.WriteHeader(http.StatusOK)
		w.Write(p)
		w.(http.Flusher).Flush()
		req.Finish()
	}); n != 0 {
		t.Errorf("a request costs %v allocations, want 0", n)
	}
}
