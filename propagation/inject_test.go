package propagation

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/requestid"
)

func TestInject(t *testing.T) {
	sampled := remote(t, traceHex, spanHex, 1, "a=1,b=2").WithRemote(false)
	unsampled := remote(t, traceHex, spanHex, 2, "").WithRemote(false)
	all := []Format{TraceContext, B3, B3Multi, Baggage}
	for _, tt := range []struct {
		name  string
		cfg   Config
		sc    trace.SpanContext
		state *reqctx.State
		bag   baggage.Baggage
		had   http.Header
		want  http.Header
	}{
		{name: "nothing", want: headerSet()},
		{name: "W-8 traceparent", sc: sampled, want: headerSet("traceparent", traceparent, "tracestate", "a=1,b=2")},
		{name: "W-9 no empty tracestate", sc: unsampled, want: headerSet("traceparent", traceparent[:53]+"02")},
		{name: "no format", cfg: Config{Inject: []Format{}}, sc: sampled, had: headerSet("b3", "0"), want: headerSet("b3", "0")},
		{name: "all", cfg: Config{Inject: all}, sc: sampled, bag: bag(t, "k", "v\n"),
			want: headerSet("traceparent", traceparent, "tracestate", "a=1,b=2", "b3", b3, "x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-sampled", "1", "baggage", "k=v%0A")},
		{name: "not sampled", cfg: Config{Inject: []Format{B3, B3Multi}}, sc: unsampled,
			want: headerSet("b3", b3[:49]+"-0", "x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-sampled", "0")},

		{name: "debug", cfg: Config{Inject: []Format{B3, B3Multi}}, sc: sampled, state: &reqctx.State{Sampling: uint8(Debug)},
			want: headerSet("b3", b3[:49]+"-d", "x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-flags", "1")},
		{name: "debug that was refused", cfg: Config{Inject: []Format{B3, B3Multi}}, sc: unsampled, state: &reqctx.State{Sampling: uint8(Debug)},
			want: headerSet("b3", b3[:49]+"-0", "x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-sampled", "0")},
		{name: "deferred: the span's flag counts", cfg: Config{Inject: []Format{B3, B3Multi}}, sc: sampled, state: &reqctx.State{Sampling: uint8(Deferred)},
			want: headerSet("b3", b3, "x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-sampled", "1")},
		{name: "deferred, nobody decided", cfg: Config{Inject: []Format{B3, B3Multi}}, sc: unsampled.WithRemote(true), state: &reqctx.State{Sampling: uint8(Deferred)},
			want: headerSet("b3", b3[:49], "x-b3-traceid", traceHex, "x-b3-spanid", spanHex)},
		{name: "deny without ids", cfg: Config{Inject: all}, state: &reqctx.State{Sampling: uint8(Deny)}, want: headerSet("b3", "0", "x-b3-sampled", "0")},
		{name: "accept without ids", cfg: Config{Inject: all}, state: &reqctx.State{Sampling: uint8(Accept)}, want: headerSet("b3", "1", "x-b3-sampled", "1")},
		{name: "debug without ids", cfg: Config{Inject: all}, state: &reqctx.State{Sampling: uint8(Debug)}, want: headerSet("b3", "d", "x-b3-flags", "1")},
		{name: "deferred without ids", cfg: Config{Inject: all}, state: &reqctx.State{Sampling: uint8(Deferred)}, want: headerSet()},

		{name: "B-13 stale formats go", sc: unsampled,
			had:  headerSet("b3", "x", "x-b3-traceid", "x", "x-b3-spanid", "x", "x-b3-parentspanid", "x", "x-b3-sampled", "x", "x-b3-flags", "x", "tracestate", "old=1", "baggage", "k=v", "accept", "*/*"),
			want: headerSet("traceparent", traceparent[:53]+"02", "baggage", "k=v", "accept", "*/*")},
		{name: "B-13 not without a span context", had: headerSet("b3", "x", "tracestate", "old=1"), want: headerSet("b3", "x", "tracestate", "old=1")},
		{name: "what is not read is not removed", cfg: Config{Extract: []Format{TraceContext}}, sc: unsampled, had: headerSet("b3", "x"),
			want: headerSet("b3", "x", "traceparent", traceparent[:53]+"02")},
		{name: "B-13 x-b3-* as a whole", cfg: Config{Inject: []Format{B3Multi}}, sc: sampled,
			had:  headerSet("x-b3-traceid", "x", "x-b3-spanid", "x", "x-b3-parentspanid", "x", "x-b3-sampled", "x", "x-b3-flags", "1", "traceparent", "x", "tracestate", "x"),
			want: headerSet("x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-sampled", "1")},
		{name: "x-b3-* without ids", cfg: Config{Inject: []Format{B3Multi}}, state: &reqctx.State{Sampling: uint8(Debug)},
			had:  headerSet("x-b3-traceid", "x", "x-b3-spanid", "x", "x-b3-parentspanid", "x", "x-b3-sampled", "x"),
			want: headerSet("x-b3-flags", "1")},

		{name: "request id", state: &reqctx.State{RequestID: requestUUID, HasClientTraceID: true, ClientTraceID: "c"},
			want: headerSet("x-request-id", requestUUID, "x-client-trace-id", "c")},
		{name: "D-11 empty client id goes on", state: &reqctx.State{HasClientTraceID: true}, want: headerSet("x-client-trace-id", "")},
		{name: "NoRequestID", cfg: Config{NoRequestID: true}, state: &reqctx.State{RequestID: requestUUID, HasClientTraceID: true}, want: headerSet()},
		{name: "an id of the caller stays", state: &reqctx.State{RequestID: requestUUID, HasClientTraceID: true, ClientTraceID: "c"},
			had: headerSet("x-request-id", "mine", "x-client-trace-id", "mine"), want: headerSet("x-request-id", "mine", "x-client-trace-id", "mine")},
		{name: "an empty id of the caller does not", state: &reqctx.State{RequestID: requestUUID}, had: headerSet("x-request-id", ""), want: headerSet("x-request-id", requestUUID)},
		{name: "RID-12 the same id with another digit", state: &reqctx.State{RequestID: requestUUID},
			had: headerSet("x-request-id", requestUUID[:14]+"9"+requestUUID[15:]), want: headerSet("x-request-id", requestUUID)},
		{name: "control bytes in ids", state: &reqctx.State{RequestID: "a\r\nb", HasClientTraceID: true, ClientTraceID: "\x7f"}, want: headerSet()},
		{name: "RID-3 other bytes in an id", state: &reqctx.State{RequestID: "mön id"}, want: headerSet("x-request-id", "mön id")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			if tt.state != nil {
				tt.state.Context = ctx
				ctx = tt.state
			}
			if tt.sc.IsValid() {
				ctx = trace.ContextWithSpanContext(ctx, tt.sc)
			}
			ctx = baggage.ContextWithBaggage(ctx, tt.bag)
			p := mustNew(t, tt.cfg)

			got := tt.had.Clone()
			if got == nil {
				got = http.Header{}
			}
			p.Inject(ctx, otelprop.HeaderCarrier(got))
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Inject into a HeaderCarrier: %v, want %v", got, tt.want)
			}

			m, want := otelprop.MapCarrier{}, otelprop.MapCarrier{}
			for k := range tt.had {
				m[strings.ToLower(k)] = tt.had.Get(k)
			}
			for k := range tt.want {
				want[strings.ToLower(k)] = tt.want.Get(k)
			}
			p.Inject(ctx, m)
			if !reflect.DeepEqual(m, want) {
				t.Errorf("Inject into a MapCarrier: %v, want %v", m, want)
			}

			fields := p.Fields()
			for k := range m {
				if _, had := tt.had[http.CanonicalHeaderKey(k)]; !had && !slices.Contains(fields, k) {
					t.Errorf("Inject set %s, which is not in Fields() = %q", k, fields)
				}
			}
		})
	}
}

