package middleware

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/sampler"
)

// counter counts the spans that started and ended, and those whose body was dropped.
type counter struct{ started, ended, dropped atomic.Int64 }

func (c *counter) OnStart(context.Context, sdktrace.ReadWriteSpan) { c.started.Add(1) }
func (c *counter) OnEnd(s sdktrace.ReadOnlySpan) {
	c.ended.Add(1)
	for _, kv := range s.Attributes() {
		if kv.Key == "meshtrace.body.dropped" {
			c.dropped.Add(1)
		}
	}
}
func (*counter) Shutdown(context.Context) error   { return nil }
func (*counter) ForceFlush(context.Context) error { return nil }

type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// sends returns a function that makes a request whose answer has a body, and what counts
// its spans.
func sends(t *testing.T) (*Tracing, *counter, func() *http.Response) {
	t.Helper()
	c := new(counter)
	tracing, err := Setup(t.Context(), Config{Processors: []sdktrace.SpanProcessor{c}, Getenv: func(name string) string {
		return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tracing.Shutdown(context.Background()) })
	rt := tracing.Transport(answering(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader("answer")), Request: r}, nil
	}))
	return tracing, c, func() *http.Response {
		req, err := http.NewRequestWithContext(context.Background(), "GET", "http://shop.example/", nil)
		if err != nil {
			panic(err)
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			panic(err)
		}
		return resp
	}
}

// held returns how many bodies wait for a garbage collection.
func (bs *bodies) held() (n int) {
	for i := range bs.shards {
		s := &bs.shards[i]
		s.mu.Lock()
		n += len(s.young)
		for j, b := range s.young {
			if b.at != j || b.shard != s {
				panic("a body does not know its place")
			}
		}
		s.mu.Unlock()
	}
	return n
}

// Bodies that are closed in any order leave nothing behind.
func TestBodiesClosed(t *testing.T) {
	tracing, c, send := sends(t)
	var open []*http.Response
	for range 300 {
		open = append(open, send())
	}
	if n := tracing.bodies.held(); n > 300 {
		t.Errorf("%d bodies are held, want 300 at most", n)
	}
	for i := range open {
		r := open[(i*7+3)%len(open)]
		if i%2 == 0 {
			io.Copy(io.Discard, r.Body)
		}
		r.Body.Close()
		r.Body.Close()
		tracing.bodies.held()
	}
	if n := tracing.bodies.held(); n != 0 {
		t.Errorf("%d bodies are held after they were closed", n)
	}
	if s, e, d := c.started.Load(), c.ended.Load(), c.dropped.Load(); s != 300 || e != 300 || d != 0 {
		t.Errorf("%d spans started, %d ended, %d of them dropped, want 300, 300, 0", s, e, d)
	}
}

// A body that outlives garbage collections is no longer held, can still be closed, and
// does not count as dropped.
func TestBodiesAge(t *testing.T) {
	tracing, c, send := sends(t)
	var open []*http.Response
	for range 5 * ageAtOnce * len(tracing.bodies.shards) {
		open = append(open, send())
	}
	collect(t, func() bool { return tracing.bodies.held() == 0 })
	if n := c.ended.Load(); n != 0 {
		t.Errorf("%d spans ended while their bodies were open", n)
	}
	for _, r := range open {
		r.Body.Close()
	}
	for range 3 {
		runtime.GC()
	}
	if e, d := c.ended.Load(), c.dropped.Load(); e != int64(len(open)) || d != 0 {
		t.Errorf("%d spans ended, %d of them dropped, want %d, 0", e, d, len(open))
	}
}

// While the garbage collector runs, bodies are read, closed and dropped on many goroutines:
// each span ends once, those of dropped bodies too.
func TestBodiesDropped(t *testing.T) {
	tracing, c, send := sends(t)
	const goroutines, each = 8, 300
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				r := send()
				switch (g + i) % 3 {
				case 0:
					io.Copy(io.Discard, r.Body)
				case 1:
					r.Body.Close()
				}
				if i%50 == 0 {
					runtime.GC()
				}
			}
		})
	}
	wg.Wait()
	collect(t, func() bool { return c.ended.Load() == goroutines*each })
	if s, e, d := c.started.Load(), c.ended.Load(), c.dropped.Load(); s != goroutines*each || e != s || d != goroutines*each/3 {
		t.Errorf("%d spans started, %d ended, %d of them dropped, want %d, %[4]d, %d", s, e, d, goroutines*each, goroutines*each/3)
	}
	if n := tracing.bodies.held(); n != 0 {
		t.Errorf("%d bodies are held", n)
	}
}

// Of a request whose span the sampler drops there is nothing to watch, so nothing is kept.
func TestDroppedSpanIsNotWatched(t *testing.T) {
	for share, watched := range map[float64]bool{0: false, 100: true} {
		tracing, err := Setup(t.Context(), Config{
			Sampling: sampler.Config{Random: sampler.Percent(share)},
			Getenv:   func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name] },
		})
		if err != nil {
			t.Fatal(err)
		}
		out, c := Outgoing{sent: &http.Request{Method: "GET", URL: &url.URL{Host: "shop.example"}}}, Call{}
		ctx := tracing.startClient(t.Context(), &out, &c, nil)
		if sc := trace.SpanContextFromContext(ctx); !sc.IsValid() || sc.IsSampled() != watched || c.recording() != watched || (out.watched != nil) != watched {
			t.Errorf("share %v: sampled %v, recording %v, watched %v, want %v", share, sc.IsSampled(), c.recording(), out.watched != nil, watched)
		}
		if err := tracing.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// collect runs the garbage collector until done.
func collect(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatal("not done after 20 s of garbage collections")
		}
		runtime.GC()
		runtime.Gosched()
	}
}
