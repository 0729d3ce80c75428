package tracegrpc

import (
	"context"
	"slices"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/metadata"
)

var md = metadata.MD{
	":authority":          {"route:9090"},
	"content-type":        {"application/grpc"},
	"traceparent":         {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	"x-request-id":        {"id"},
	"x-client-trace-id":   {""},
	"x-envoy-force-trace": {"1"},
	"x-many":              {"a", "b"},
}

func TestIncoming(t *testing.T) {
	in := newIncoming(metadata.NewIncomingContext(t.Context(), md))
	for key, want := range map[string][]string{
		"x-request-id": {"id"}, "X-Request-Id": {"id"}, "X-Client-Trace-Id": {""}, "X-Envoy-Force-Trace": {"1"},
		"x-many": {"a", "b"}, "X-Many": {"a", "b"}, "b3": nil,
	} {
		if got := in.Values(key); !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("Values(%q) = %q, want %q", key, got, want)
		}
	}
	if got := in.Get("x-many") + in.Get("none"); got != "a" {
		t.Errorf("Get = %q, want the first value, and empty for none", got)
	}
	in.Set("x-request-id", "other")
	if got := in.Get("x-request-id"); got != "id" {
		t.Errorf("after Set it is %q, want it unchanged", got)
	}
	if got := len(in.Keys()); got != len(md) {
		t.Errorf("%d keys, want %d", got, len(md))
	}
	if got := newIncoming(t.Context()); got != nil {
		t.Errorf("without metadata there is %v, want nil", got)
	}
}

// TestIncomingIsNoCopy holds the shortcut: should gRPC keep metadata in another form,
// this fails, and newIncoming goes on with copies.
func TestIncomingIsNoCopy(t *testing.T) {
	ctx := metadata.NewIncomingContext(t.Context(), md)
	if n := testing.AllocsPerRun(100, func() { newIncoming(ctx) }); n > 2 {
		t.Errorf("newIncoming allocates %v times, want 2: the tap and one value", n)
	}
	in := newIncoming(ctx)
	if n := testing.AllocsPerRun(100, func() {
		in.Values("x-request-id")
		in.Values("b3")
		var c otelprop.TextMapCarrier = in
		c.Get("traceparent")
	}); n != 0 {
		t.Errorf("reading allocates %v times, want 0", n)
	}
}

func TestOutgoing(t *testing.T) {
	out := new(outgoing)
	if ctx := t.Context(); out.into(ctx) != ctx {
		t.Error("without headers the context is another one, want the same")
	}
	for i := range 6 {
		out.Set("k"+string(rune('a'+i)), "1")
	}
	out.Set("ka", "2")
	out.Set("bad key", "1")
	out.Set("", "1")
	out.Set("grpc-timeout", "1S")
	out.Set("kz", "new\nline")
	out.Set("b-bin", "\xff")
	got, _ := metadata.FromOutgoingContext(out.into(t.Context()))
	if len(got) != 7 || got.Get("ka")[0] != "2" || got.Get("b-bin")[0] != "\xff" {
		t.Errorf("metadata = %v, want seven pairs", got)
	}
	if out.Get("kf") != "1" || out.Get("kz") != "" || len(out.Keys()) != 7 {
		t.Errorf("Get, Keys = %q, %q, %q", out.Get("kf"), out.Get("kz"), out.Keys())
	}
}

func TestReplace(t *testing.T) {
	theirs := metadata.MD{"k": {"v"}, "x-b3-traceid": {"old"}, "bad": {"\xff"}}
	h := headers(theirs)
	delete(h, "X-B3-Traceid")
	h.Set("traceparent", "new")
	h.Set("baggage", "\xff")
	got, _ := metadata.FromOutgoingContext(replace(t.Context(), theirs, h))
	want := metadata.MD{"k": {"v"}, "bad": {"\xff"}, "traceparent": {"new"}} // their mistake stays theirs
	if !mapsEqual(got, want) {
		t.Errorf("metadata = %v, want %v", got, want)
	}
}

func mapsEqual(a, b metadata.MD) bool {
	for k, v := range a {
		if !slices.Equal(v, b[k]) {
			return false
		}
	}
	return len(a) == len(b)
}

func TestCacheIsBounded(t *testing.T) {
	var c cache[string]
	built := 0
	build := func(key string) *method { built++; return newMethod(key) }
	for i := range 2 * maxMethods {
		c.get("/s/"+strings.Repeat("m", i%maxMethods+1), build)
	}
	if built != maxMethods {
		t.Errorf("%d methods built for %d keys asked for twice", built, maxMethods)
	}
	c.get("/one/more", build)
	if m := c.get("/one/more", build); m.name != "one/more" || built != maxMethods+2 {
		t.Errorf("beyond the bound: %q, %d built, want it built each time", m.name, built-maxMethods)
	}
	if got := len(*c.m.Load()); got != maxMethods {
		t.Errorf("the cache holds %d, want %d", got, maxMethods)
	}
	if n := testing.AllocsPerRun(100, func() { c.get("/s/m", build) }); n != 0 {
		t.Errorf("a known method costs %v allocations, want 0", n)
	}
}

func FuzzSendable(f *testing.F) {
	f.Add("traceparent", "00-x")
	f.Add("x-bin", "\xff")
	f.Add("Grpc-Timeout", "\n")
	f.Fuzz(func(t *testing.T, key, value string) {
		if !sendable(key, value) {
			return
		}
		if key != strings.ToLower(key) || strings.ContainsAny(key, " :\n\x00") {
			t.Errorf("sendable(%q, %q)", key, value)
		}
		if !strings.HasSuffix(key, "-bin") && strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("sendable(%q, %q)", key, value)
		}
	})
}

func BenchmarkIncoming(b *testing.B) {
	ctx := metadata.NewIncomingContext(context.Background(), md)
	b.ReportAllocs()
	for b.Loop() {
		newIncoming(ctx)
	}
}
