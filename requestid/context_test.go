package requestid

import (
	"context"
	"testing"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

const (
	plain  = ID("125a4afb-6f55-44ba-ad80-413f09f48a28")
	nine   = ID("125a4afb-6f55-94ba-ad80-413f09f48a28")
	second = ID("f4dca0a9-12c7-4307-8002-969403baf480")
)

func TestContextWithout(t *testing.T) {
	if got := FromContext(t.Context()); got != "" {
		t.Errorf("FromContext = %q, want none", got)
	}
	if got, ok := ClientTraceID(t.Context()); ok {
		t.Errorf("ClientTraceID = %q, true", got)
	}
}

func TestNewContext(t *testing.T) {
	type key struct{}
	base := context.WithValue(t.Context(), key{}, "kept")
	ctx := NewContext(base, plain)
	if got := FromContext(ctx); got != plain {
		t.Errorf("FromContext = %q, want %q", got, plain)
	}
	if ctx.Value(key{}) != "kept" {
		t.Error("NewContext lost a value of its parent")
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	child := NewContext(ctx, second)
	if child.Err() == nil || FromContext(child) != second || FromContext(ctx) != plain {
		t.Errorf("child: Err %v, id %q; parent: id %q", child.Err(), FromContext(child), FromContext(ctx))
	}
	if got := FromContext(NewContext(ctx, "")); got != "" {
		t.Errorf("FromContext after NewContext of no id = %q", got)
	}
}

func TestNewContextKeepsTheRequest(t *testing.T) {
	around := &reqctx.State{
		Context: t.Context(), RequestID: string(plain),
		ClientTraceID: "", HasClientTraceID: true, ForceTrace: true,
	}
	ctx := NewContext(around, second)
	if v, ok := ClientTraceID(ctx); v != "" || !ok {
		t.Errorf("ClientTraceID = %q, %v, want \"\", true (D-11)", v, ok)
	}
	if !reqctx.From(ctx).ForceTrace {
		t.Error("x-envoy-force-trace is lost")
	}
	// A decision reaches both, whoever makes it.
	reqctx.From(ctx).SetDecision(reqctx.Decision{Traced: true, Write: true, Reason: uint8(Sampling)})
	if got := FromContext(around); got != nine {
		t.Errorf("FromContext of the surrounding request = %q, want %q", got, nine)
	}
	if got, want := FromContext(ctx), second.WithReason(Sampling); got != want {
		t.Errorf("FromContext = %q, want %q", got, want)
	}
	reqctx.From(ctx).SetRoute("/r")
	if around.Route() != "/r" {
		t.Error("a route set inside does not reach the request")
	}
}

func TestNewContextTakesTheMark(t *testing.T) {
	around := &reqctx.State{Context: t.Context(), RequestID: string(nine)}
	around.SetDecision(reqctx.Decision{Traced: true, Reason: uint8(Sampling)}) // D-6: nothing to write
	if got, want := FromContext(NewContext(around, second)), second.WithReason(Sampling); got != want {
		t.Errorf("FromContext = %q, want %q", got, want)
	}
}

func TestFromContextWritesTheDecision(t *testing.T) {
	for _, c := range []struct {
		name string
		id   ID
		d    *reqctx.Decision
		want ID
	}{
		{"undecided", plain, nil, plain},
		{"nothing to write", plain, &reqctx.Decision{Traced: true, Reason: uint8(Sampling)}, plain},
		{"D-9", plain, &reqctx.Decision{Traced: true, Write: true, Reason: uint8(Sampling)}, nine},
		{"D-10", nine, &reqctx.Decision{Write: true, Reason: uint8(NotTraceable)}, plain},
		{"already there", nine, &reqctx.Decision{Traced: true, Write: true, Reason: uint8(Sampling)}, nine},
		{"RID-12", "125a4afb", &reqctx.Decision{Traced: true, Write: true, Reason: uint8(Sampling)}, "125a4afb"},
		{"no id", "", &reqctx.Decision{Traced: true, Write: true, Reason: uint8(Sampling)}, ""},
	} {
		s := &reqctx.State{Context: t.Context(), RequestID: string(c.id)}
		if c.d != nil {
			s.SetDecision(*c.d)
		}
		if got := FromContext(s); got != c.want {
			t.Errorf("%s: FromContext = %q, want %q", c.name, got, c.want)
		}
	}
}

func TestContextAllocs(t *testing.T) {
	carried := &reqctx.State{Context: t.Context(), RequestID: string(nine)}
	carried.SetDecision(reqctx.Decision{Traced: true, Write: true, Reason: uint8(Sampling)})
	pending := &reqctx.State{Context: t.Context(), RequestID: string(plain)}
	pending.SetDecision(reqctx.Decision{Traced: true, Write: true, Reason: uint8(Sampling)})
	base := t.Context()
	for _, c := range []struct {
		name string
		want float64
		f    func()
	}{
		{"FromContext, none", 0, func() { sinkID = FromContext(base) }},
		{"FromContext, as it stands", 0, func() { sinkID = FromContext(carried) }},
		{"FromContext, digit to write", 1, func() { sinkID = FromContext(pending) }},
		{"ClientTraceID", 0, func() { _, sinkBool = ClientTraceID(carried) }},
		{"NewContext", 1, func() { sinkCtx = NewContext(base, plain) }},
	} {
		if got := testing.AllocsPerRun(100, c.f); got != c.want {
			t.Errorf("%s: %v allocations, want %v", c.name, got, c.want)
		}
	}
}

var sinkCtx context.Context