func TestInjectDigit(t *testing.T) {
	s := &reqctx.State{Context: t.Context(), RequestID: requestUUID}
	s.SetDecision(reqctx.Decision{Traced: true, Write: true, Reason: uint8(requestid.Sampling)})
	want := requestUUID[:14] + "9" + requestUUID[15:]
	for _, had := range []string{"", requestUUID, want} {
		out := headerSet("x-request-id", had)
		RequestID().Inject(s, otelprop.HeaderCarrier(out))
		if got := out.Get("x-request-id"); got != want {
			t.Errorf("over %q the id %q is written, want %q with the digit of the decision", had, got, want)
		}
	}
}

func TestInjectNilCarrier(t *testing.T) {
	ctx := trace.ContextWithSpanContext(t.Context(), remote(t, traceHex, spanHex, 1, ""))
	p := mustNew(t, Config{})
	p.Inject(ctx, nil)
	p.Inject(ctx, otelprop.HeaderCarrier(nil))
	p.Inject(ctx, otelprop.MapCarrier(nil))
}

// TestInjectSharesNothing holds that the values of two headers, which share an array,
// cannot be appended into one another, and that a header's old slice is left alone.
func TestInjectSharesNothing(t *testing.T) {
	s := &reqctx.State{Context: t.Context(), RequestID: requestUUID}
	ctx := trace.ContextWithSpanContext(s, remote(t, traceHex, spanHex, 1, ""))
	old := []string{"old"}
	out := http.Header{"Traceparent": old}
	mustNew(t, Config{}).Inject(ctx, otelprop.HeaderCarrier(out))
	out.Add("Traceparent", "more")
	if got := out.Get("X-Request-Id"); got != requestUUID {
		t.Errorf("x-request-id = %q after an Add to another header", got)
	}
	if old[0] != "old" {
		t.Errorf("Inject wrote into the slice that was there: %q", old)
	}
}
